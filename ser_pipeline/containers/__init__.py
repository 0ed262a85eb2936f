"""Read the length that audio containers declare, and check it against their bytes."""
