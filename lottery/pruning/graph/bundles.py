"""Which units go or stay together, by the tensors that have them along a dimension."""

from __future__ import annotations

import torch
from torch import Tensor

from lottery.pruning.graph.calls import Call
from lottery.pruning.graph.labels import Labels
from lottery.pruning.graph.tracer import UnitTracer


def bundle(tracer: UnitTracer) -> dict[tuple[str, int], Tensor]:
    """Tie, in the tracer's labels, what one tensor has along one dimension, and what convolutions in groups need.

    A convolution in groups keeps its number of groups, so position i of each group goes with position i of the others,
    of what it takes and of what it makes. Where a group has one input or one output, as in a depthwise layer, whole
    groups go. What is pinned is fixed then, as is what a weight makes that is used in other ways too.

    Args:
        tracer: after its run.

    Returns:
        Name of a tensor and dimension to the labels of the units that it has along it.
    """
    along: dict[tuple[str, int], Tensor] = {}
    labels = tracer.labels
    for call in tracer.calls:
        for place, own in _along(call, labels).items():
            labels.together(along.setdefault(place, own), own)
        for name in {call.weight, call.bias} & tracer.elements.keys():
            for units in (call.made, call.takes):
                if units is not None:
                    labels.fix(units, f"{name} is used in other ways too")
    labels.settle(
        torch.cat([torch.zeros(0, dtype=torch.int64), *(call.made.flatten().long() for call in tracer.calls)])
    )
    return along


def _along(call: Call, labels: Labels) -> dict[tuple[str, int], Tensor]:
    """What the weight and the bias of a layer have along their dimensions."""
    made = call.made.flatten().long()
    own = {(call.weight, call.column): made}
    if call.bias is not None:
        own[call.bias, 0] = made
    if call.takes is None:
        return own
    takes = call.takes.flatten(2).squeeze(2) if call.takes.ndim > 2 else call.takes
    takes = (takes.mT if call.column else takes).long()
    if call.groups == 1:
        own[call.weight, 1 - call.column] = takes.flatten()
    elif by_whole_groups(len(made) // call.groups, takes.shape[1]):
        labels.together(made[:, None], takes)
    else:
        for units in (made, takes):
            first, *others = units.unflatten(0, (call.groups, -1)).unbind()
            labels.together(first, torch.stack(others))
        own[call.weight, 1] = takes[0]
    return own


def by_whole_groups(outputs: int, inputs: int) -> bool:
    """Whether a convolution with groups of these sizes loses whole groups, and not the same positions of each."""
    return 1 in (outputs, inputs)
