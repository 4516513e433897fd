"""Pictures of a ticket: what each is drawn from. A new one is a function with `@TICKET.picture(name)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from lottery import plots
from lottery.plots.gallery import Gallery

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lottery.masks.masks import Masks


class Drawn(Protocol):
    """What pictures ask of a ticket."""

    @property
    def masks(self) -> Masks: ...


TICKET = Gallery()
"""Each takes a ticket, `ax`, and options of its own."""


@TICKET.picture("layers")
def _layers(ticket: Drawn, ax: Axes | None) -> Axes:
    return plots.layer_bars(ticket.masks.densities(), ticket.masks.density, ax=ax)


@TICKET.picture("masks")
def _masks(ticket: Drawn, ax: Axes | None, **options: Any) -> Figure:
    return plots.mask_images(ticket.masks, **options)


@TICKET.picture("inputs")
def _inputs(ticket: Drawn, ax: Axes | None, **options: Any) -> Axes:
    return plots.input_image(next(iter(ticket.masks.values())), ax=ax, **options)


@TICKET.picture("units")
def _units(ticket: Drawn, ax: Axes | None, **options: Any) -> Figure:
    return plots.unit_images(next(iter(ticket.masks.values())), **options)


@TICKET.picture("fans")
def _fans(ticket: Drawn, ax: Axes | None, **options: Any) -> Figure:
    return plots.fans(ticket.masks, **options)
