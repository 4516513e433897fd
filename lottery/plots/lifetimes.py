"""The round in which each weight died."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from lottery.plots.drawing import draw_input, draw_picture, put_color_bar_below, set_color_bar
from lottery.plots.panels import (
    by_depth,
    captions,
    new_panels,
    pixels_across,
    tell_what_is_left_out,
    write_title,
)
from lottery.plots.picture import Picture
from lottery.plots.pixels import Pixels, as_pixels, fold, panel_height
from lottery.plots.style import ACCENT
from lottery.text.numbers import percent

MOST_PANELS = 12


def deaths(
    deaths: Mapping[str, Tensor],
    rounds: int,
    *,
    image_shape: Sequence[int] | None = None,
    columns: int | None = None,
    ax: Axes | None = None,
) -> Picture:
    """The round in which each weight died, from light to dark blue; survivors are orange.

    A block of a large matrix has the blue of the mean round of its dead, mixed with as much orange as there are
    survivors. With `image_shape` one more panel is for the first parameter: the mean round over the weights of each
    pixel, a survivor counting as `rounds`.

    Args:
        deaths: parameter name to integers: 0 where the mask of round 0 had pruned the weight, r where that of round r
            was the first to do so, `rounds` where it is alive. At most 12 have a panel, evenly by depth.
        rounds: number of rounds, with the dense one.
        image_shape: shape of the network's input, (height, width) or (channels, height, width).
        columns: panels in a row.
        ax: axes whose place in their figure the panels take; a figure of its own if it is not given.

    Raises:
        ValueError: there is nothing to draw, a round lies outside 0 to `rounds`, or the first parameter's inputs do
            not go with `image_shape`.
    """
    for name, died in deaths.items():
        if died.numel() and not 0 <= int(died.min()) <= int(died.max()) <= rounds:
            raise ValueError(
                f"{name}: died in rounds {int(died.min())} to {int(died.max())}, which is not within 0 to {rounds}"
            )
    chosen = by_depth(deaths, MOST_PANELS)
    first = next(iter(deaths))
    pixels = None if image_shape is None else _mean_per_pixel(deaths[first], image_shape)
    count = len(chosen) + (pixels is not None)
    columns = columns or min(count, 2 if count <= 4 else 3)
    colours = ScalarMappable(Normalize(0, max(1, rounds - 1)), matplotlib.colormaps["Blues"].with_extremes(over=ACCENT))
    pictures = [_fates(died, rounds, colours, pixels_across(columns)) for died in chosen.values()]
    heights = [shown.height for shown in pictures]
    if pixels is not None:
        heights.insert(0, panel_height(*pixels.shape))
    figure, panels = new_panels(heights, columns, head=0.75, foot=0.6, ax=ax)
    axes = panels[len(panels) - len(pictures) :]
    if pixels is not None:
        image = draw_input(panels[0], pixels)
        image.set_cmap("Blues")
        set_color_bar(panels[0], image, f"mean round (alive: {rounds})")
        name = captions([first], columns)[0]
        write_title(panels[0], name, "mean over the weights of a pixel")

    titles = captions(chosen, columns)
    for panel, title, died, shown in zip(axes, titles, chosen.values(), pictures, strict=True):
        draw_picture(panel, shown)
        alive = percent(float((died == rounds).double().mean()))
        write_title(panel, title, f"{alive} alive", shown.note)
    label = "round in which the weight died (orange: alive)"
    bar = put_color_bar_below(figure, colours, panels, label, extend="max")
    bar.ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    tell_what_is_left_out(figure, len(chosen), len(deaths))
    return Picture(panels)


def _fates(died: Tensor, rounds: int, colours: ScalarMappable, most: int) -> Pixels:
    """Red, green and blue of each weight or block."""
    shown = as_pixels(died == rounds, most)
    alive = shown.image.astype(float)
    summed = as_pixels(died.where(died < rounds, 0), most).image
    mean = summed / np.where(alive < 1, 1 - alive, 1)
    blue = colours.to_rgba(np.minimum(mean, rounds - 1))[..., :3]
    alive = alive[..., np.newaxis]
    return replace(shown, image=alive * to_rgb(ACCENT) + (1 - alive) * blue)


def _mean_per_pixel(died: Tensor, image_shape: Sequence[int]) -> np.ndarray:
    """Over outputs and channels."""
    if died.dim() != 2:
        raise ValueError(f"a parameter of shape {tuple(died.shape)} is not (outputs, inputs), which folds to an image")
    return fold(died.double().mean(0), image_shape).mean(0).numpy()
