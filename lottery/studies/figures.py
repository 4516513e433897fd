"""The pictures of a study: what they are drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lottery.studies.evidence import Evidence
    from lottery.studies.study import Study

Picture = Literal["metric", "difference", "early-stop", "speed", "barrier"]
_OF_EVIDENCE = ("metric", "difference")
_OF_PANELS = ("difference", "speed")


def draw(
    study: Study, kind: str, ax: Axes | None = None, **options: Any
) -> Axes | Figure:
    """Draw a picture of a study; `Study.plot`."""
    from lottery import plots

    if kind not in get_args(Picture):
        raise ValueError(f"kind={kind!r}; choose from {', '.join(get_args(Picture))}")
    if kind in _OF_PANELS and ax is not None:
        raise ValueError(f"{kind!r} has several panels: leave out ax")
    if kind == "barrier":
        return _barriers(study, ax)
    points = study.points()
    if kind == "early-stop":
        arms = points["arm"].replace("dense", "ticket")
        steps = points.assign(arm=arms, run=points["seed"], best_step=points["step"])
        return plots.early_stop(steps, ax=ax)
    evidence = study.evidence(**options)
    if kind == "speed":
        return plots.learning_speed(evidence.speed().reset_index())
    if kind == "difference":
        return plots.gains(
            gains_of(evidence),
            margin=evidence.margin,
            percent=evidence.words.in_percent,
            labels=evidence.table(),
        )
    return plots.study_metric(
        points, ylabel=evidence.metric, labels=evidence.table(), ax=ax
    )


def gains_of(evidence: Evidence) -> pandas.DataFrame:
    """The ticket's gain over dense and over each control, a row per comparison and round."""
    import pandas

    columns = ["density", "gain", "low", "high"]
    tables = {"dense": evidence.table()}
    tables |= {name: evidence.comparison(name) for name in evidence.controls}
    return pandas.concat(
        [table[columns].assign(against=name) for name, table in tables.items()]
    )


def _barriers(study: Study, ax: Axes | None) -> Axes:
    from lottery import plots

    points = study.barriers()
    if points.empty:
        arms = ",".join((*study.plan.arms, "order"))
        raise ValueError(
            f"no error barrier was measured in {study.path}: it needs each ticket trained once more in another order of"
            f" the data. Add that with `lottery study ... --controls {arms}`"
        )
    return plots.barriers(points, ax=ax)
