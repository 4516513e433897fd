"""Studies: a recipe over seeds and controls, trained anywhere, and what it shows: is it a winning ticket?"""

from lottery.studies.begin import planned, prepare, run_study
from lottery.studies.engines import LocalEngine
from lottery.studies.engines.ray import RayEngine
from lottery.studies.engines.slurm import SlurmEngine
from lottery.studies.evaluation import Evaluation
from lottery.studies.evidence import Evidence
from lottery.studies.study import Study

__all__ = [
    "Evaluation",
    "Evidence",
    "LocalEngine",
    "RayEngine",
    "SlurmEngine",
    "Study",
    "planned",
    "prepare",
    "run_study",
]
