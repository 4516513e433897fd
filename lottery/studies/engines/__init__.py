"""Engines: where the cells of a study are trained."""

from lottery.studies.engines.engine import Ended, Engine, Job
from lottery.studies.engines.local import LocalEngine

__all__ = ["Ended", "Engine", "Job", "LocalEngine"]
