"""Pictures of a ticket: what each is drawn from. A new one is a function with `@gallery.picture(name)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lottery import plots
from lottery.plots.gallery import Gallery

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lottery.masks.masks import Masks


gallery = Gallery()
"""Each takes the masks, `ax`, and options of its own."""


@gallery.picture("layers")
def _layers(masks: Masks, ax: Axes | None, **options: Any) -> Axes:
    return plots.layer_bars(masks.densities(), masks.density, ax=ax, **options)


@gallery.picture("masks")
def _masks(masks: Masks, ax: Axes | None, **options: Any) -> Figure:
    return plots.mask_images(masks, **options)


@gallery.picture("inputs")
def _inputs(masks: Masks, ax: Axes | None, **options: Any) -> Axes:
    return plots.input_image(next(iter(masks.values())), ax=ax, **options)


@gallery.picture("units")
def _units(masks: Masks, ax: Axes | None, **options: Any) -> Figure:
    return plots.unit_images(next(iter(masks.values())), **options)


@gallery.picture("fans")
def _fans(masks: Masks, ax: Axes | None, **options: Any) -> Figure:
    return plots.fans(masks, **options)
