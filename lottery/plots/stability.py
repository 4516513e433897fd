"""How stable training is: the error barrier between two trainings."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lottery.foundations.statistics.intervals import mean_interval
from lottery.plots.density_axis import falls_to_the_right
from lottery.plots.panels import mark_level
from lottery.plots.picture import Picture
from lottery.plots.style import PALETTE, fit_to_means, line_style, new_axes, write_legend
from lottery.text.numbers import percent


def barriers(points: pd.DataFrame, *, threshold: float = 0.02, ax: Axes | None = None) -> Picture:
    """The error barrier between two trainings of a ticket against density; below the threshold it is stable.

    Args:
        points: a row per seed and round: columns `density` (0 to 1), `round` and `height` (0 to 1), as `Study.barriers`
            makes them. Seeds are dots, their mean and its 95 % interval the line.
        threshold: what still counts as stable.
        ax: axes to draw on; new ones if it is not given.

    Raises:
        ValueError: there is no barrier.

    Source:
        Frankle et al. 2020, figures 3 and 5.
    """
    points = points[points["height"].notna()]
    if points.empty:
        raise ValueError("there is nothing to draw: no error barrier was measured")
    ax = new_axes() if ax is None else ax
    rounds = [rows for _, rows in points.groupby("round")]
    density = [100 * rows["density"].mean() for rows in rounds]
    means, low, high = 100 * np.transpose([mean_interval(r["height"]) for r in rounds])
    bars = (high - low) / 2
    several = np.isfinite(bars)
    ax.plot(
        100 * points["density"],
        100 * points["height"],
        "o",
        color=PALETTE[0],
        alpha=0.3,
        markersize=4,
        markeredgewidth=0,
        label="one seed" if several.any() else None,
    )
    ax.errorbar(
        density,
        means,
        bars if several.any() else None,
        label="mean, 95 % interval" if several.any() else "one seed",
        linewidth=1.8,
        elinewidth=1.2,
        capsize=2.5,
        markersize=4.5,
        **line_style(0),
    )
    mark_level(ax, 100 * threshold, f"stable below {percent(threshold)}")
    fit_to_means(ax, means, low, high, [0, 120 * threshold])
    falls_to_the_right(ax)
    ax.set_ylabel("error barrier [%]")
    write_legend(ax)
    return Picture([ax])
