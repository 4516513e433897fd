"""Brings a study to its end: starts what can be started, takes note of what ended, tries again what failed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from lottery import storage
from lottery.storage.directory import Directory, StorageError
from lottery.studies.cell import finished_rounds, is_done
from lottery.studies.jobs import Ended, Engine, Job
from lottery.studies.plan import TICKET, Cell, Plan

ATTEMPTS = 3
PAUSE = 1.0  # seconds between two looks at the cells


@dataclass
class Progress:
    """Where a study stands.

    Args:
        cells: all cells, in the order in which they are trained.
        done: those that are done.
        running: those that this driver has started.
        failed: those that were given up, with the last error.
    """

    cells: list[Cell]
    done: set[Cell] = field(default_factory=set)
    running: set[Cell] = field(default_factory=set)
    failed: dict[Cell, str] = field(default_factory=dict)

    @property
    def left(self) -> list[Cell]:
        """What is neither done nor given up nor running."""
        over = self.done | self.running | self.failed.keys()
        return [cell for cell in self.cells if cell not in over]


def drive(
    path: Path,
    plan: Plan,
    engine: Engine,
    attempts: int = ATTEMPTS,
    show: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Train what is not done yet.

    A cell waits for the round of the ticket that it is made from, and for processes that work on it already. One that
    fails is tried again, from where it stood; after so many attempts it is given up, and with a ticket's run the cells
    that wait for it. The reason is stored beside the cell, in a file that ends in ``.failed``.

    Args:
        path: the study.
        plan: its plan.
        engine: trains the cells.
        attempts: how often a cell is tried.
        show: called whenever something changed, and every second.

    Returns:
        What is done and what failed.

    Raises:
        ValueError: cells are to be tried less than once.
    """
    check_attempts(attempts)
    progress = Progress(list(plan.cells()))
    tries: dict[Cell, int] = {}
    _note_done(progress, path, plan)
    try:
        while progress.left or progress.running:
            free = max(engine.slots - len(progress.running), 0)
            for cell in islice(_startable(progress, path), free):
                engine.start(Job(cell.key, str(path.resolve())))
                progress.running.add(cell)
            if not progress.running and _give_up_waiting(progress, path):
                continue
            show(progress)
            if progress.running:
                for ended in engine.wait(PAUSE):
                    _take_note(ended, progress, tries, path, attempts)
            else:  # others work on what is left
                time.sleep(PAUSE)
                _note_done(progress, path, plan)
        show(progress)
    finally:
        engine.close()
    return progress


def check_attempts(attempts: int) -> None:
    """Make sure that cells are tried once at least.

    Raises:
        ValueError: they are not.
    """
    if attempts < 1:
        raise ValueError(f"attempts={attempts} must be 1 or more: how often a training is tried")


def failure_file(path: Path, cell: Cell) -> Path:
    """Where the reason stands why a cell was given up."""
    return path / f"{cell.key}.failed"


def standing(path: Path, plan: Plan) -> Progress:
    """What of a plan is done, and what was given up."""
    progress = Progress(list(plan.cells()))
    _note_done(progress, path, plan)
    for cell in progress.left:
        failure = failure_file(path, cell)
        if failure.exists():
            progress.failed[cell] = failure.read_text().strip()
    return progress


def _note_done(progress: Progress, path: Path, plan: Plan) -> None:
    for cell in progress.left:
        if is_done(path, plan, cell):
            progress.done.add(cell)


def _startable(progress: Progress, path: Path) -> Iterator[Cell]:
    """The cells whose ticket is there and on which no other process works."""
    finished = {cell.seed: finished_rounds(path, cell) for cell in progress.cells if cell.arm == TICKET}
    for cell in progress.left:
        waits = cell.round is not None and finished[cell.seed] <= cell.round
        if not waits and not Directory(path / cell.key).in_use:
            yield cell


def _give_up_waiting(progress: Progress, path: Path) -> bool:
    """Give up the cells whose ticket's run has failed before their round; whether there are any."""
    lost = [
        (cell, ticket)
        for cell in progress.left
        if (ticket := Cell(TICKET, cell.seed)) in progress.failed
        and cell.round is not None
        and finished_rounds(path, ticket) <= cell.round
    ]
    for cell, ticket in lost:
        reason = f"the run of its ticket, {ticket.key}, did not come to round {cell.round}"
        _give_up(cell, reason, progress, path)
    return bool(lost)


def _give_up(cell: Cell, reason: str, progress: Progress, path: Path) -> None:
    progress.failed[cell] = reason
    with contextlib.suppress(StorageError):  # a full disk ends no study; who reads it then is not told why
        storage.write(failure_file(path, cell), f"{reason}\n".encode("utf-8", "backslashreplace"))


def _take_note(ended: Ended, progress: Progress, tries: dict[Cell, int], path: Path, attempts: int) -> None:
    cell = Cell.of(ended.job.key)
    progress.running.discard(cell)
    if ended.error is None:
        failure_file(path, cell).unlink(missing_ok=True)
        progress.done.add(cell)
        return
    tries[cell] = tries.get(cell, 0) + 1
    if tries[cell] >= attempts:
        _give_up(cell, ended.error, progress, path)
