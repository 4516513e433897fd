"""Whether what was exported computes what the module computes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lottery.deploy.distance import distance
from lottery.deploy.export.tracing import batch_size, reason
from lottery.deploy.inputs import Inputs, batch_of
from lottery.foundations.tensors_in import outputs_in, tensors_in

_TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}  # of the largest output
_COARSE = 2e-2  # of types with fewer bits


def compare(
    module: nn.Module, run: Callable[[Inputs], object], inputs: Inputs, fixed: bool, what: str
) -> tuple[float, tuple[int, ...]]:
    """The largest difference between the outputs of a module and those of what was made of it.

    Args:
        module: in eval mode.
        run: what was made of it, a function of the same inputs.
        inputs: of the module's `forward`.
        fixed: whether it takes no other batch size; others are tried too if it does.
        what: what was made, in words, for messages.

    Returns:
        The largest absolute difference, and the batch sizes that were tried.

    Raises:
        ValueError: it fails, or differs by more than rounding explains: 1e-4 of the largest output in float32, 1e-9 in
            float64, 2e-2 in smaller types, nothing in whole numbers; or forward gives no tensor.
    """
    size, name = batch_size(inputs), type(module).__name__
    twice = (outputs_in(module(*inputs), name) for _ in range(2))
    if not all(apart <= allowed for apart, allowed in map(_apart, *twice)):
        raise ValueError(
            f"{name} gives other outputs each time it is called, so nothing can be compared with it. Take what is"
            " random out of forward in eval mode."
        )
    sizes, worst = (size,) if fixed else (size, size + 1, 1), 0.0
    for tried in sizes:
        batch = inputs if tried == size else batch_of(inputs, tried)
        where = f"{what} of {name} at batch size {tried}"
        expected = outputs_in(module(*batch), name)
        try:
            found = list(tensors_in(run(batch)))
        except Exception as error:
            raise ValueError(f"{where} fails: {reason(error)}") from error
        if [x.shape for x in found] != [x.shape for x in expected]:
            raise ValueError(
                f"{where} gives the shapes {[tuple(x.shape) for x in found]}, the module"
                f" {[tuple(x.shape) for x in expected]}. Nothing was written."
            )
        for apart, allowed in map(_apart, expected, found):
            if not apart <= allowed:  # also NaN
                raise ValueError(
                    f"{where} differs from the module by {apart:.3g}, where {allowed:.1g} is allowed. Nothing was"
                    " written."
                )
            worst = max(worst, apart)
    return worst, sizes


def _apart(expected: Tensor, found: Tensor) -> tuple[float, float]:
    """The distance of an output from what the module gives, and what rounding explains."""
    share = _TOLERANCES.get(expected.dtype, _COARSE if expected.is_floating_point() else 0.0)
    apart, scale = distance(expected, found)
    return apart, share * scale
