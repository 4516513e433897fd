"""Which units of a network go together, for pruning: the labels of what each parameter makes and takes."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from lottery.foundations.names import parameters_of
from lottery.foundations.tensors_in import arguments
from lottery.pruning.graph.labels import FIXED, NOTHING
from lottery.pruning.graph.tracer import traced


def couple(module: nn.Module, names: Collection[str], example_input: object) -> dict[str, tuple[Tensor, ...]]:
    """Labels of the units that each parameter makes and takes; equal labels go together.

    A forward pass of one sample runs, and each feature carries a label: a layer gives its output units new ones, sums
    join labels, and what moves features moves labels. Fixed are units that the network takes or gives back, that a
    layer outside `names` makes, or that go into a function that is not known here.

    Args:
        module: the module, in eval mode and with gradients enabled.
        names: the parameters whose units may go.
        example_input: what `forward` takes: a tensor, a tuple, or a mapping by name; the first dimension is the batch.

    Returns:
        Parameter name to int64 tensors that broadcast to its shape, first of the units that it makes, then of those
        that it takes; -1 for fixed ones. Parameters without units are left out.

    Raises:
        ValueError: forward fails, hides what it computes from torch, or has no unit that may go.
    """
    follower = traced(module, parameters_of(module), *arguments(example_input))
    labels = follower.labels
    axes: dict[str, dict[torch.Size, Tensor]] = {}
    for call in follower.calls:
        if call.weight not in names:
            labels.fix(call.made, "its layer is not pruned")
        for own in [call.made] if call.takes is None else [call.made, call.takes]:
            # labels of one shape are of the same weights and joined, as in a depthwise layer
            known = axes.setdefault(call.weight, {}).setdefault(own.shape, own)
            labels.join(known, own)
    components = labels.components()
    stays = torch.zeros(len(components), dtype=torch.bool)
    stays[components[[NOTHING, FIXED]]] = True
    for fixed, _ in labels.fixed:
        stays[components[fixed]] = True
    components[stays[components]] = -1
    found = {name: tuple(components[t.long()] for t in axes[name].values()) for name in names if name in axes}
    if not any((t >= 0).any() for own in found.values() for t in own):
        raise ValueError(
            f"no channel of {type(module).__name__} can be removed: each is an input or an output, belongs to a layer"
            " that is not pruned, or goes into what is not followed:"
            f" {', '.join(sorted(follower.unknown)) or 'nothing'}. Choose another structure."
        )
    return found
