"""How to spend a budget of epochs: rounds and epochs per round for a target density."""

from lottery.planner.candidate import Candidate
from lottery.planner.measured import Measured
from lottery.planner.plan import Plan, plan

__all__ = ["Candidate", "Measured", "Plan", "plan"]
