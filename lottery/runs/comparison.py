"""Several runs side by side: seeds of one arm, or several arms."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.foundations.statistics.intervals import mean_interval
from lottery.runs import pictures
from lottery.runs.run import Run

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from lottery.plots.picture import Picture


def compare(
    runs: Sequence[Run | str | os.PathLike[str]] | Mapping[str, Sequence[Run | str | os.PathLike[str]]],
) -> Comparison:
    """Several runs side by side: seeds of one arm, or arms with their seeds.

    Args:
        runs: runs or their directories, as seeds of one arm; or a mapping from the arm's name to such a list.

    Raises:
        TypeError: it is a single run.
        StorageError: a directory holds no run.
        ValueError: there is nothing to compare.

    Example::

        compare(["checkpoints/a-0", "checkpoints/a-1"]).plot()
        compare({"ticket": ["checkpoints/a-0"], "one-shot": ["checkpoints/b-0"]}).table()
    """
    if isinstance(runs, (str, os.PathLike, Run)):
        raise TypeError(f"compare({runs!r}): give a list of runs, or a mapping from the name of an arm to its list")
    arms = runs if isinstance(runs, Mapping) else {"ticket": runs}
    return Comparison(
        {name: [run if isinstance(run, Run) else Run(run) for run in members] for name, members in arms.items()}
    )


class Comparison:
    """Runs grouped in arms; the runs of an arm are its seeds. `lottery.compare` makes it.

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
        return pictures.points(self.arms)

    def table(self, metric: str | None = None) -> pandas.DataFrame:
        """Mean and 95 % interval of a metric over the runs of each arm, per round; NaN without a spread.

        Args:
            metric: a column of `Run.table`; default: `Run.metric`.

        Returns:
            Index arm and round; columns density, runs, mean, low, high.

        Raises:
            ValueError: there is no such column.
        """
        import pandas

        points = self.points()
        column = pictures.column(self.arms, metric, points)
        rows = []
        for (arm, number), group in points.groupby(["arm", "round"], sort=False):
            values = group[column].dropna()
            mean, low, high = mean_interval(values)
            rows.append(
                {
                    "arm": arm,
                    "round": number,
                    "density": group["density"].mean(),
                    "runs": len(values),
                    "mean": mean,
                    "low": low,
                    "high": high,
                }
            )
        return pandas.DataFrame(rows).set_index(["arm", "round"])

    def plot(
        self, kind: pictures.Kind | str = "metric", metric: str | None = None, *, ax: Axes | None = None, **options: Any
    ) -> Picture:
        """Draw the runs, several of an arm as means with 95 % intervals, several arms beside each other.

        Args:
            kind: what to draw, with its options:

                - "metric": a metric against density, dense as a band (`ylabel`);
                - "curves": a metric over the steps of each round, coloured by density (`by="epoch"`);
                - "early-stop": the step of the best validation against density;
                - "densities": the density of each layer over the rounds (`include`);
                - "paths": the weights kept, those on a path from input to output, and the sparsest layer, over the
                  rounds;
                - "weights": trained weights before and after they were pruned, the runs of an arm pooled (`round`,
                  `include`);
                - "deaths": when each weight died, the units of an arm's runs one below the other (`image_shape`,
                  `columns`, `include`).
            metric: a column of `Run.table` for "metric", of `Run.history` for "curves"; default: what says most.
            ax: where to draw. A picture of several panels takes its place in the figure.
            options: `include` is a glob pattern of parameters or several, such as ``"*attn*"``.

        Returns:
            The picture: it shows itself in a notebook, has `figure` and `axes`, and `save(path)` writes it.

        Raises:
            ValueError: there is no such picture, metric or option, or a pattern matches nothing.
            StorageError: what it needs was not kept.
        """
        return pictures.gallery.draw(kind, self.arms, metric=metric, ax=ax, **options)

    def __repr__(self) -> str:
        arms = ", ".join(f"{name} ({len(runs)})" for name, runs in self.arms.items())
        return f"Comparison({arms})"

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()  # type: ignore[operator]
