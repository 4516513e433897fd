"""Density of each parameter: now, and over rounds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from lottery.plots.density_axis import DensityLocator, percentages, write_percentages
from lottery.plots.panels import SMALL, evenly, left_out, shortened
from lottery.plots.picture import Picture
from lottery.plots.style import ACCENT, HEIGHT, KEPT, PALETTE, dark_where_dense, ink, line_style, new_axes
from lottery.text.numbers import percent

MOST_LINES = 8
MOST_BARS = 60


def layer_bars(densities: Mapping[str, float], overall: float, ax: Axes | None = None) -> Picture:
    """Density of each parameter as horizontal bars, the whole network's as a line.

    Args:
        densities: parameter name to density, 0 to 1; of more than 60, as many evenly by depth.
        overall: density of the whole network.
        ax: axes to draw on; new ones if it is not given.
    """
    chosen = evenly(list(densities), MOST_BARS)
    high = min(0.3, (HEIGHT - 1) / len(chosen))
    ax = new_axes(1.0 + high * len(chosen)) if ax is None else ax
    names = shortened(chosen, 40)
    places = range(len(names))
    bars = ax.barh(places, [100 * densities[name] for name in chosen], color=PALETTE[0])
    behind = {"facecolor": ax.get_facecolor(), "edgecolor": "none", "pad": 0.5}
    ax.bar_label(bars, fmt="%.3g", padding=4, fontsize=SMALL + 1, bbox=behind)
    ax.set_yticks(places, names, fontsize=None if high == 0.3 else SMALL)
    if len(chosen) < len(densities):
        ax.set_title(left_out(len(chosen), len(densities)), loc="left", fontsize=SMALL + 1)
    ax.axvline(100 * overall, color=ACCENT, linestyle="--", label=f"all: {percent(overall)}")
    ax.invert_yaxis()
    ax.margins(x=0.12, y=0.3 / len(names))
    ax.set_xlabel(KEPT)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, borderpad=0)
    return Picture([ax])


def layer_densities(densities: pd.DataFrame, *, ax: Axes | None = None) -> Picture:
    """Density of each parameter over rounds: lines, or a heat map of more than 8 parameters.

    Args:
        densities: a row per round (the index), a column per parameter, 0 to 1; a column "all" is the whole network.
            An emptied parameter has no place on a logarithmic axis: a cross at the bottom marks the round.
        ax: axes to draw on; new ones if it is not given.

    Raises:
        ValueError: there are no rounds or no parameters.
    """
    if densities.empty:
        raise ValueError("there is nothing to draw: no rounds or no parameters")
    if densities.drop(columns="all", errors="ignore").shape[1] > MOST_LINES:
        return _heat_map(densities, ax)
    ax = new_axes() if ax is None else ax
    labels = shortened(map(str, densities.columns), 32)
    for number, (name, label) in enumerate(zip(densities, labels, strict=True)):
        whole = {"color": ink(), "linestyle": "--", "zorder": 3}
        style = whole if name == "all" else line_style(number)
        shares = 100 * densities[name]
        ax.plot(
            shares.index,
            shares.where(shares > 0),
            label=label,
            linewidth=max(1.2, 2.8 - 0.4 * number),  # to be seen where lines coincide
            markersize=max(3.0, 6.0 - number),
            **style,
        )
        emptied = shares.index[shares == 0]
        ax.plot(
            emptied,
            np.zeros(len(emptied)),
            "x",
            color=style["color"],
            transform=ax.get_xaxis_transform(),
            clip_on=False,
            label=f"{label}: no weight kept" if len(emptied) else None,
        )
    ax.set_yscale("log")
    write_percentages(ax.yaxis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("round")
    ax.set_ylabel(KEPT)
    ax.legend(fontsize="small")
    return Picture([ax])


def _heat_map(densities: pd.DataFrame, ax: Axes | None) -> Picture:
    names = shortened(map(str, densities.columns), 32)
    ax = new_axes(max(4.0, 1.0 + 0.17 * len(names))) if ax is None else ax
    shares = 100 * densities.to_numpy(dtype=float).T
    shown = np.ma.masked_less_equal(shares, 0)
    low, high = float(shown.min()), float(shown.max())
    colours = dark_where_dense().with_extremes(bad=ACCENT)
    image = ax.pcolormesh(
        densities.index,
        range(len(names)),
        shown,
        norm=LogNorm(min(low, 0.99 * high), high),
        cmap=colours,
        shading="nearest",
    )
    if shown.mask.any():
        ax.set_title("orange: no weight kept", fontsize=SMALL + 1)
    ax.set_yticks(range(len(names)), names, fontsize=SMALL)
    ax.invert_yaxis()
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("round")
    bar = ax.figure.colorbar(image, ax=ax, label=KEPT, ticks=DensityLocator(), format=percentages())
    bar.minorticks_off()
    return Picture([ax])
