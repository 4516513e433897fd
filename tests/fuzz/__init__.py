"""Files that a stranger may have made, read by all that read them: `python -m tests.fuzz READER --minutes 30`."""
