"""Studies: a recipe over seeds and controls, trained anywhere, and what it shows."""

from lottery.study.study import Study, prepare, run_study

__all__ = ["Study", "prepare", "run_study"]
