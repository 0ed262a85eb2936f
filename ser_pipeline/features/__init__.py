"""Stage 1: audio to stores of features."""
