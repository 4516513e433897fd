"""How fast arms of a study learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lottery.plots.density_axis import falls_to_the_right, side_by_side, write_percentages
from lottery.plots.panels import SMALL, new_stack
from lottery.plots.picture import Picture
from lottery.plots.style import DENSE, fit_to_means, ink, legend_height, line_style, write_legend

_ROW = 0.19  # inches of a row of numbers


def learning_speed(table: pd.DataFrame, *, ax: Axes | None = None) -> Picture:
    """Steps to dense's level relative to dense, by arm, over a table of how many seeds got there.

    Args:
        table: a row per arm and round: columns `arm`, `density` (0 to 1), `seeds` (trained), `reached` (how many of
            them got to dense's level), `ratio` (of steps to dense's; NaN where none got there), `low` and `high`; as
            `Evidence.speed` makes them.
        ax: axes whose place in their figure the panels take; a figure of its own if it is not given.

    Raises:
        ValueError: no arm has got to dense's level in any round.
    """
    if not table["reached"].any():
        raise ValueError("there is nothing to draw: no arm got to dense's best validation value in any round")
    arms = list(dict.fromkeys(table["arm"]))
    legend = legend_height(len(arms), below=True)
    ax, below = new_stack([3.2 + legend, 0.6 + _ROW * len(arms)], ax)
    shifts = side_by_side(table["density"], len(arms))
    for number, arm in enumerate(arms):
        rows = table[(table["arm"] == arm) & table["ratio"].notna()]
        style = line_style(number)
        there = 100 * rows["density"].to_numpy() * shifts[number]
        bars = np.abs(rows[["low", "high"]].sub(rows["ratio"], axis=0)).T.to_numpy()
        ax.errorbar(
            there,
            rows["ratio"].to_numpy(),
            bars if np.isfinite(bars).any() else None,
            label=arm,
            linewidth=1.4,
            elinewidth=1,
            capsize=2,
            markersize=4.5,
            markerfacecolor=ax.get_facecolor(),
            **style,
        )
        every = (rows["reached"] == rows["seeds"]).to_numpy()
        ax.plot(
            there[every],
            rows["ratio"][every],
            style["marker"],
            color=style["color"],
            markersize=4.5,
            zorder=3,  # over the hollow one
        )
    ax.axhline(1, color=DENSE, linestyle="--", linewidth=1.2)
    ax.annotate(
        "dense",
        (1, 1),
        xycoords=ax.get_yaxis_transform(),
        xytext=(-4, 3),
        textcoords="offset points",
        ha="right",
        fontsize=SMALL,
        color=ink(),
    )
    ax.set_yscale("log")
    write_percentages(ax.yaxis)
    fit_to_means(ax, table["ratio"], table["low"], table["high"], [1], log=True)
    ax.set_ylabel("steps to dense's level,\nrelative to dense")
    write_legend(ax, "hollow: not all seeds got there", below=True, away=1)
    _write_counts(below, table, arms)
    falls_to_the_right(ax)
    falls_to_the_right(below)
    most, least = 100 * table["density"].max(), 100 * table["density"].min()
    air = (most / least) ** 0.05 if most > least else 1.1
    ax.set_xlim(most * air, least / air)  # also where no arm got there
    ax.set_xlabel("")
    return Picture([ax, below])


def _write_counts(ax: Axes, table: pd.DataFrame, arms: Sequence[str]) -> None:
    """A row of numbers for each arm: of how many seeds got there."""
    for row in table.to_dict("records"):
        ax.text(
            100 * row["density"],
            arms.index(row["arm"]),
            f"{row['reached']}",
            ha="center",
            va="center",
            fontsize=SMALL,
            color=ink() if row["reached"] else "0.7",
        )
    ax.set_ylim(len(arms) - 0.4, -0.6)
    ax.set_yticks(range(len(arms)), arms, fontsize=SMALL)
    for number, text in enumerate(ax.get_yticklabels()):
        text.set_color(line_style(number)["color"])
    ax.tick_params(axis="y", length=0)
    ax.spines[["left", "right", "top"]].set_visible(False)
    few, most = table["seeds"].min(), table["seeds"].max()
    of = f"{most}" if few == most else f"{few} to {most}"
    ax.set_title(f"seeds that got there, of {of}", fontsize=SMALL, loc="left", pad=2)
