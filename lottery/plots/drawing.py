"""Images on axes: a parameter, and the input of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from lottery.plots.panels import SMALL, Sheet
from lottery.plots.pixels import Pixels, panel_height
from lottery.plots.style import PALETTE


def draw_picture(ax: Axes, shown: Pixels) -> AxesImage:
    """Draw a parameter, outputs downwards, and the lines between its kernels."""
    rows, columns = shown.size
    tiled = shown.kernel != (1, 1)
    squeezed = shown.height != rows / columns
    image = ax.imshow(
        shown.image,
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
        aspect="auto" if squeezed and not tiled else "equal",
        interpolation="nearest",
    )
    ax.set_xlabel("input", fontsize=SMALL)
    ax.set_ylabel("output", fontsize=SMALL)
    if tiled:
        ax.grid(False)
        ax.set(xticks=[], yticks=[])
        height, width = shown.kernel
        between: dict[str, Any] = {"color": PALETTE[0], "linewidth": 0.5}
        ax.hlines(np.arange(height, rows, height) - 0.5, -0.5, columns - 0.5, **between)
        ax.vlines(np.arange(width, columns, width) - 0.5, -0.5, rows - 0.5, **between)
    else:
        _count_pixels(ax)
    return image


def draw_input(ax: Axes, pixels: np.ndarray) -> AxesImage:
    """Draw an image as the network gets it."""
    rows, columns = pixels.shape
    squeezed = panel_height(rows, columns) != rows / columns
    image = ax.imshow(pixels, aspect="auto" if squeezed else "equal", interpolation="nearest")
    ax.set_xlabel("x [pixels]", fontsize=SMALL)
    ax.set_ylabel("y [pixels]", fontsize=SMALL)
    _count_pixels(ax)
    return image


def _count_pixels(ax: Axes) -> None:
    ax.grid(False)
    ax.set_anchor("N")
    ax.tick_params(labelsize=SMALL)
    rows, columns = (abs(high - low) for low, high in (ax.get_ylim(), ax.get_xlim()))
    flat = panel_height(round(rows), round(columns)) < 0.5
    for axis, ticks in ((ax.xaxis, 5), (ax.yaxis, 2 if flat else 5)):
        axis.set_major_locator(MaxNLocator(ticks, integer=True, min_n_ticks=1))


def put_color_bar_below(
    sheet: Sheet, scale: ScalarMappable, panels: Sequence[Axes], label: str, **options: Any
) -> Colorbar:
    """Put one color bar below all panels."""
    height = sheet.bbox.height / sheet.figure.dpi
    bar = sheet.colorbar(
        scale, ax=panels, location="bottom", panchor=False, shrink=0.6, aspect=30, fraction=0.3 / height,
        pad=0.1 / height, **options,
    )  # fmt: skip
    bar.ax.tick_params(labelsize=SMALL)
    bar.set_label(label, fontsize=SMALL)
    return bar


def set_color_bar(ax: Axes, image: AxesImage, label: str) -> None:
    """Put a color bar beside an image, as high as the image."""
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.04, 0, 0.05, 1)))
    bar.set_label(label, fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
