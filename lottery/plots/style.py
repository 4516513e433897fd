"""Colours and sizes that all plots share, legible at the width of a notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from numpy.typing import ArrayLike

WIDTH = 6.4
"""Inches: 640 pixels in a notebook."""

HEIGHT = 11.5
"""Inches: the most that a picture has from top to bottom."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""For eyes of all kinds (Okabe and Ito 2008), without yellow, which is lost on white."""

ACCENT = "#D55E00"
DENSE = "0.45"
KEPT = "weights kept [%]"

_MOST_INSIDE = 4
"""Lines in a legend inside the axes."""
_COLUMNS = 4
"""Of a legend below them, one less where a name is longer than..."""
_LONGEST = 16

_MARKERS = "osD^vP"
_LINES = ("-", "--", ":", "-.")


def ink() -> str:
    """The colour of text and of what is as dark as text, on the background that the style has."""
    return str(matplotlib.rcParams["text.color"])


def line_style(number: int) -> dict[str, Any]:
    """Colour, marker and line of the line with this number; the first 24 differ."""
    lap, place = divmod(number, len(PALETTE))
    return {
        "color": PALETTE[place],
        "marker": _MARKERS[(place + lap) % len(_MARKERS)],
        "linestyle": _LINES[lap % len(_LINES)],
    }


def dark_where_dense() -> Colormap:
    """Colours from sparse to dense, without the palest, which are lost on white."""
    viridis = matplotlib.colormaps["viridis_r"].resampled(256)
    return ListedColormap([viridis(place) for place in range(32, 256)])


def new_axes(height: float = 4.0) -> Axes:
    """Axes in a figure of their own, as wide as a notebook."""
    return plt.subplots(figsize=(WIDTH, height), layout="constrained")[1]


def write_legend(ax: Axes, title: str | None = None, *, below: bool = False, away: float = 4.6) -> None:
    """A legend inside the axes; below them, in columns, where many lines would hide what they explain.

    Args:
        ax: the axes, whose lines have labels.
        title: of the legend.
        below: whether it is below them even with few lines.
        away: how far below, in font sizes; the default leaves room for ticks and a label.
    """
    handles, labels = ax.get_legend_handles_labels()
    where: dict[str, Any] = {}
    if below or len(handles) > _MOST_INSIDE:
        where = {
            "loc": "upper center",
            "bbox_to_anchor": (0.5, 0.0),
            "borderaxespad": away,
            "ncols": _COLUMNS if max(map(len, labels)) <= _LONGEST else _COLUMNS - 1,
        }
    ax.legend(title=title, fontsize="small", title_fontsize="small", alignment="left", handlelength=2.8, **where)


def legend_height(lines: int, *, below: bool = False) -> float:
    """Inches that `write_legend` needs below the axes."""
    if not below and lines <= _MOST_INSIDE:
        return 0.0
    return 0.3 + 0.19 * math.ceil(lines / _COLUMNS)


def fit_to_means(
    ax: Axes, means: ArrayLike, low: ArrayLike, high: ArrayLike, lines: Sequence[float] = (), log: bool = False
) -> None:
    """Let the y axis hold all means and lines, and their intervals as far as these do not dwarf the rest.

    Two seeds have intervals that are thirty times as wide as the distance between them: they may leave the picture.
    """
    to, back = (np.log, np.exp) if log else (np.asarray, np.asarray)
    inside = to(np.append(np.asarray(means, dtype=float), lines))
    inside = inside[np.isfinite(inside)]
    bottom, top = inside.min(), inside.max()
    if bottom == top:
        return
    ends = [to(np.asarray(end, dtype=float)) for end in (low, high)]
    room = top - bottom
    lowest = max(np.nanmin([bottom, *ends[0]]), bottom - room)
    highest = min(np.nanmax([top, *ends[1]]), top + room)
    air = 0.05 * (highest - lowest)
    ax.set_ylim(*back([lowest - air, highest + air]))
