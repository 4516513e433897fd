"""Pictures of a ticket: what each is drawn from. A new one is a function with `@gallery.picture(name)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from lottery import plots
from lottery.masks.masks import Masks
from lottery.masks.prunable import Include, included
from lottery.plots.gallery import Gallery

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lottery.plots.picture import Picture

Kind = Literal["layers", "masks", "inputs", "units", "fans"]

gallery = Gallery()
"""Each takes the masks, and options of its own."""


@gallery.picture("layers")
def _layers(masks: Masks, *, include: Include = None, ax: Axes | None = None) -> Picture:
    return plots.layer_bars(included(masks.densities(), include), masks.density, ax=ax)


@gallery.picture("masks")
def _masks(
    masks: Masks,
    *,
    image_shape: Sequence[int] | None = None,
    columns: int | None = None,
    include: Include = None,
    ax: Axes | None = None,
) -> Picture:
    return plots.mask_images(Masks(included(masks, include)), image_shape=image_shape, columns=columns, ax=ax)


@gallery.picture("inputs")
def _inputs(
    masks: Masks, *, image_shape: Sequence[int] | None = None, include: Include = None, ax: Axes | None = None
) -> Picture:
    return plots.input_image(_first(masks, include), image_shape=image_shape, ax=ax)


@gallery.picture("units")
def _units(
    masks: Masks,
    *,
    image_shape: Sequence[int] | None = None,
    units: int = 25,
    include: Include = None,
    ax: Axes | None = None,
) -> Picture:
    return plots.unit_images(_first(masks, include), image_shape=image_shape, units=units, ax=ax)


@gallery.picture("fans")
def _fans(masks: Masks, *, include: Include = None, ax: Axes | None = None) -> Picture:
    return plots.fans(Masks(included(masks, include)), ax=ax)


def _first(masks: Masks, include: Include) -> Tensor:
    return next(iter(included(masks, include).values()))
