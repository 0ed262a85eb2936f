"""Benchmarks behind the documented speed figures; each file says what it measures."""
