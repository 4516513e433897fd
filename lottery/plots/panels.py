"""Figures of several panels, one for each parameter."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from lottery.plots.picture import Picture
from lottery.plots.style import ACCENT, HEIGHT, WIDTH

SMALL = 8
"""Font size in points of titles, labels and ticks of a panel."""

T = TypeVar("T")


Sheet: TypeAlias = "Figure | SubFigure"
"""What several panels are drawn on."""


def new_panels(
    heights: Sequence[float], columns: int, *, head: float = 0.45, foot: float = 0.0, ax: Axes | None = None
) -> tuple[Sheet, list[Axes]]:
    """A figure as wide as a notebook with a panel for each of `heights`, row by row.

    Args:
        heights: of each panel, over its width; the highest of a row makes the row. Where they would be higher than a
            page, all become smaller.
        columns: panels in a row.
        head: inches that each row needs for titles and labels.
        foot: inches that the figure needs below its panels.
        ax: whose place the panels take instead, in its own figure.

    Raises:
        ValueError: `ax` has no place in a grid.
    """
    highest = [max(heights[i : i + columns]) * WIDTH / columns for i in range(0, len(heights), columns)]
    room = HEIGHT - foot - head * len(highest)
    squeezed = min(1.0, max(room / sum(highest), 0.3))
    rows = [squeezed * height + head for height in highest]
    figure = _sheet(sum(rows) + foot + 0.3, ax)
    grid = figure.add_gridspec(len(rows), columns, height_ratios=rows)
    axes = [figure.add_subplot(grid[divmod(i, columns)]) for i in range(len(heights))]
    for panel in axes:
        panel.tick_params(labelsize=SMALL)
    return figure, axes


def new_stack(heights: Sequence[float], ax: Axes | None = None) -> list[Axes]:
    """Panels of these heights, in inches, over one x axis: of a figure as wide as a notebook, or in the place of `ax`.

    Raises:
        ValueError: `ax` has no place in a grid.
    """
    sheet = _sheet(sum(heights), ax)
    return list(sheet.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])


def _sheet(height: float, ax: Axes | None) -> Sheet:
    if ax is None:
        return plt.figure(figsize=(WIDTH, height), layout="constrained")
    place, parent = ax.get_subplotspec(), ax.figure
    if place is None:
        raise ValueError(
            "ax was put into its figure by hand, and several panels need a place in a grid: give one of plt.subplots(),"
            " or leave ax out"
        )
    ax.remove()
    return parent.add_subfigure(place)


def beside(arms: Mapping[str, T], ax: Axes | None, draw: Callable[[T, Axes | None], Picture]) -> Picture:
    """A panel for each arm, with its name, over one y axis; of one arm alone, its picture."""
    if len(arms) == 1:
        return draw(next(iter(arms.values())), ax)
    panels = new_panels([0.8] * len(arms), 2, ax=ax)[1]
    for panel, (arm, what) in zip(panels, arms.items(), strict=True):
        draw(what, panel)
        panel.set_title(arm)
    bottom, top = zip(*(panel.get_ylim() for panel in panels), strict=True)
    if all(low < high for low, high in zip(bottom, top, strict=True)):
        for panel in panels:
            panel.set_ylim(min(bottom), max(top))
    return Picture(panels)


def by_depth(tensors: Mapping[str, Tensor], most: int) -> dict[str, Tensor]:
    """At most so many of the tensors that are not empty, evenly from the first to the last.

    Raises:
        ValueError: all are empty.
    """
    full = [name for name, tensor in tensors.items() if tensor.numel()]
    if not full:
        raise ValueError(f"there is nothing to draw: {len(tensors)} parameters, none with weights")
    return {name: tensors[name] for name in evenly(full, most)}


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, the first and the last among them.

    Example:
        >>> evenly("abcdefghi", 3), evenly("ab", 3)
        (['a', 'e', 'i'], ['a', 'b'])
    """
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, min(most, len(items)))]


def tell_what_is_left_out(figure: Sheet, shown: int, total: int) -> None:
    """Say in the title that some parameters have no panel."""
    if shown < total:
        figure.suptitle(left_out(shown, total), fontsize=SMALL + 1)


def left_out(shown: int, total: int) -> str:
    return f"{shown} of {total} parameters, evenly by depth; include='...' chooses others"


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
