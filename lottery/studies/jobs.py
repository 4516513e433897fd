"""What trains the cells of a study: one machine, or many."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Job:
    """One training, or one run of many rounds.

    Args:
        key: the directory of the cell within the study, such as "reinit/seed-3/round-07".
        study: absolute path of the study, on a file system that every worker sees.
    """

    key: str
    study: str


@dataclass(frozen=True)
class Ended:
    """A job that ended.

    Args:
        job: the job.
        error: why it is not done, in a few lines; None where it is.
    """

    job: Job
    error: str | None


_LONGEST = 4000  # characters of an error that travel; the log beside the cell has all


def reason(error: BaseException) -> str:
    """An error in a few lines, fit to be stored and shown anywhere.

    Example:
        >>> reason(ValueError("no \\ud800 such"))
        'ValueError: no \\\\ud800 such'
    """
    cause = error.__context__
    if isinstance(error, SystemExit) and isinstance(cause, KeyboardInterrupt):  # what Lightning makes of it
        error = cause
    said = "".join(traceback.format_exception_only(type(error), error)).strip()
    plain = said.encode("utf-8", "backslashreplace").decode()
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]} ... ({len(plain):,} characters)"


class Engine(Protocol):
    """Runs jobs, each by `lottery.studies.cell.perform`, in processes of its own."""

    @property
    def slots(self) -> int:
        """How many jobs it runs at once; the driver never starts more."""

    def start(self, job: Job) -> None:
        """Begin a job; returns at once."""

    def wait(self, seconds: float) -> list[Ended]:
        """The jobs that ended; waits at most so long for the first."""

    def close(self) -> None:
        """End what still runs."""
