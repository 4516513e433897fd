"""Arms of a study against density, and how much better the ticket is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lottery.plots.curves import against_density
from lottery.plots.density_axis import falls_to_the_right, side_by_side
from lottery.plots.panels import mark_level, new_stack
from lottery.plots.picture import Picture
from lottery.plots.style import DENSE, fit_to_means, ink, legend_height, line_style, new_axes, write_legend

_MARKS = {"wins": ("*", 46), "matching": ("o", 12), "below": ("x", 14)}
"""Of the rounds whose label says something: marker and its area."""


def study_metric(
    points: pd.DataFrame,
    *,
    value: str = "value",
    ylabel: str | None = None,
    labels: pd.DataFrame | None = None,
    ax: Axes | None = None,
) -> Picture:
    """A metric of a study against density: ticket and controls as lines, dense as a band.

    Args:
        points: a row per training: columns `arm` ("dense", "ticket" or a control), `seed`, `round`, `density` (0 to 1)
            and `value`, as `Study.points` makes them. The ticket's line begins at dense, its round 0.
        value: the column to draw. Accuracies between 0 and 1 are drawn in percent.
        ylabel: what it is; label of the y axis.
        labels: a row per round: columns `density` and `label` ("wins", "matching", "below" or "open"), as
            `Evidence.table` makes them; drawn as a row of marks at the top.
        ax: axes to draw on; new ones if it is not given.

    Raises:
        ValueError: a column is missing, or no row has a value.

    Source:
        Frankle and Carbin 2019, figures 3 to 5.
    """
    lines = points.assign(arm=points["arm"].replace("dense", "ticket"))
    if ylabel is not None:  # whose name tells whether it is an accuracy
        lines, value = lines.rename(columns={value: ylabel}), ylabel
    if ax is None:
        marks = 0 if labels is None else labels["label"].isin(_MARKS).sum()
        entries = lines["arm"].nunique() + 1 + min(marks, len(_MARKS))
        ax = new_axes(4 + legend_height(entries))
    against_density(lines.rename(columns={"seed": "run"}), value=value, ax=ax)
    if labels is not None and _mark_rounds(ax, labels):
        legend = ax.get_legend()
        title = None if legend is None else legend.get_title().get_text()
        write_legend(ax, title)
    return Picture([ax])


def gains(
    table: pd.DataFrame,
    *,
    margin: float,
    percent: bool,
    labels: pd.DataFrame | None = None,
    seeds: pd.DataFrame | None = None,
    ax: Axes | None = None,
) -> Picture:
    """How much better the ticket is than dense, and than each control, with 95 % intervals; each seed is a dot.

    Args:
        table: a row per comparison and round: columns `against` ("dense" or a control), `density` (0 to 1), `gain`,
            `low` and `high`. A gain is positive where the ticket is better; a row without an interval has no bar.
        margin: how much worse than dense is still as good.
        percent: whether gains are shares, to be drawn in percentage points.
        labels: as for `study_metric`.
        seeds: a row per comparison, round and seed: columns `against`, `density` and `gain`.
        ax: axes whose place in their figure the panels take; a figure of its own if it is not given.

    Raises:
        ValueError: no row has a gain.
    """
    table = table[np.isfinite(table["gain"])]
    if table.empty:
        raise ValueError("there is nothing to draw: no gain is known of any round")
    factor, unit = (100, " [points]") if percent else (1, "")
    shown = table.assign(**{name: factor * table[name] for name in ("gain", "low", "high")})
    dots = pd.DataFrame(columns=["against", "density", "gain"]) if seeds is None else seeds
    dots = dots.assign(gain=factor * dots["gain"])
    arms = [arm for arm in dict.fromkeys(shown["against"]) if arm != "dense"]
    legend = legend_height(len(arms), below=True)
    axes = new_stack([2.6, 3 + legend] if arms else [3.2], ax)
    dark: dict[str, Any] = {"color": ink(), "marker": "o", "linestyle": "-"}
    to_dense = shown[shown["against"] == "dense"]
    _draw_gains(axes[0], {"dense": to_dense}, {"dense": dark}, [0, -factor * margin], dots)
    mark_level(axes[0], -factor * margin, f"margin: {_size(factor * margin, percent)} below dense")
    axes[0].set_ylabel(f"ticket − dense{unit}")
    if labels is not None and _mark_rounds(axes[0], labels):
        axes[0].legend(
            loc="lower right",
            bbox_to_anchor=(1, 0.98),
            ncols=len(_MARKS),
            frameon=False,
            fontsize="small",
            handletextpad=0.2,
        )
    if arms:
        rows = {arm: shown[shown["against"] == arm] for arm in arms}
        styles = {arm: line_style(i) for i, arm in enumerate(arms, 1)}
        _draw_gains(axes[1], rows, styles, [0], dots)
        axes[1].set_ylabel(f"ticket − control{unit}")
        title = "gain of the ticket over, each seed a dot, mean with 95 % interval"
        write_legend(axes[1], title, below=True)
    falls_to_the_right(axes[-1])
    return Picture(axes)


def _draw_gains(
    ax: Axes,
    rows: dict[str, pd.DataFrame],
    styles: dict[str, dict[str, Any]],
    lines: Sequence[float],
    dots: pd.DataFrame,
) -> None:
    every = pd.concat(list(rows.values()))
    shifts = side_by_side(every["density"], len(rows))
    for shift, (arm, found) in zip(shifts, rows.items(), strict=True):
        seeds = dots[dots["against"] == arm]
        ax.scatter(
            100 * seeds["density"] * shift, seeds["gain"], s=9, color=styles[arm]["color"], alpha=0.35, linewidths=0
        )
        half = ((found["high"] - found["low"]) / 2).to_numpy()
        ax.errorbar(
            100 * found["density"].to_numpy() * shift,
            found["gain"].to_numpy(),
            half if np.isfinite(half).any() else None,
            label=None if arm == "dense" else arm,
            linewidth=1.5,
            elinewidth=1.1,
            capsize=2.5,
            markersize=4.5,
            **styles[arm],
        )
    ax.axhline(0, color=DENSE, linewidth=1)
    fit_to_means(ax, every["gain"], every["low"], every["high"], lines)


def _size(amount: float, percent: bool) -> str:
    unit = "" if not percent else " point" if amount == 1 else " points"
    return f"{amount:g}{unit}"


def _mark_rounds(ax: Axes, labels: pd.DataFrame) -> bool:
    """A row of marks at the top, one for each round whose label says something; whether there is any."""
    if not labels["label"].isin(_MARKS).any():
        return False
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, top + 0.08 * (top - bottom))
    for label, (marker, size) in _MARKS.items():
        rows = labels[labels["label"] == label]
        if rows.empty:
            continue
        ax.scatter(
            100 * rows["density"],
            np.full(len(rows), 0.96),
            s=size,
            c=ink(),
            marker=marker,
            linewidths=1,
            transform=ax.get_xaxis_transform(),
            label=label,
        )
    return True
