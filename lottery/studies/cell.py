"""The work of one cell: a run of all rounds, or one training of a control. Every engine calls `perform`."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lottery import storage
from lottery.foundations import streams
from lottery.runs.branch import Branch
from lottery.runs.run import Run
from lottery.storage.directory import Directory, StorageError
from lottery.studies import controls
from lottery.studies.barriers import BARRIER, measure_barrier
from lottery.studies.controls import Control
from lottery.studies.jobs import Job
from lottery.studies.plan import RECIPE, TICKET, Cell, Plan
from lottery.training import recipes
from lottery.training.recipes import RecipeCLI


def perform(job: Job) -> None:
    """Train a cell. One that is done returns at once; one that was begun goes on where it stood.

    What the training prints goes to a file beside the cell's directory, which ends in ``.log``.

    Raises:
        StorageError: another process works on the cell, or its directory is damaged.
        RuntimeError: the Trainer's `max_time` ran out.
        Exception: whatever its training raises.
    """
    path = Path(job.study)
    plan, cell = Plan.read(path), Cell.of(job.key)
    with logged(path / f"{job.key}.log"):
        recipes.quieten()
        try:
            if cell.round is None:
                _train_ticket(path, plan, cell)
            else:
                _train_control(path, plan, cell, cell.round)
            if not is_done(path, plan, cell):
                raise RuntimeError(
                    "the training stopped before its end, as the Trainer's max_time makes it: give it more time, or"
                    " max_epochs or max_steps instead"
                )
        except StorageError as error:
            traceback.print_exc()
            raise StorageError(
                f"{error} Of a study: move {path / job.key} away, and the same command trains it again, with the same"
                " results."
            ) from error
        except BaseException:
            traceback.print_exc()
            raise


def is_done(path: Path, plan: Plan, cell: Cell) -> bool:
    """Whether nothing of a cell is left to do."""
    finished = finished_rounds(path, cell)
    if cell.round is None:
        return finished > plan.last
    if not finished:
        return False
    if measures_barrier(plan.arms[cell.arm]):
        return BARRIER in Directory(path / cell.key)
    return True


def finished_rounds(path: Path, cell: Cell) -> int:
    """How many rounds of a cell's run are finished; 0 where it was not begun, or where it cannot be read: whoever
    trains it is told why, and the others go on."""
    if not (path / cell.key / storage.MANIFEST).exists():
        return 0
    try:
        return len(Run(path / cell.key).rounds)
    except StorageError:
        return 0


def load_recipe(path: Path, plan: Plan, cell: Cell, *settings: str) -> RecipeCLI:
    """The study's recipe for a cell; whatever it writes goes into the cell's directory."""
    own = str(path / cell.key)
    paths = "--lottery.dirpath", own, "--trainer.default_root_dir", own
    quiet = "--trainer.enable_progress_bar", "false"
    overrides = [*plan.seeded(cell.seed), *paths, *quiet, *settings]
    return recipes.load(str(path / RECIPE), overrides)


def _train_ticket(path: Path, plan: Plan, cell: Cell) -> None:
    # trained weights are what one-shot and the error barrier start from
    kept = "--lottery.keep", "all", "--lottery.test_each_round", "true"
    cli = load_recipe(path, plan, cell, *kept)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)


def _train_control(path: Path, plan: Plan, cell: Cell, number: int) -> None:
    control = plan.arms[cell.arm]
    source = path / Cell(TICKET, cell.seed).key
    cli = load_recipe(path, plan, cell, "--lottery.rounds", "0")
    run = Run(source)
    if not finished_rounds(path, cell):
        start = "init" if control.start == "initial" else "rewind"
        branch = Branch(str(source), number, start, control.order)
        ticket = run.ticket(number) if number else branch.ticket()
        # the same over rounds and arms: what is drawn for few weights is part of what is drawn for many
        seed = streams.derive(cell.seed, "control")
        sources = _materials(control, run, ticket, cli, seed)
        materials = {name: sources[name]() for name in control.needs}
        cli.ticket.test_each_round = True
        cli.ticket.ticket = control.make(ticket, seed, materials)
        cli.ticket.branch = branch
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    if measures_barrier(control):
        tested = run.summary(0).metric
        metric = None if tested is None else tested.name
        measure_barrier(cli, run.weights(number), path / cell.key, metric)


def measures_barrier(control: Control) -> bool:
    """Whether control and ticket are two children of one network, which differ in the order of the data alone."""
    return control.order > 0


def _materials(control: Control, run: Run, ticket: Any, cli: RecipeCLI, seed: int) -> dict[str, Callable[[], Any]]:
    """What controls ask for, made when it is asked for."""
    return {
        "fresh": lambda: cli.fresh_weights(streams.derive(seed, "fresh")),
        "trained": lambda: run.weights(0),
        "initial": lambda: run.weights("initial"),
        "other": lambda: controls.nearest(control.path or "", ticket),
    }


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Everything that this process prints, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = [(number, os.dup(number)) for number in (1, 2)]
    with open(path, "a") as file:
        _flush()  # what was printed before belongs elsewhere
        try:
            for number, _ in before:
                os.dup2(file.fileno(), number)
            yield
        finally:
            _flush()
            for number, stored in before:
                os.dup2(stored, number)
                os.close(stored)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
