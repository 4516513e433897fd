"""Plots of plain data: frames, tensors and masks on matplotlib axes.

`Run`, `Ticket`, `Comparison` and `Study` collect what is drawn here; to draw data of your own, call these functions
yourself. No plot changes matplotlib's global settings.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lottery.plots.arms import gains, study_metric
    from lottery.plots.curves import against_density, early_stop, learning_curves
    from lottery.plots.histograms import fans, weight_distributions
    from lottery.plots.images import input_image, mask_images, unit_images
    from lottery.plots.layers import layer_bars, layer_densities
    from lottery.plots.lifetimes import deaths
    from lottery.plots.speed import learning_speed
    from lottery.plots.stability import barriers

_HOMES = {
    "against_density": "curves",
    "barriers": "stability",
    "deaths": "lifetimes",
    "early_stop": "curves",
    "fans": "histograms",
    "gains": "arms",
    "input_image": "images",
    "layer_bars": "layers",
    "layer_densities": "layers",
    "learning_curves": "curves",
    "learning_speed": "speed",
    "mask_images": "images",
    "study_metric": "arms",
    "unit_images": "images",
    "weight_distributions": "histograms",
}
__all__ = [
    "against_density",
    "barriers",
    "deaths",
    "early_stop",
    "fans",
    "gains",
    "input_image",
    "layer_bars",
    "layer_densities",
    "learning_curves",
    "learning_speed",
    "mask_images",
    "study_metric",
    "unit_images",
    "weight_distributions",
]


def __getattr__(name: str) -> Any:
    """Import a plot when it is first drawn: only its module loads matplotlib."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lottery.plots' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"lottery.plots.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
