"""Colours and sizes that all plots share, legible at the width of a notebook."""

from __future__ import annotations

from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap

WIDTH = 6.4
"""Inches: 640 pixels in a notebook."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""For eyes of all kinds (Okabe and Ito 2008), without yellow, which is lost on white."""

ACCENT = "#D55E00"
DENSE = "0.45"
KEPT = "weights kept [%]"

_MARKERS = "osD^vP"
_LINES = ("-", "--", ":", "-.")


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


def in_percent(metric: str, values: pd.Series) -> bool:
    """Whether a metric is a share that reads better in percent: accuracies between 0 and 1."""
    return "acc" in metric.lower() and bool(values.between(0, 1).all())
