"""The cache of features, which stage 1 writes and stage 2 reads."""
