"""Scores, intervals and tests; numpy alone."""
