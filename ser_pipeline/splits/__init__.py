"""Who trains, validates and tests, and the proof that nothing leaks."""
