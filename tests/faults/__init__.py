"""Faults injected into real trainings: each file operation fails, is cut short or delayed, or the process dies there.

`python -m tests.faults --count 200` injects as many, over all kinds of run, and prints a table; see `--help`.
"""
