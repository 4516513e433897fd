"""LAMP: magnitudes made comparable between layers."""

from __future__ import annotations

import torch
from torch import Tensor

from lottery.pruning.scores.context import Context
from lottery.pruning.scores.registry import register


@register("lamp")
def lamp(context: Context) -> dict[str, Tensor]:
    """θ² / Σ θ_v² over the layer's weights v with θ_v² ≥ θ²: magnitude for a global choice without layer collapse.

    The largest weight of each layer scores 1. In double precision, because the tail sums span many magnitudes.

    Source: Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", ICLR 2021, section 2.

    Example:
        >>> from lottery.masks.masks import Masks
        >>> net = torch.nn.Linear(3, 1, bias=False)
        >>> _ = net.load_state_dict({"weight": torch.tensor([[1.0, -3.0, 3.0]])})
        >>> lamp(Context(net, Masks.ones(dict(net.named_parameters()))))["weight"] * 19
        tensor([[1.0000, 9.5000, 9.5000]], dtype=torch.float64)
    """
    return {name: _lamp(weight) for name, weight in context.weights.items()}


def _lamp(weight: Tensor) -> Tensor:
    squares = weight.double().square().flatten()
    ascending = squares.sort().values
    tails = ascending.flip(0).cumsum(0).flip(0)
    denominators = tails[torch.searchsorted(ascending, squares)]
    scores = torch.where(squares > 0, squares / denominators, squares)
    return scores.reshape(weight.shape)
