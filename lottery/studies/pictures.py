"""Pictures of a study: what each is drawn from. A new one is a function with `@gallery.picture(name)`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lottery import plots
from lottery.plots.gallery import Gallery

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from lottery.plots.picture import Picture
    from lottery.studies.evidence import Evidence
    from lottery.studies.plan import Plan


class Drawn(Protocol):
    """What pictures ask of a study."""

    path: Path
    plan: Plan

    def points(self) -> pandas.DataFrame: ...
    def barriers(self) -> pandas.DataFrame: ...
    def evidence(self, **options: Any) -> Evidence: ...


Kind = Literal["metric", "difference", "early-stop", "speed", "barrier"]

gallery = Gallery()
"""Each takes a study, and options: those of the evidence that it shows, and `ax`."""


@gallery.picture("metric")
def _metric(study: Drawn, *, ax: Axes | None = None, **options: Any) -> Picture:
    evidence = study.evidence(**options)
    return plots.study_metric(study.points(), ylabel=evidence.metric, labels=evidence.table(), ax=ax)


@gallery.picture("difference")
def _difference(study: Drawn, *, ax: Axes | None = None, **options: Any) -> Picture:
    evidence = study.evidence(**options)
    return plots.gains(
        gains_of(evidence),
        margin=evidence.margin_size,
        percent=evidence.text.in_percent,
        labels=evidence.table(),
        seeds=seeds_of(evidence),
        ax=ax,
    )


@gallery.picture("early-stop")
def _early_stop(study: Drawn, *, ax: Axes | None = None) -> Picture:
    points = study.points()
    arms = points["arm"].replace("dense", "ticket")
    steps = points.assign(arm=arms, run=points["seed"], best_step=points["step"])
    return plots.early_stop(steps, ax=ax)


@gallery.picture("speed")
def _speed(study: Drawn, *, ax: Axes | None = None, **options: Any) -> Picture:
    return plots.learning_speed(study.evidence(**options).speed().reset_index(), ax=ax)


@gallery.picture("barrier")
def _barrier(study: Drawn, *, ax: Axes | None = None) -> Picture:
    points = study.barriers()
    if points.empty:
        arms = ",".join((*study.plan.arms, "order"))
        raise ValueError(
            f"no error barrier was measured in {study.path}: it needs each ticket trained once more in another order of"
            f" the data. Add that with `lottery study ... --controls {arms}`"
        )
    return plots.barriers(points, ax=ax)


def gains_of(evidence: Evidence) -> pandas.DataFrame:
    """The ticket's gain over dense and over each control, a row per comparison and round."""
    import pandas

    columns = ["density", "gain", "low", "high"]
    tables = {"dense": evidence.table()}
    tables |= {name: evidence.comparison(name) for name in evidence.controls}
    return pandas.concat([table[columns].assign(against=name) for name, table in tables.items()])


def seeds_of(evidence: Evidence) -> pandas.DataFrame:
    """The ticket's gain over dense and over each control in every seed; those of failed trainings are left out."""
    import numpy as np
    import pandas

    frames = []
    for name, gains in evidence.gains.items():
        places, seeds = np.nonzero(np.isfinite(gains.differences))
        columns = {"density": evidence.grid.densities[places], "gain": gains.differences[places, seeds]}
        frames.append(pandas.DataFrame(columns).assign(against=name))
    return pandas.concat(frames)
