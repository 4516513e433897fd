"""Pictures of runs: what each is drawn from. A new one is a function with `@gallery.picture(name)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from lottery import plots
from lottery.masks.history import MaskHistory
from lottery.masks.masks import Masks
from lottery.plots.gallery import Gallery
from lottery.runs.schema import RoundSummary, RunInfo
from lottery.storage.directory import StorageError

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Drawn(Protocol):
    """What pictures ask of a run."""

    path: Path

    @property
    def info(self) -> RunInfo: ...
    @property
    def rounds(self) -> list[int]: ...
    @property
    def metric(self) -> str | None: ...
    @property
    def masks(self) -> MaskHistory: ...
    def summary(self, number: int) -> RoundSummary: ...
    def table(self) -> pandas.DataFrame: ...
    def history(self) -> pandas.DataFrame: ...
    def densities(self) -> pandas.DataFrame: ...
    def connectivity(self) -> pandas.DataFrame: ...
    def weights(self, of: int) -> dict[str, Tensor]: ...


Arms = Mapping[str, Sequence[Drawn]]
"""Name of an arm to its runs."""

gallery = Gallery()
"""Each takes arms, `metric` and `ax`, whether or not it has a use for them, and options of its own."""


def points(arms: Arms) -> pandas.DataFrame:
    """One row per arm, run and finished round: the columns of `Run.table` after `arm`, `run` and `round`.

    Raises:
        StorageError: no round is finished yet.
    """
    import pandas

    frames = []
    for arm, runs in arms.items():
        for run in runs:
            table = run.table()
            table = table[table["status"] == "finished"].reset_index()
            table.insert(0, "arm", arm)
            table.insert(1, "run", str(run.path))
            frames.append(table)
    found = pandas.concat(frames, ignore_index=True)
    if found.empty:
        paths = [str(run.path) for runs in arms.values() for run in runs]
        raise StorageError(f"no round is finished yet in {', '.join(paths)}")
    return found


def column(arms: Arms, metric: str | None, points: pandas.DataFrame) -> str:
    """The column of `points` that holds a metric; of None the one that says most.

    Raises:
        ValueError: there is none.
    """
    rest = ("arm", "run", "round", "density", "kept", "status")
    there = [c for c in points.columns if c not in rest]
    if metric is None:
        metric = _first(arms)[0].metric
    for name in (metric, f"best_{metric}", f"last_{metric}"):
        if name in there:
            return str(name)
    raise ValueError(f"metric={metric!r} is not in the runs, which have {there}")


@gallery.picture("metric")
def _metric(arms: Arms, metric: str | None, ax: Axes | None, **options: Any) -> Axes:
    found = points(arms)
    value = column(arms, metric, found)
    return plots.against_density(found, value=value, ax=ax, **options)


@gallery.picture("curves")
def _curves(arms: Arms, metric: str | None, ax: Axes | None, **options: Any) -> Axes:
    history = _history(arms)
    there = [c for c in history.columns if c not in ("round", "density", "step", "epoch")]
    if metric is None:
        run = _first(arms)[0]
        metric = run.summary(run.rounds[0]).monitor if run.rounds else None
        metric = metric or (there[0] if there else None)
    if metric not in there:
        raise ValueError(f"metric={metric!r} was not logged over time; {there} were")
    return plots.learning_curves(history, metric=str(metric), ax=ax, **options)


@gallery.picture("early-stop")
def _early_stop(arms: Arms, metric: str | None, ax: Axes | None, **options: Any) -> Axes:
    found = points(arms)
    if "best_step" not in found:
        raise ValueError("these runs monitor no metric, so no step is the best; LotteryTicket(monitor=...) sets one")
    return plots.early_stop(found, ax=ax, **options)


@gallery.picture("densities")
def _densities(arms: Arms, metric: str | None, ax: Axes | None, **options: Any) -> Axes:
    densities = _mean([run.densities() for run in _first(arms)])
    return plots.layer_densities(densities, ax=ax, **options)


@gallery.picture("paths")
def _paths(arms: Arms, metric: str | None, ax: Axes | None, **options: Any) -> Axes:
    found = _mean([run.connectivity() for run in _first(arms)])
    shown = found[["kept", "on a path", "sparsest layer"]].dropna(axis=1)
    return plots.layer_densities(shown, ax=ax, **options)


@gallery.picture("weights")
def _weights(arms: Arms, metric: str | None, ax: Axes | None, round: int | None = None, **options: Any) -> Figure:  # noqa: A002 (as users name it)
    trained, before, after = [], [], []
    for run in _first(arms):
        number = _last_pruned(run) if round is None else round
        if number + 1 == len(run.masks):
            raise StorageError(f"round {number} is the last of {run.path}: it has not been pruned")
        trained.append(run.weights(number))
        before.append(run.masks[number])
        after.append(run.masks[number + 1])
    return plots.weight_distributions(
        {n: torch.cat([w[n] for w in trained]) for n in before[0]}, _pooled(before), _pooled(after), **options
    )


@gallery.picture("deaths")
def _deaths(arms: Arms, metric: str | None, ax: Axes | None, **options: Any) -> Figure:
    for run in _first(arms):
        if run.info.settings.dynamic is not None:
            raise ValueError(
                f"the masks of {run.path} moved within one training, so no weight died between rounds;"
                " plot 'densities', or the ticket with run.ticket(0).plot('masks')"
            )
    histories = [run.masks for run in _first(arms)]
    rounds = min(len(history) for history in histories)
    deaths = {name: torch.cat([h.deaths[name].clamp(max=rounds) for h in histories]) for name in histories[0].deaths}
    return plots.deaths(deaths, rounds, **options)


def _first(arms: Arms) -> Sequence[Drawn]:
    return next(iter(arms.values()))


def _history(arms: Arms) -> pandas.DataFrame:
    """The history of the first arm, averaged over its runs."""
    import pandas

    frames = [run.history() for run in _first(arms)]
    if len(frames) == 1:
        return frames[0]
    points = ["round", "step", "epoch"]
    return pandas.concat(frames).groupby(points, as_index=False).mean()


def _mean(frames: Sequence[pandas.DataFrame]) -> pandas.DataFrame:
    """The mean of several runs' frames, by round."""
    import pandas

    return pandas.concat(frames).groupby(level="round").mean()


def _pooled(masks: Sequence[Masks]) -> Masks:
    return Masks({name: torch.cat([m[name] for m in masks]) for name in masks[0]})


def _last_pruned(run: Drawn) -> int:
    """The last round whose trained weights and whose successor's masks are there."""
    for number in reversed(range(len(run.masks) - 1)):
        try:
            run.weights(number)
        except StorageError:
            continue
        return number
    raise StorageError(
        f"{run.path} keeps the weights of the last round only, which was not pruned; LotteryTicket(keep='all') keeps"
        " all"
    )
