"""Plots of plain data: frames, tensors and masks on matplotlib axes.

`Run`, `Ticket` and `Comparison` collect what is drawn here; to draw data of your own, call these functions yourself.
No plot changes matplotlib's global settings.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lottery.plots.curves import (
        against_density,
        early_stop,
        learning_curves,
        mean_interval,
    )
    from lottery.plots.histograms import fans, weight_distributions
    from lottery.plots.images import input_image, mask_images, unit_images
    from lottery.plots.layers import layer_bars, layer_densities
    from lottery.plots.lifetimes import deaths

_HOMES = {
    "against_density": "curves",
    "deaths": "lifetimes",
    "early_stop": "curves",
    "fans": "histograms",
    "input_image": "images",
    "layer_bars": "layers",
    "layer_densities": "layers",
    "learning_curves": "curves",
    "mask_images": "images",
    "mean_interval": "curves",
    "unit_images": "images",
    "weight_distributions": "histograms",
}
__all__ = [
    "against_density",
    "deaths",
    "early_stop",
    "fans",
    "input_image",
    "layer_bars",
    "layer_densities",
    "learning_curves",
    "mask_images",
    "mean_interval",
    "unit_images",
    "weight_distributions",
]


def __getattr__(name: str) -> Any:
    """Import a plot when it is first drawn: only its module loads matplotlib."""
    if name not in _HOMES:
        raise AttributeError(
            f"module 'lottery.plots' has no attribute {name!r}; it has {', '.join(__all__)}"
        )
    return getattr(importlib.import_module(f"lottery.plots.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
