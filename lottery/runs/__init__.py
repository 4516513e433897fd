"""A run directory, read."""
