"""LAMP: magnitudes made comparable between layers."""

from __future__ import annotations

import torch
from torch import Tensor

from lottery.pruning.scores.context import Context
from lottery.pruning.scores.registry import register


@register("lamp")
def lamp(context: Context) -> dict[str, Tensor]:
    """θ² / Σ θ_v² over the layer's weights v from θ on, by magnitude: for a global choice without layer collapse.

    Equal magnitudes are in the order of their positions, as in the authors' code, so that a layer in which all are
    equal loses weights one by one too. The last of each layer scores 1. In double precision, because the tail sums span
    many magnitudes.

    Source: Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", ICLR 2021, section 2.

    Example:
        >>> from lottery.masks.masks import Masks
        >>> net = torch.nn.Linear(3, 1, bias=False)
        >>> _ = net.load_state_dict({"weight": torch.tensor([[1.0, -3.0, 3.0]])})
        >>> lamp(Context(net, Masks.ones(dict(net.named_parameters()))))["weight"] * 19
        tensor([[ 1.0000,  9.5000, 19.0000]], dtype=torch.float64)
    """
    return {name: _lamp(weight) for name, weight in context.weights.items()}


def _lamp(weight: Tensor) -> Tensor:
    ascending, order = weight.double().square().flatten().sort(stable=True)
    tails = ascending.flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(ascending)
    scores[order] = torch.where(ascending > 0, ascending / tails, ascending)
    return scores.reshape(weight.shape)
