"""How to spend a budget of epochs: rounds and epochs per round for a target density."""

from lottery.studies.planner.candidate import Candidate
from lottery.studies.planner.measured import Measured
from lottery.studies.planner.plan import Plan, plan

__all__ = ["Candidate", "Measured", "Plan", "plan"]
