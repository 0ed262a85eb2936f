"""Stage 2: features to runs."""
