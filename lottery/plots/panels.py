"""Figures of several panels, one for each parameter."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lottery.plots.style import ACCENT, WIDTH

SMALL = 8
"""Font size in points of titles, labels and ticks of a panel."""

T = TypeVar("T", bound=Tensor)


def new_panels(
    heights: Sequence[float], columns: int, *, head: float = 0.45, foot: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """A figure as wide as a notebook with a panel for each of `heights`, row by row.

    Args:
        heights: of each panel, over its width; the highest of a row makes the row.
        columns: panels in a row.
        head: inches that each row needs for titles and labels.
        foot: inches that the figure needs below its panels.
    """
    rows = [max(heights[i : i + columns]) * WIDTH / columns + head for i in range(0, len(heights), columns)]
    figure = plt.figure(figsize=(WIDTH, sum(rows) + foot + 0.3), layout="constrained")
    _leave_to_the_notebook(figure)
    grid = figure.add_gridspec(len(rows), columns, height_ratios=rows)
    axes = [figure.add_subplot(grid[divmod(i, columns)]) for i in range(len(heights))]
    for ax in axes:
        ax.tick_params(labelsize=SMALL)
    return figure, axes


def new_stack(heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """A figure as wide as a notebook with panels of these heights, in inches, over one x axis."""
    figure, axes = plt.subplots(
        len(heights),
        1,
        sharex=True,
        squeeze=False,
        figsize=(WIDTH, sum(heights)),
        height_ratios=heights,
        layout="constrained",
    )
    _leave_to_the_notebook(figure)
    return figure, list(axes[:, 0])


def largest(tensors: Mapping[str, T], most: int) -> dict[str, T]:
    """The `most` largest tensors that are not empty, in their own order.

    Raises:
        ValueError: all are empty.
    """
    full = {name: tensor for name, tensor in tensors.items() if tensor.numel()}
    if not full:
        raise ValueError(f"there is nothing to draw: {len(tensors)} parameters, none with weights")
    chosen = sorted(full, key=lambda name: -full[name].numel())[:most]
    return {name: tensor for name, tensor in full.items() if name in chosen}


def tell_what_is_left_out(figure: Figure, shown: int, total: int) -> None:
    """Say in the title that some parameters have no panel."""
    if shown < total:
        figure.suptitle(f"the {shown} largest of {total} parameters, {total - shown} left out", fontsize=SMALL + 1)


def shortened(names: Iterable[str], most: int) -> list[str]:
    """Names of at most so many characters: what all begin with goes first, then the middle.

    Example:
        >>> shortened(["encoder.layers.0.weight", "encoder.layers.1.weight"], 16)
        ['…0.weight', '…1.weight']
        >>> shortened(["encoder.layers.0.self_attn.in_proj_weight"], 24)
        ['encoder.lay…_proj_weight']
    """
    names = list(names)
    long = [name for name in names if len(name) > most]
    common = os.path.commonprefix(long).rpartition(".")[0]
    if common and len(long) > 1:
        names = [re.sub(f"^{re.escape(common)}\\.", "…", name) for name in names]
    return [
        name if len(name) <= most else f"{name[: (most - 1) // 2]}…{name[len(name) - most // 2 :]}" for name in names
    ]


def captions(names: Iterable[str], columns: int) -> list[str]:
    """Names that fit over a panel."""
    return shortened(names, round(90 / columns))


def pixels_across(columns: int) -> int:
    """Pixels that a panel has from left to right, at 100 to the inch."""
    return round(75 * WIDTH / columns)


def write_title(ax: Axes, *lines: str) -> None:
    """Write a panel's title, without the lines that are empty."""
    ax.set_title("\n".join(filter(None, lines)), fontsize=SMALL)


def _leave_to_the_notebook(figure: Figure) -> None:
    """A notebook shows the figure that a cell returns; left open, it would be shown once more."""
    if "inline" in matplotlib.get_backend():
        plt.close(figure)


def mark_level(ax: Axes, y: float, text: str) -> None:
    """A dotted line across the axes, with what it is above its left end."""
    ax.axhline(y, color=ACCENT, linestyle=":", linewidth=1.4)
    ax.annotate(
        text,
        (0.01, y),
        xycoords=ax.get_yaxis_transform(),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=SMALL,
        color=ACCENT,
    )
