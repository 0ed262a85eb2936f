"""Split a corpus into training, validation and test rows, and check that nothing leaks."""
