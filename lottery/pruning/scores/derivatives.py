"""What scores differentiate by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import CheckpointFunction


def derivatives(output: Tensor, inputs: Sequence[Tensor], graph: bool = False) -> list[Tensor]:
    """d output / d input of each, dense; zeros where it plays no part.

    Raises:
        ValueError: a part of the graph computes its gradients in a backward of its own.
    """
    if _is_reentrant(output):
        raise ValueError(
            "torch.utils.checkpoint with use_reentrant=True gives gradients to backward() alone, and scores ask for"
            " those of single tensors: use use_reentrant=False, or switch it off while pruning"
        )
    found = torch.autograd.grad(output, inputs, create_graph=graph, allow_unused=True, materialize_grads=True)
    return [g.to_dense() if g.is_sparse else g for g in found]


@contextmanager
def differentiable_twice() -> Iterator[None]:
    """Inside the block attention is computed in a way that has second derivatives."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def _is_reentrant(output: Tensor) -> bool:
    """Whether a reentrant checkpoint is in the graph; `torch.autograd.grad` would leave its weights out."""
    reentrant = CheckpointFunction._backward_cls
    seen, ahead = set(), [output.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        if isinstance(node, reentrant):
            return True
        seen.add(node)
        ahead += [following for following, _ in node.next_functions]
    return False
