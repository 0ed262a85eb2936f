"""Stage 2: train models on features, and write runs."""
