"""Engines: where the cells of a study are trained."""

from lottery.studies.engines.local import LocalEngine
from lottery.studies.jobs import Ended, Engine, Job

__all__ = ["Ended", "Engine", "Job", "LocalEngine"]
