"""Begin a study of a recipe, or add to one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lottery.storage.directory import StorageError
from lottery.studies.controls import resolve
from lottery.studies.driver import ATTEMPTS, Progress, check_attempts
from lottery.studies.jobs import Engine
from lottery.studies.plan import Cell, Plan
from lottery.studies.study import Study
from lottery.training import recipes

CONTROLS = ("reinit", "random", "signs")


def run_study(
    recipe: str | os.PathLike[str],
    dirpath: str | os.PathLike[str],
    *,
    seeds: int | Sequence[int] = 5,
    controls: Sequence[Any] = CONTROLS,
    rounds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
    margin: float | str | None = None,
    level: float | None = None,
    engine: Engine | None = None,
    attempts: int = ATTEMPTS,
    show: Callable[[Progress], None] = lambda progress: None,
) -> Study:
    """Begin a study, go on with it, or add seeds, controls and rounds to it; returns when all is trained.

    Args:
        recipe: path of a recipe; it needs `lottery.monitor`.
        dirpath: the study's directory.
        seeds: how many, or which.
        controls: the arms beside the ticket, as `lottery.controls.resolve` takes them.
        rounds: the rounds whose tickets are compared with controls; default: six, evenly spread up to the last.
        overrides: settings that go before the recipe's, such as ``["--trainer.max_epochs", "5"]``.
        margin: how much worse than dense is still as good, kept with the study: in units of the metric, or a share of
            dense's error such as "10%"; default: see `Evidence`.
        level: chance of a false claim, kept with the study; default: 0.05.
        engine: default: a process per core of this machine.
        attempts: how often a cell is tried before it is given up.
        show: is told about the progress.

    Raises:
        ValueError: the recipe cannot be studied, or an argument is wrong.
        StorageError: the directory holds a study of another recipe or of other settings.
        TrainingsFailed: trainings were given up, after all that can be trained was.

    Example::

        study = run_study("recipes/digits.yaml", "checkpoints/digits_study", controls=["reinit", "signs"])
        print(study.evidence().verdict())
    """
    check_attempts(attempts)
    study = prepare(recipe, dirpath, seeds, controls, rounds, overrides, margin, level)
    failed = study.run(engine, attempts=attempts, show=show).failed
    if failed:
        raise TrainingsFailed(study, failed)
    return study


class TrainingsFailed(RuntimeError):
    """Trainings of a study were given up; what the others found can be read.

    Attributes:
        study: the study.
        failed: the trainings, each with its last error.
    """

    def __init__(self, study: Study, failed: Mapping[Cell, str]) -> None:
        self.study, self.failed = study, dict(failed)
        rows = [f"\n  {cell.key}: {why.splitlines()[-1] if why else why}" for cell, why in list(failed.items())[:5]]
        more = f"\n  and {len(failed) - 5} more" if len(failed) > 5 else ""
        super().__init__(
            f"{len(failed)} of the {len(list(study.plan.cells()))} trainings of {study.path} failed:"
            f"{''.join(rows)}{more}\nThe same call tries them again; Study({str(study.path)!r}) reads what there is."
        )


def prepare(
    recipe: str | os.PathLike[str],
    dirpath: str | os.PathLike[str],
    seeds: int | Sequence[int] = 5,
    controls: Sequence[Any] = CONTROLS,
    rounds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
    margin: float | str | None = None,
    level: float | None = None,
) -> Study:
    """Write down what is to be trained, without training; the arguments are those of `run_study`."""
    path = Path(dirpath)
    planned(recipe, path, seeds, controls, rounds, overrides, margin, level).write(path)
    return Study(path)


def planned(
    recipe: str | os.PathLike[str],
    dirpath: str | os.PathLike[str],
    seeds: int | Sequence[int] = 5,
    controls: Sequence[Any] = CONTROLS,
    rounds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
    margin: float | str | None = None,
    level: float | None = None,
) -> Plan:
    """What `run_study` with these arguments trains, with what the directory holds already; nothing is written."""
    path = Path(dirpath)
    cli = recipes.load(str(recipe), overrides)
    if cli.ticket.monitor is None:
        raise ValueError(
            f"{recipe} monitors no metric, so no step of a training is the best; set lottery.monitor, such as val_acc"
        )
    last = cli.ticket.rounds
    if last < 1:
        raise ValueError(f"{recipe} has lottery.rounds={last}: a study needs tickets of 1 round or more")
    threads = () if cli.config["threads"] else ("--threads", "1")
    plan = Plan(
        Path(recipe).read_text(),
        (*overrides, *threads),
        tuple(range(seeds) if isinstance(seeds, int) else seeds),
        tuple(map(_plain, controls)),
        tuple(rounds or _spread(last)),
        last,
        cli.seed_settings,
        margin,
        level,
    )
    if Study.is_at(path):
        try:
            plan = Plan.read(path).extended(plan)
        except ValueError as error:
            raise StorageError(
                f"{path} holds another study: {error}\nUse its recipe and settings to go on with it, or another"
                " directory. Nothing was changed."
            ) from error
    return plan


def _plain(control: Any) -> Any:
    """A control as it can be written down."""
    named = isinstance(control, (str, Mapping))
    return control if named else resolve(control).described()


def _spread(last: int, count: int = 6) -> list[int]:
    """So many rounds, evenly spread up to the last; all where these are fewer."""
    count = min(count, last)
    return [round(last * place / count) for place in range(1, count + 1)]
