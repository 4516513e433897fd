"""Pictures of runs: what each is drawn from. A new one is a function with `@gallery.picture(name)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from lottery import plots
from lottery.masks.history import MaskHistory
from lottery.masks.masks import Masks
from lottery.masks.prunable import Include, included
from lottery.plots.gallery import Gallery
from lottery.runs.schema import RoundSummary, RunInfo
from lottery.storage.directory import StorageError

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from lottery.plots.picture import Picture


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


T = TypeVar("T")

Arms = Mapping[str, Sequence[Drawn]]
"""Name of an arm to its runs."""

Kind = Literal["metric", "curves", "early-stop", "densities", "paths", "weights", "deaths"]

gallery = Gallery()
"""Each takes arms, and options of its own."""


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
def _metric(arms: Arms, *, metric: str | None = None, ylabel: str | None = None, ax: Axes | None = None) -> Picture:
    found = points(arms)
    return plots.against_density(found, value=column(arms, metric, found), ylabel=ylabel, ax=ax)


@gallery.picture("curves")
def _curves(arms: Arms, *, metric: str | None = None, by: str = "step", ax: Axes | None = None) -> Picture:
    from lottery.plots.panels import beside

    histories = {arm: _history(runs) for arm, runs in arms.items()}
    there = [str(c) for c in next(iter(histories.values())) if c not in ("round", "density", "step", "epoch")]
    if metric is None:
        run = _first(arms)[0]
        monitor = run.summary(run.rounds[0]).monitor if run.rounds else None
        metric = monitor if monitor in there else there[0] if there else None
    if metric not in there:
        raise ValueError(f"metric={metric!r} was not logged over time; {there} were")
    return beside(histories, ax, lambda history, ax: plots.learning_curves(history, metric=str(metric), by=by, ax=ax))


@gallery.picture("early-stop")
def _early_stop(arms: Arms, *, ax: Axes | None = None) -> Picture:
    found = points(arms)
    if "best_step" not in found:
        raise ValueError("these runs monitor no metric, so no step is the best; LotteryTicket(monitor=...) sets one")
    return plots.early_stop(found, ax=ax)


@gallery.picture("densities")
def _densities(arms: Arms, *, include: Include = None, ax: Axes | None = None) -> Picture:
    from lottery.plots.panels import beside

    frames = {}
    for arm, runs in arms.items():
        found = _mean([run.densities() for run in runs])
        layers = {str(name): found[name] for name in found if name != "all"}
        frames[arm] = found[[*included(layers, include), "all"]]
    return beside(frames, ax, lambda frame, ax: plots.layer_densities(frame, ax=ax))


@gallery.picture("paths")
def _paths(arms: Arms, *, ax: Axes | None = None) -> Picture:
    from lottery.plots.panels import beside

    frames = {}
    for arm, runs in arms.items():
        found = _mean([run.connectivity() for run in runs])[["kept", "on a path", "sparsest layer"]]
        frames[arm] = found.dropna(axis=1)
        if "on a path" not in frames[arm]:
            raise ValueError(
                f"no path is known in {', '.join(str(run.path) for run in runs)}: a forward through its network was not"
                " followed; plot 'densities' shows what its layers keep"
            )
    return beside(frames, ax, lambda frame, ax: plots.layer_densities(frame, ax=ax))


@gallery.picture("weights")
def _weights(
    arms: Arms,
    *,
    round: int | None = None,  # noqa: A002 (as users name it)
    include: Include = None,
    ax: Axes | None = None,
) -> Picture:
    found: dict[str, dict[str, list[Tensor]]] = {}
    for arm, runs in arms.items():
        trained, before, after = [], [], []
        for run in runs:
            number = _last_pruned(run) if round is None else round
            if number + 1 == len(run.masks):
                raise StorageError(f"round {number} is the last of {run.path}: it has not been pruned")
            trained.append(run.weights(number))
            before.append(run.masks[number])
            after.append(run.masks[number + 1])
        for name in included(before[0], include):
            parts: tuple[Sequence[Mapping[str, Tensor]], ...] = (trained, before, after)
            found.setdefault(name, {})[arm] = [torch.cat([part[name] for part in of]) for of in parts]
    panels = _interleaved(found)
    weights, alive, survive = ({name: of[k] for name, of in panels.items()} for k in range(3))
    return plots.weight_distributions(weights, Masks(alive), Masks(survive), ax=ax)


@gallery.picture("deaths")
def _deaths(
    arms: Arms,
    *,
    image_shape: Sequence[int] | None = None,
    columns: int | None = None,
    include: Include = None,
    ax: Axes | None = None,
) -> Picture:
    every = [run for runs in arms.values() for run in runs]
    for run in every:
        if run.info.settings.dynamic is not None:
            raise ValueError(
                f"the masks of {run.path} moved within one training, so no weight died between rounds;"
                " plot 'densities', or the ticket with run.ticket(0).plot('masks')"
            )
    rounds = min(len(run.masks) for run in every)
    found: dict[str, dict[str, Tensor]] = {}
    for arm, runs in arms.items():
        deaths = [run.masks.deaths for run in runs]
        for name in included(deaths[0], include):
            found.setdefault(name, {})[arm] = torch.cat([of[name].clamp(max=rounds) for of in deaths])
    several = len(arms) if len(arms) > 1 else None
    return plots.deaths(_interleaved(found), rounds, image_shape=image_shape, columns=columns or several, ax=ax)


def _interleaved(found: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """What arms have of each parameter, one after the other; of several arms, with their names.

    Parameters that not every arm has are left out.
    """
    most = max(len(of) for of in found.values())
    common = {name: of for name, of in found.items() if len(of) == most}
    return {name if most == 1 else f"{name} ({arm})": value for name, of in common.items() for arm, value in of.items()}


def _first(arms: Arms) -> Sequence[Drawn]:
    return next(iter(arms.values()))


def _history(runs: Sequence[Drawn]) -> pandas.DataFrame:
    """The history of an arm, averaged over its runs."""
    import pandas

    frames = [run.history() for run in runs]
    if len(frames) == 1:
        return frames[0]
    points = ["round", "step", "epoch"]
    return pandas.concat(frames).groupby(points, as_index=False).mean()


def _mean(frames: Sequence[pandas.DataFrame]) -> pandas.DataFrame:
    """The mean of several runs' frames, by round."""
    import pandas

    return pandas.concat(frames).groupby(level="round").mean()


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
