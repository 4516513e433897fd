"""A study: one recipe over seeds, rounds and arms, in a directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.runs.comparison import Comparison, compare
from lottery.runs.layout import STUDY
from lottery.runs.metric import Metric
from lottery.runs.run import Run
from lottery.storage.directory import StorageError
from lottery.studies.barriers import read_barrier
from lottery.studies.cell import finished_rounds
from lottery.studies.driver import ATTEMPTS, Progress, drive, standing
from lottery.studies.engines.local import LocalEngine
from lottery.studies.jobs import Engine
from lottery.studies.plan import TICKET, Cell, Plan
from lottery.studies.points import diverged, point
from lottery.studies.stability import Barrier

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from lottery.plots.picture import Picture
    from lottery.runs.comparison import Comparison
    from lottery.studies.evidence import Evidence
    from lottery.studies.pictures import Kind


class Study:
    """A study's directory, opened for reading: finished, running or interrupted.

    Args:
        dirpath: the directory.

    Raises:
        StorageError: there is no study at that path.

    Example::

        study = run_study("recipes/digits.yaml", "checkpoints/digits_study", seeds=5)
        print(study.evidence().verdict())
        study.points()                    # one row per finished training
        study.run_of("reinit", seed=0, round=7)
    """

    def __init__(self, dirpath: str | os.PathLike[str]) -> None:
        self.path = Path(dirpath)
        self.plan = Plan.read(self.path)

    @staticmethod
    def is_at(path: str | os.PathLike[str]) -> bool:
        """Whether a path is that of a study's directory."""
        return (Path(path) / STUDY).is_file()

    # what is there

    @property
    def arms(self) -> list[str]:
        """ "ticket" and the controls."""
        return [TICKET, *self.plan.arms]

    def ticket_run(self, seed: int) -> Run:
        """The run of the tickets of a seed, with all its rounds.

        Raises:
            StorageError: it was not begun.
        """
        return Run(self.path / Cell(TICKET, seed).key)

    def run_of(self, arm: str, seed: int, round: int) -> Run:  # noqa: A002 (as users name it)
        """The training of a control, as a run of one round.

        Raises:
            ValueError: the study has no such arm.
            StorageError: the training was not begun.
        """
        if arm not in self.plan.arms:
            raise ValueError(f"arm={arm!r}; the controls of {self.path} are {', '.join(self.plan.arms)}")
        return Run(self.path / Cell(arm, seed, round).key)

    def progress(self) -> Progress:
        """What is done, and what was given up."""
        return standing(self.path, self.plan)

    def table(self) -> pandas.DataFrame:
        """One row per arm: how many of its cells are done, how many failed, how many there are."""
        import pandas

        progress = self.progress()
        rows = [
            {
                "arm": arm,
                "done": sum(cell.arm == arm for cell in progress.done),
                "failed": sum(cell.arm == arm for cell in progress.failed),
                "cells": sum(cell.arm == arm for cell in progress.cells),
            }
            for arm in self.arms
        ]
        return pandas.DataFrame(rows).set_index("arm")

    @property
    def begun(self) -> bool:
        """Whether a round of any seed is finished, so that there is something to say."""
        return bool(self._begun())

    @property
    def metric(self) -> Metric:
        """The metric that arms are compared by: on test data, at the step that validation chose.

        Raises:
            StorageError: no round is finished yet.
        """
        for seed in self._begun():
            found = self.ticket_run(seed).summary(0).metric
            if found is not None:
                return found
        raise StorageError(f"no round of {self.path} is finished yet")

    def points(self) -> pandas.DataFrame:
        """One row per training that ended, as `lottery.studies.evidence.Evidence` takes them.

        Columns: arm ("dense", "ticket" or a control), seed, round, density; value, the metric on test data at the step
            of best validation, NaN where the training failed: where value or end were not finite, or it was given up
            because it diverged; step, that step;
            progress, the steps at which validation was better than ever before, and how good it was; steps, trained in
            all; budget, the Trainer's limit; seconds.

        Raises:
            StorageError: no round is finished yet.
        """
        import pandas

        metric = self.metric
        rows = [
            {"arm": arm, "seed": seed, "round": number, **point(run, place, metric)}
            for arm, seed, number, run, place in self._trainings()
        ]
        return pandas.DataFrame([*rows, *diverged(self.progress().failed, self.plan.rounds, rows)])

    def _begun(self) -> list[int]:
        """The seeds whose dense network is trained."""
        found = (finished_rounds(self.path, Cell(TICKET, s)) for s in self.plan.seeds)
        return [s for s, rounds in zip(self.plan.seeds, found, strict=True) if rounds]

    def _trainings(self) -> Iterator[tuple[str, int, int, Run, int]]:
        """Arm, seed and round of each finished training, the run it is in and its round there."""
        for seed in self._begun():
            run = self.ticket_run(seed)
            for number in run.rounds:
                yield TICKET if number else "dense", seed, number, run, number
            for cell in self._controls(seed):
                if cell.round:  # not dense in another order
                    yield cell.arm, seed, cell.round, Run(self.path / cell.key), 0

    def _controls(self, seed: int) -> Iterator[Cell]:
        """The trainings of controls that are finished."""
        for arm in self.plan.arms:
            for number in self.plan.rounds_of(arm):
                cell = Cell(arm, seed, number)
                if finished_rounds(self.path, cell):
                    yield cell

    def barriers(self) -> pandas.DataFrame:
        """The error barrier between each round of each seed, dense too, and the same trained in another order.

        Both start at the rewind point. Columns: seed, round, density, height, stable. Of the control "order"; empty
        without it.

        Source: Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis", ICML 2020.
        """
        import pandas

        rows = []
        for cell, barrier in self._barriers().items():
            density = self.ticket_run(cell.seed).summary(cell.round or 0).density
            place = {"seed": cell.seed, "round": cell.round, "density": density}
            rows.append({**place, "height": barrier.height, "stable": barrier.stable})
        return pandas.DataFrame(rows, columns=["seed", "round", "density", "height", "stable"])

    def _barriers(self) -> dict[Cell, Barrier]:
        found = {}
        for seed in self.plan.seeds:
            for cell in self._controls(seed):
                barrier = read_barrier(self.path / cell.key)
                if barrier is not None:
                    found[cell] = barrier
        return found

    # what it says

    def evidence(
        self, margin: float | str | None = None, level: float | None = None, *, now: bool = False, **options: Any
    ) -> Evidence:
        """Whether tickets are winning tickets; see `lottery.studies.evidence.Evidence`.

        A study is judged when all that it was to train is trained, or was given up: nothing is claimed before. That is
        a look, which is kept in the study, because each spends a part of the level. To read it again spends nothing; to
        add three seeds or more, controls or rounds, and to train these, leads to another look.

        Claims are about the rounds that are compared with controls: the fewer these are, the fewer seeds are needed.

        Args:
            margin: how much worse than dense is still as good; default: the study's.
            level: chance of a false claim; default: the study's.
            now: look at the seeds that are complete, though others are not.
            options: of `Evidence`, such as `required`.

        Raises:
            StorageError: no round is finished yet.
            ValueError: the metric needs a margin, or arms cannot be compared.
        """
        from lottery.studies.evidence import Evidence
        from lottery.studies.looking import look_at

        metric, points, seen = self.metric, self.points(), look_at(self.path, self.plan, now)
        self.plan = seen.plan
        judged = points["seed"].isin(seen.seeds) if seen.seeds else points["seed"] == points["seed"]
        theirs = {"margin": margin, "level": level}
        other = [name for name, value in theirs.items() if value not in (None, getattr(self.plan, name))]
        return Evidence(
            points[points["round"].isin([0, *self.plan.rounds]) & judged],
            margin=self.plan.margin if margin is None else margin,
            level=(self.plan.level or 0.05) if level is None else level,
            lower_is_better=metric.lower_is_better,
            metric=metric.name,
            tested=metric.part == "test_best",
            looks=[look.seeds for look in self.plan.looks],
            waiting=seen.waiting,
            notes=[*seen.notes, *(f"Read with another {name} than the study was judged by." for name in other)],
            **{
                "planned": list(self.plan.arms),
                "required": {arm: c.rules_out for arm, c in self.plan.arms.items() if c.rules_out is not None},
                **options,
            },
        )

    def plot(self, kind: Kind | str = "metric", *, ax: Axes | None = None, **options: Any) -> Picture:
        """Draw what is finished; arms have the same colours in every picture.

        Args:
            kind: what to draw:

                - "metric": the metric against density: ticket and controls as lines, dense as a band; marks above for
                  the rounds that are winning, matching or below dense;
                - "difference": the ticket's gains over dense, with the margin, and over each control, every seed a dot;
                - "early-stop": the step of the best validation against density, by arm;
                - "speed": the ticket's steps to a margin below what both reach, relative to dense's and each control's;
                - "barrier": the error barrier against density, of the control "order".
            ax: where to draw. A picture of several panels takes its place in the figure.
            options: of `evidence`, such as `margin`, for "metric", "difference" and "speed".

        Returns:
            The picture: it shows itself in a notebook, has `figure` and `axes`, and `save(path)` writes it.

        Raises:
            ValueError: there is no such picture, or what it shows was not trained.
            StorageError: no round is finished yet.
        """
        from lottery.studies.pictures import gallery

        return gallery.draw(kind, self, ax=ax, **options)

    def compare(self) -> Comparison:
        """The runs of the tickets side by side; its `plot` draws learning curves, layers, paths and more."""
        return compare({TICKET: [self.ticket_run(s) for s in self._begun()]})

    def run(
        self,
        engine: Engine | None = None,
        *,
        attempts: int = ATTEMPTS,
        show: Callable[[Progress], None] = lambda progress: None,
    ) -> Progress:
        """Train what is not done yet; see `lottery.studies.driver.drive`. Stop it whenever you like: nothing is lost.

        Args:
            engine: default: a process per core of this machine.
            attempts: how often a cell is tried.
            show: is told about the progress.
        """
        return drive(self.path, self.plan, engine or LocalEngine(), attempts, show)

    def __repr__(self) -> str:
        progress = self.progress()
        return f"Study({str(self.path)!r}: {len(progress.done)} of {len(progress.cells)} cells done)"

    def _repr_html_(self) -> str:
        import html

        return f"<p>{html.escape(repr(self))}</p>{self.table()._repr_html_()}"  # type: ignore[operator]
