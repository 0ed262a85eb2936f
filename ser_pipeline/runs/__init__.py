"""Writing and reading of a run's folder, which stage 2 writes and stage 3 reads."""
