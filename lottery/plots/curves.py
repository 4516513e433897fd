"""Metrics against density and over training steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from lottery.foundations.statistics.intervals import mean_interval
from lottery.plots.density_axis import DensityLocator, falls_to_the_right, percentages
from lottery.plots.picture import Picture
from lottery.plots.style import (
    DENSE,
    KEPT,
    dark_where_dense,
    fit_to_means,
    legend_height,
    line_style,
    new_axes,
    write_legend,
)
from lottery.text.wording import in_percent

_X_LABELS = {"step": "step [optimizer steps]", "epoch": "epoch"}


def against_density(points: pd.DataFrame, *, value: str, ylabel: str | None = None, ax: Axes | None = None) -> Picture:
    """A metric against density: one line per arm, the dense network as a band.

    A point is the mean over the runs of an arm that have the round, its bar the 95 % interval of that mean
    (Student's t); runs without a spread have no bar. The band is the same for the dense networks of the first arm.

    Args:
        points: a row per arm, run and round: columns `arm`, `run` (one per seed), `round`, `density` (0 to 1) and
            `value`. Rows without density or value are left out.
        value: the column to draw. Accuracies between 0 and 1 are drawn in percent.
        ylabel: label of the y axis; the column's name if it is not given.
        ax: axes to draw on; new ones if it is not given.

    Raises:
        ValueError: a column is missing, or no row has a value.

    Source:
        Frankle and Carbin 2019, figures 3 and 4: density falls to the right.
    """
    points = _with_values(points, ["arm", "run", "round", "density"], value)
    percent = in_percent(value, points[value])
    points = points.assign(shown=points[value] * (100 if percent else 1), density=100 * points["density"])
    arms = list(dict.fromkeys(points["arm"]))
    ax = new_axes(4 + legend_height(len(arms) + 1)) if ax is None else ax

    first = points[points["arm"] == arms[0]]
    dense = first[(first["round"] == 0) & (first["density"] == 100)]
    drawn = [_draw_dense(ax, dense["shown"])]
    for number, arm in enumerate(arms):
        rows = points[points["arm"] == arm]
        drawn.append(_draw_arm(ax, arm, rows, line_style(number)))
    fit_to_means(ax, *np.concatenate(drawn, axis=1))

    falls_to_the_right(ax)
    ax.set_ylabel(_with_unit(value if ylabel is None else ylabel, percent))
    write_legend(ax, title=_legend_title(points))
    return Picture([ax])


def early_stop(points: pd.DataFrame, *, ax: Axes | None = None) -> Picture:
    """The step of the best validation against density; `against_density` of the column `best_step`.

    Source:
        Frankle and Carbin 2019, figure 3: winning tickets learn faster.
    """
    return against_density(points, value="best_step", ylabel="step of best validation [optimizer steps]", ax=ax)


def learning_curves(history: pd.DataFrame, *, metric: str, by: str = "step", ax: Axes | None = None) -> Picture:
    """A metric of all rounds over training, coloured by density; the dense round is thicker.

    Args:
        history: a row per round and time: columns `round`, `density` (0 to 1), `step`, `epoch` and `metric`. Rows
            without the metric are left out.
        metric: the column to draw. Accuracies between 0 and 1 are drawn in percent.
        by: "step" or "epoch".
        ax: axes to draw on; new ones if it is not given.

    Raises:
        ValueError: `by` is something else, a column is missing, or no row has the metric.
    """
    if by not in _X_LABELS:
        raise ValueError(f"by={by!r}: write {' or '.join(map(repr, _X_LABELS))}")
    history = _with_values(history, ["round", "density", by], metric)
    percent = in_percent(metric, history[metric])
    ax = new_axes() if ax is None else ax

    sparsest, densest = 100 * history["density"].min(), 100 * history["density"].max()
    colours = dark_where_dense()
    norm = LogNorm(min(sparsest, 0.99 * densest), densest)
    for _, rows in sorted(history.groupby("round"), reverse=True):
        rows = rows.sort_values(by)
        density = float(rows["density"].iloc[0])
        ax.plot(
            rows[by],
            rows[metric] * (100 if percent else 1),
            color=colours(norm(100 * density)),
            linewidth=2.8 if density == 1 else 1.3,
            marker="o" if len(rows) <= 20 else None,
            markersize=4 if density == 1 else 3,
        )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(_X_LABELS[by])
    ax.set_ylabel(_with_unit(metric, percent))
    if sparsest < densest:
        bar = ax.figure.colorbar(
            ScalarMappable(norm, colours), ax=ax, label=KEPT, ticks=DensityLocator(), format=percentages()
        )
        bar.minorticks_off()
    return Picture([ax])


def _draw_dense(ax: Axes, values: pd.Series) -> np.ndarray:
    """Returns mean, low and high."""
    mean, low, high = mean_interval(values)
    if low < high:
        ax.axhspan(low, high, color=DENSE, alpha=0.25, linewidth=0, label="dense")
    if len(values):
        label = None if low < high else "dense"
        ax.axhline(mean, color=DENSE, linestyle="--", linewidth=1.2, label=label)
    return np.array([[mean], [low], [high]])


def _draw_arm(ax: Axes, arm: str, rows: pd.DataFrame, style: dict[str, Any]) -> np.ndarray:
    """Returns means, lows and highs."""
    rounds = [group for _, group in rows.groupby("round")]
    means, low, high = np.transpose([mean_interval(group["shown"]) for group in rounds])
    half = (high - low) / 2
    several = np.array([len(group) > 1 for group in rounds])
    ax.errorbar(
        [group["density"].mean() for group in rounds],
        means,
        half if np.isfinite(half).any() else None,
        label=arm,
        linewidth=1.8 if several.any() else 1.0,
        elinewidth=1.2,
        capsize=2.5,
        markersize=4.5 if several.any() else 3,
        **style,
    )
    return np.array([means, low, high])


def _legend_title(points: pd.DataFrame) -> str | None:
    runs = points.groupby("arm")["run"].nunique()
    several = runs[runs > 1]
    if several.empty:
        return None
    counts = " to ".join(map(str, dict.fromkeys([several.min(), several.max()])))
    return f"mean of {counts} runs, 95 % interval"


def _with_unit(label: str, percent: bool) -> str:
    return f"{label} [%]" if percent and "%" not in label else label


def _with_values(frame: pd.DataFrame, needed: Sequence[str], value: str) -> pd.DataFrame:
    """The rows that have a density above 0 and a value."""
    missing = [name for name in [*needed, value] if name not in frame.columns]
    if missing:
        raise ValueError(
            f"there is no column {', '.join(map(repr, missing))}; the columns are {', '.join(map(str, frame.columns))}"
        )
    rows = frame[frame["density"].gt(0) & frame[value].notna()]
    if rows.empty:
        raise ValueError(f"there is nothing to draw: no row has a value of {value!r} and a density above 0")
    return rows
