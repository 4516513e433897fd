"""Studies: a recipe over seeds and controls, trained anywhere, and what it shows."""

from lottery.study.begin import planned, prepare, run_study
from lottery.study.study import Study

__all__ = ["Study", "planned", "prepare", "run_study"]
