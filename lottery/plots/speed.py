"""How fast the ticket of a study learns."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lottery.plots.density_axis import falls_to_the_right, side_by_side, write_percentages
from lottery.plots.picture import Picture
from lottery.plots.style import DENSE, fit_to_means, ink, legend_height, line_style, new_axes, write_legend


def learning_speed(table: pd.DataFrame, *, ax: Axes | None = None) -> Picture:
    """The ticket's steps to a margin below what both reach, relative to dense's and each control's, with intervals.

    Args:
        table: a row per comparison and round: columns `other` ("dense" or a control), `density` (0 to 1), `ratio` of
            steps (NaN, 0 or infinite where there is none), `low` and `high`; as `Evidence.speed` makes them.
        ax: axes to draw on; new ones if it is not given.

    Raises:
        ValueError: no ratio is known.
    """
    table = table[np.isfinite(table["ratio"]) & table["ratio"].gt(0)]
    if table.empty:
        raise ValueError("there is nothing to draw: no two trainings reached a common level in any round")
    arms = list(dict.fromkeys(table["other"]))
    ax = new_axes(3.4 + legend_height(len(arms), below=True)) if ax is None else ax
    shifts = side_by_side(table["density"], len(arms))
    for number, arm in enumerate(arms):
        rows = table[table["other"] == arm]
        bars = np.abs(rows[["low", "high"]].sub(rows["ratio"], axis=0)).T.to_numpy()
        style = {"color": ink(), "marker": "o", "linestyle": "-"} if arm == "dense" else line_style(number)
        ax.errorbar(
            100 * rows["density"].to_numpy() * shifts[number],
            rows["ratio"].to_numpy(),
            bars if np.isfinite(bars).any() else None,
            label=arm,
            linewidth=1.4,
            elinewidth=1,
            capsize=2,
            markersize=4.5,
            **style,
        )
    ax.axhline(1, color=DENSE, linestyle="--", linewidth=1.2)
    ax.set_yscale("log")
    write_percentages(ax.yaxis)
    fit_to_means(ax, table["ratio"], table["low"], table["high"], [1], log=True)
    ax.set_ylabel("steps of the ticket,\nrelative to the other's")
    write_legend(ax, "to a margin below what both reach, against", below=True)
    falls_to_the_right(ax)
    return Picture([ax])
