"""A cell trained by a process that did not grow from the driver's, perhaps on another machine."""

from __future__ import annotations

import os
import socket
import sys
import time
from dataclasses import dataclass

from lottery.storage.directory import Directory
from lottery.studies.cell import perform
from lottery.studies.jobs import Job, reason

PATIENCE = 60.0  # seconds in which a dead node's or driver's work should have ended


@dataclass(frozen=True)
class Surroundings:
    """What a recipe's relative paths, and modules of its own, are found from.

    Attributes:
        directory: the working directory.
        path: where Python looks for modules, beside its own library and packages.
    """

    directory: str
    path: tuple[str, ...]

    @classmethod
    def here(cls) -> Surroundings:
        """Those of this process."""
        own = sys.prefix, sys.base_prefix
        path = (os.path.abspath(entry) for entry in sys.path)
        return cls(os.getcwd(), tuple(p for p in path if not p.startswith(own)))


def perform_elsewhere(job: Job, surroundings: Surroundings) -> str | None:
    """Train a cell as `perform` does, in the driver's surroundings.

    An earlier try may still hold the cell, because its node was cut off before its process ended; it gets a minute.

    Returns:
        What went wrong, or None.
    """
    try:
        for directory in surroundings.directory, job.study:
            if not os.path.isdir(directory):
                raise FileNotFoundError(
                    f"{socket.gethostname()} has no directory {directory}; every machine of a study must see the"
                    " driver's working directory and the study under the same paths"
                )
        os.chdir(surroundings.directory)
        sys.path.extend(p for p in surroundings.path if p not in sys.path)
        run = Directory(os.path.join(job.study, job.key))
        patience = time.monotonic() + PATIENCE
        while run.in_use and time.monotonic() < patience:
            time.sleep(0.2)
        perform(job)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 (whatever it is, the driver reports it)
        return reason(error)
    return None
