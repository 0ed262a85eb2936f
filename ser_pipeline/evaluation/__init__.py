"""Scores, confidence intervals and significance tests, without torch."""
