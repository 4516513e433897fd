"""Histograms of weights and of the connections of units."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from lottery.masks.masks import Masks
from lottery.plots.panels import SMALL, by_depth, captions, new_panels, tell_what_is_left_out, write_title
from lottery.plots.picture import Picture
from lottery.plots.style import ACCENT, PALETTE

MOST_PANELS = 6
BINS = 60
_LIGHT, _DARK = "#A6CEE3", PALETTE[0]


def weight_distributions(
    trained: Mapping[str, Tensor], before: Masks, after: Masks, *, ax: Axes | None = None
) -> Picture:
    """Trained weights before and after the pruning that follows them, a panel for each parameter.

    Args:
        trained: parameter name to the weights that a round ended with.
        before: the masks of that round: only weights alive under them are drawn.
        after: the masks of the next round: the weights that survive are drawn dark over the others. At most 6
            parameters have a panel, evenly by depth.
        ax: axes whose place in their figure the panels take; a figure of its own if it is not given.

    Raises:
        ValueError: the three do not have the same parameters, or their shapes differ.
    """
    before.check(trained, of="mask before pruning")
    after.check(before, of="mask after pruning")
    chosen = by_depth({name: before[name] for name in after}, MOST_PANELS)
    columns = min(2, len(chosen))
    figure, axes = new_panels([0.5] * len(chosen), columns, ax=ax)
    titles = captions(chosen, columns)
    for panel, title, (name, mask) in zip(axes, titles, chosen.items(), strict=True):
        weights = trained[name].detach().cpu().double()
        alive, survive = weights[mask], weights[after[name] & mask]
        finite = alive[alive.isfinite()]
        bound = (float(finite.abs().max()) if len(finite) else 0.0) or 1.0
        bins = np.linspace(-bound, bound, BINS + 1).tolist()
        panel.hist(finite.numpy(), bins, color=_LIGHT, label="alive before")
        panel.hist(survive[survive.isfinite()].numpy(), bins, color=_DARK, label="survive")
        panel.set_yscale("log")
        panel.set_ylim(bottom=0.7)
        lost = len(alive) - len(finite)
        write_title(
            panel, title, f"{len(survive):,} of {len(alive):,} survive", f"{lost:,} are not finite" if lost else ""
        )
        panel.set_xlabel("weight value", fontsize=SMALL)
        panel.set_ylabel("weights", fontsize=SMALL)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=SMALL, frameon=False
    )
    tell_what_is_left_out(figure, len(chosen), len(after))
    return Picture(axes)


def fans(masks: Masks, *, ax: Axes | None = None) -> Picture:
    """Histograms of fan-in and fan-out of the units of each parameter, dead units in an accent colour.

    Fan-in is what an output unit keeps of its weights, fan-out what an input unit keeps; each entry of a convolution
    kernel counts. Weights are (out, in, *kernel); in a grouped convolution `in` counts the inputs of one group.

    Args:
        masks: parameters with fewer than two dimensions are left out. At most 6 have a row of panels, evenly by
            depth.
        ax: axes whose place in their figure the panels take; a figure of its own if it is not given.

    Raises:
        ValueError: there is nothing to draw.
    """
    layers = {name: mask for name, mask in masks.items() if mask.dim() > 1}
    chosen = by_depth(layers, MOST_PANELS)
    figure, panels = new_panels([0.42] * 2 * len(chosen), 2, ax=ax)
    tell_what_is_left_out(figure, len(chosen), len(layers))
    for row, (title, mask) in enumerate(zip(captions(chosen, 2), chosen.values(), strict=True)):
        ends = (("outputs", "kept inputs per output", mask), ("inputs", "kept outputs per input", mask.transpose(0, 1)))
        for panel, (units, label, rows) in zip(panels[2 * row :], ends, strict=False):
            kept = rows.flatten(1).sum(1)
            dead = int((kept == 0).sum())
            _count_histogram(panel, kept)
            colour = " (orange)" if dead else ""
            write_title(panel, title, f"{dead:,} of {len(kept):,} {units} dead{colour}")
            panel.set_xlabel(label, fontsize=SMALL)
            panel.set_ylabel(units, fontsize=SMALL)
    return Picture(panels)


def _count_histogram(ax: Axes, kept: Tensor) -> None:
    """Bars of whole numbers; the first, for 0, has a place and a colour of its own."""
    width = max(1, -(-int(kept.max()) // 40))
    bars = -(-int(kept.max()) // width)
    counts = torch.bincount(-(-kept // width), minlength=bars + 1)
    # bar i holds the numbers from (i - 1) * width + 1 to i * width; bar 0 is as wide as the others to be seen
    right = np.arange(bars + 1) * width + 0.5
    drawn = ax.bar(right, counts.numpy(), -width, align="edge", color=PALETTE[0])
    drawn[0].set_facecolor(ACCENT)
    ax.set_xlim(0.5 - width, right[-1] + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
