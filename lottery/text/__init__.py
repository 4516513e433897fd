"""Words, numbers and tables for a terminal."""
