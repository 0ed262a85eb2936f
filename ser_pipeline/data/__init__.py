"""Stores to batches on the device."""
