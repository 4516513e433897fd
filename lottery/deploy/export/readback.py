"""Whether what was read back is what was written, in words."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lottery.deploy.distance import distance
from lottery.deploy.export.format import Exportable
from lottery.foundations.tensors_in import outputs_in
from lottery.foundations.undisturbed import undisturbed


def same(read: Mapping[str, Tensor], module: nn.Module) -> str:
    """Make sure that a state dict that was read back is the module's, and say so.

    Raises:
        ValueError: a tensor is another one.
    """
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor) and not torch.equal(read[name], value):
            raise ValueError(f"{name} was read back with other values than it was written with")
    return "Read back, every tensor is the same, bit for bit."


def apart(network: Exportable, read: nn.Module) -> str:
    """How far the outputs of what was read back are from those of the network."""
    with undisturbed(network.module, {}), undisturbed(read, {}), torch.no_grad():
        expected, found = (outputs_in(m(*network.inputs), type(m).__name__) for m in (network.module, read))
    away, scales = zip(*map(distance, expected, found), strict=True)
    return f"Outputs for {network.data} differ by at most {max(away):.2g}; the largest is {max(scales):.3g}."
