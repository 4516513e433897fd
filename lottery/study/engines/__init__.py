"""Engines: where the cells of a study are trained."""

from lottery.study.engines.engine import Ended, Engine, Job
from lottery.study.engines.local import LocalEngine

__all__ = ["Ended", "Engine", "Job", "LocalEngine"]
