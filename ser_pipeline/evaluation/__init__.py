"""Scores, intervals and tests, in numpy alone."""
