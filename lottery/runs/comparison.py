"""Several runs side by side: seeds of one arm, or several arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from lottery.masks.masks import Masks
from lottery.storage.directory import StorageError

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lottery.runs.run import Run

Picture = Literal[
    "metric", "curves", "early-stop", "densities", "paths", "weights", "deaths"
]


class Comparison:
    """Runs grouped in arms; the runs of an arm are its seeds. `Run.compare` makes it.

    Args:
        arms: name of the arm to its runs.

    Raises:
        ValueError: there are no runs.
    """

    def __init__(self, arms: Mapping[str, Sequence[Run]]) -> None:
        self.arms = {name: list(runs) for name, runs in arms.items()}
        empty = [name for name, runs in self.arms.items() if not runs]
        if empty or not self.arms:
            raise ValueError(f"nothing to compare: {empty or 'no arms'} without runs")

    def points(self) -> pandas.DataFrame:
        """One row per arm, run and finished round: the columns of `Run.table` after `arm`, `run` and `round`."""
        import pandas

        frames = []
        for arm, runs in self.arms.items():
            for run in runs:
                table = run.table()
                table = table[table["status"] == "finished"].reset_index()
                table.insert(0, "arm", arm)
                table.insert(1, "run", str(run.path))
                frames.append(table)
        points = pandas.concat(frames, ignore_index=True)
        if points.empty:
            raise StorageError(
                f"no round is finished yet in {', '.join(map(str, self._paths()))}"
            )
        return points

    def table(self, metric: str | None = None) -> pandas.DataFrame:
        """Mean and 95 % interval of a metric over the runs of each arm, per round.

        Args:
            metric: a column of `Run.table`; default: `Run.metric`.

        Returns:
            Index arm and round; columns density, runs, mean, low, high.

        Raises:
            ValueError: there is no such column.
        """
        import pandas

        from lottery.plots import mean_interval

        points = self.points()
        column = self._column(metric, points)
        rows = []
        for (arm, round), group in points.groupby(["arm", "round"], sort=False):
            values = group[column].dropna()
            mean, low, high = mean_interval(values)
            rows.append(
                {
                    "arm": arm,
                    "round": round,
                    "density": group["density"].mean(),
                    "runs": len(values),
                    "mean": mean,
                    "low": low,
                    "high": high,
                }
            )
        return pandas.DataFrame(rows).set_index(["arm", "round"])

    def plot(
        self,
        kind: str = "metric",
        metric: str | None = None,
        *,
        ax: Axes | None = None,
        **options: Any,
    ) -> Axes | Figure:
        """Draw the runs, several of an arm as means with 95 % intervals.

        Args:
            kind: what to draw:

                - "metric": a metric against density, dense as a band;
                - "curves": a metric over the steps of each round, coloured by density (of the first arm);
                - "early-stop": the step of the best validation against density;
                - "densities": the density of each layer over the rounds (of the first arm);
                - "paths": the weights kept, those on a path from input to output, and the sparsest layer, over the rounds
                  (of the first arm);
                - "weights": trained weights before and after they were pruned (of the first arm, its runs pooled);
                  `round` picks the round;
                - "deaths": when each weight died (of the first arm, the units of its runs one below the other).
            metric: a column of `Run.table` for "metric", of `Run.history` for "curves"; default: what says most.
            ax: where to draw, for the first four.
            options: of the function in `lottery.plots`.

        Raises:
            ValueError: there is no such picture or metric.
            StorageError: what it needs was not kept.
        """
        from lottery import plots

        if kind not in get_args(Picture):
            raise ValueError(
                f"kind={kind!r}; choose from {', '.join(get_args(Picture))}"
            )
        if kind == "metric":
            points = self.points()
            column = self._column(metric, points)
            return plots.against_density(points, value=column, ax=ax, **options)
        if kind == "early-stop":
            points = self.points()
            if "best_step" not in points:
                raise ValueError(
                    "these runs monitor no metric, so no step is the best; LotteryTicket(monitor=...) sets one"
                )
            return plots.early_stop(points, ax=ax, **options)
        if kind == "curves":
            history = self._history()
            name = self._logged(metric, history)
            return plots.learning_curves(history, metric=name, ax=ax, **options)
        if kind == "densities":
            densities = _mean([run.densities() for run in self._first])
            return plots.layer_densities(densities, ax=ax, **options)
        if kind == "paths":
            found = _mean([run.connectivity() for run in self._first])
            shown = found[["kept", "on a path", "sparsest layer"]].dropna(axis=1)
            return plots.layer_densities(shown, ax=ax, **options)
        if kind == "weights":
            return self._plot_weights(**options)
        return self._plot_deaths(**options)

    def _paths(self) -> list[str]:
        return [str(run.path) for runs in self.arms.values() for run in runs]

    @property
    def _first(self) -> list[Run]:
        return next(iter(self.arms.values()))

    def _column(self, metric: str | None, points: pandas.DataFrame) -> str:
        """A column of `points` that holds a metric."""
        rest = ("arm", "run", "round", "density", "kept", "status")
        there = [c for c in points.columns if c not in rest]
        if metric is None:
            metric = self._first[0].metric
        for column in (metric, f"best_{metric}", f"last_{metric}"):
            if column in there:
                return str(column)
        raise ValueError(f"metric={metric!r} is not in the runs, which have {there}")

    def _logged(self, metric: str | None, history: pandas.DataFrame) -> str:
        there = [
            c for c in history.columns if c not in ("round", "density", "step", "epoch")
        ]
        if metric is None:
            run = self._first[0]
            metric = run.summary(run.rounds[0])["monitor"] if run.rounds else None
            metric = metric or (there[0] if there else None)
        if metric not in there:
            raise ValueError(
                f"metric={metric!r} was not logged over time; {there} were"
            )
        return str(metric)

    def _history(self) -> pandas.DataFrame:
        """The history of the first arm, averaged over its runs."""
        import pandas

        frames = [run.history() for run in self._first]
        if len(frames) == 1:
            return frames[0]
        points = ["round", "step", "epoch"]
        return pandas.concat(frames).groupby(points, as_index=False).mean()

    def _plot_weights(self, round: int | None = None, **options: Any) -> Figure:
        from lottery import plots

        trained, before, after = [], [], []
        for run in self._first:
            number = _last_pruned(run) if round is None else round
            if number + 1 == len(run.masks):
                raise StorageError(
                    f"round {number} is the last of {run.path}: it has not been pruned"
                )
            trained.append(run.weights(number))
            before.append(run.masks[number])
            after.append(run.masks[number + 1])
        return plots.weight_distributions(
            {n: torch.cat([w[n] for w in trained]) for n in before[0]},
            _pooled(before),
            _pooled(after),
            **options,
        )

    def _plot_deaths(self, **options: Any) -> Figure:
        from lottery import plots

        for run in self._first:
            if "moving" in run.info["settings"]:
                raise ValueError(
                    f"the masks of {run.path} moved within one training, so no weight died between rounds;"
                    " plot 'densities', or the ticket with run.ticket(0).plot('masks')"
                )
        histories = [run.masks for run in self._first]
        rounds = min(len(history) for history in histories)
        deaths = {
            name: torch.cat([h.deaths[name].clamp(max=rounds) for h in histories])
            for name in histories[0].deaths
        }
        return plots.deaths(deaths, rounds, **options)

    def __repr__(self) -> str:
        arms = ", ".join(f"{name} ({len(runs)})" for name, runs in self.arms.items())
        return f"Comparison({arms})"

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()  # type: ignore[operator]


def _mean(frames: Sequence[pandas.DataFrame]) -> pandas.DataFrame:
    """The mean of several runs' frames, by round."""
    import pandas

    return pandas.concat(frames).groupby(level="round").mean()


def _pooled(masks: Sequence[Masks]) -> Masks:
    return Masks({name: torch.cat([m[name] for m in masks]) for name in masks[0]})


def _last_pruned(run: Run) -> int:
    """The last round whose trained weights and whose successor's masks are there."""
    for number in reversed(range(len(run.masks) - 1)):
        try:
            run.weights(number)
        except StorageError:
            continue
        return number
    raise StorageError(
        f"{run.path} keeps the weights of the last round only, which was not pruned; LotteryTicket(keep='all') keeps all"
    )
