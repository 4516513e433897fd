"""Masks as images."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.ticker import FuncFormatter, LogLocator
from torch import Tensor

from lottery.masks.masks import Masks
from lottery.plots.density_axis import plain
from lottery.plots.drawing import draw_input, draw_picture, put_color_bar_below, set_color_bar
from lottery.plots.panels import (
    SMALL,
    by_depth,
    captions,
    new_panels,
    pixels_across,
    tell_what_is_left_out,
    write_title,
)
from lottery.plots.picture import Picture
from lottery.plots.pixels import as_pixels, fold, panel_height
from lottery.plots.style import new_axes
from lottery.text.numbers import percent

MOST_PANELS = 12


def mask_images(
    masks: Masks,
    *,
    image_shape: Sequence[int] | None = None,
    columns: int | None = None,
    ax: Axes | None = None,
) -> Picture:
    """Each mask as an image, outputs downwards: kept weights black, pruned ones white.

    A matrix with more rows or columns than its panel has pixels is averaged in blocks, and a convolution of more than
    16 x 16 kernels over each kernel: grey is the share kept, on one logarithmic scale for all panels. Fewer kernels are
    side by side, blue lines between them.

    Args:
        masks: at most 12 have a panel, evenly from the first to the last.
        image_shape: shape of the network's input, (height, width) or (channels, height, width): one more panel shows
            how many weights of the first parameter each pixel keeps.
        columns: panels in a row.
        ax: axes whose place in their figure the panels take; a figure of its own if it is not given.

    Raises:
        ValueError: there is nothing to draw, or the first parameter's inputs do not go with `image_shape`.
    """
    chosen = by_depth(masks, MOST_PANELS)
    count = len(chosen) + (image_shape is not None)
    columns = columns or min(count, 2 if count <= 4 else 3)
    pictures = [as_pixels(mask, pixels_across(columns)) for mask in chosen.values()]
    heights = [shown.height for shown in pictures]
    if image_shape is not None:
        heights.insert(0, panel_height(*image_shape[-2:]))
    shares = [shown.image for shown in pictures if shown.image.dtype != bool]
    figure, panels = new_panels(heights, columns, head=0.7, foot=0.6 * bool(shares), ax=ax)
    scale = _scale(shares)
    axes = panels[len(panels) - len(pictures) :]
    if image_shape is not None:
        first = next(iter(masks))
        input_image(masks[first], image_shape=image_shape, ax=panels[0])
        write_title(panels[0], *captions([first], columns))

    titles = captions(chosen, columns)
    for panel, title, mask, shown in zip(axes, titles, chosen.values(), pictures, strict=True):
        draw_picture(panel, shown).set(cmap=scale.cmap, norm=scale.norm)
        density = int(mask.sum()) / mask.numel()
        shape = "×".join(map(str, mask.shape))
        write_title(panel, title, f"{shape}, {percent(density)} kept", shown.note)
    if shares:
        bar = put_color_bar_below(figure, scale, axes, "share kept [%]")
        bar.ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda share, _: plain(100 * share)))
        bar.minorticks_off()
    tell_what_is_left_out(figure, len(chosen), len(masks))
    return Picture(panels)


def _scale(shares: Sequence[np.ndarray]) -> ScalarMappable:
    """From white, where nothing is kept, to black, where all is; grey by the logarithm of the share."""
    least = min((float(image[image > 0].min()) for image in shares if image.any()), default=0.1)
    greys = ListedColormap(matplotlib.colormaps["Greys"](np.linspace(0.2, 1, 256))).with_extremes(
        bad="white", under="white"
    )
    return ScalarMappable(LogNorm(min(least, 0.5), 1), greys)


def input_image(mask: Tensor, *, image_shape: Sequence[int] | None = None, ax: Axes | None = None) -> Picture:
    """How many weights each pixel of the input keeps: a first layer's mask, folded back to the image.

    Args:
        mask: (outputs, inputs), boolean. Channels of a pixel are added up.
        image_shape: (height, width) or (channels, height, width); a square of 1 or 3 channels if it is not given.
        ax: axes to draw on; new ones if it is not given.

    Raises:
        ValueError: the mask has not two dimensions, or its inputs are no such image.
    """
    kept = fold(_matrix(mask).sum(0), image_shape).sum(0).numpy()
    ax = new_axes(0.6 + 4 * panel_height(*kept.shape)) if ax is None else ax
    image = draw_input(ax, kept)
    image.set(cmap="Greys", clim=(0, kept.max() or 1))
    set_color_bar(ax, image, "kept weights per pixel")
    return Picture([ax])


def unit_images(
    mask: Tensor, *, image_shape: Sequence[int] | None = None, units: int = 25, ax: Axes | None = None
) -> Picture:
    """What single units of a first layer see: their masks folded back to the image, most kept first.

    Args:
        mask: (outputs, inputs), boolean. Of several channels a pixel shows the share that is kept.
        image_shape: (height, width) or (channels, height, width); a square of 1 or 3 channels if it is not given.
        units: how many to show.
        ax: axes whose place in their figure the panels take; a figure of its own if it is not given.

    Raises:
        ValueError: the mask has not two dimensions, its inputs are no such image, or `units` is not positive.
    """
    if units < 1:
        raise ValueError(f"units={units}: at least 1 is needed")
    images = fold(_matrix(mask), image_shape).float().mean(1)
    kept = mask.sum(1)
    order = torch.argsort(kept, descending=True, stable=True)[:units]
    columns = min(5, len(order))
    heights = [panel_height(*images.shape[1:])] * len(order)
    figure, axes = new_panels(heights, columns, head=0.2, ax=ax)
    for panel, unit in zip(axes, order.tolist(), strict=True):
        draw_input(panel, images[unit].numpy()).set(cmap="Greys", clim=(0, 1))
        panel.set(xticks=[], yticks=[], xlabel="", ylabel="")
        write_title(panel, f"unit {unit}: {int(kept[unit]):,} kept")
    if len(order) < len(mask):
        figure.suptitle(f"{len(order)} of {len(mask)} units, most kept first", fontsize=SMALL + 1)
    return Picture(axes)


def _matrix(mask: Tensor) -> Tensor:
    if mask.dim() != 2:
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} is not (outputs, inputs), which folds to an image;"
            " mask_images draws it"
        )
    return mask
