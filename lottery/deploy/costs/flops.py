"""FLOPs of one sample, counted by torch, and how many of them zeros would save in theory."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from lottery.deploy.inputs import as_inputs, sample_of
from lottery.foundations.names import parameters_of
from lottery.foundations.undisturbed import plain_attention
from lottery.masks.masks import Masks


@dataclass(frozen=True)
class Flops:
    """FLOPs of a forward pass of one sample; a multiplication and its addition are two.

    Args:
        dense: those of matrix products, convolutions and attention, as `torch.utils.flop_counter` counts them.
        sparse: what is left when each weight that is masked takes none: the FLOPs of each call times the density of the
            part of the weight that it uses.
        of_weights: those of `dense` that are spent on weights that have a mask. The others no mask can save.
        uncounted: masked weights that no FLOPs were counted for: embeddings, which take none, and weights that torch
            does not count or that reach no such function as they are, as under a parametrization.
    """

    dense: int
    sparse: int
    of_weights: int
    uncounted: tuple[str, ...] = ()


def count(module: nn.Module, masks: Mapping[str, Tensor], example_input: object) -> Flops:
    """Count the FLOPs of one sample.

    A call of a function belongs to the weight that is among its arguments, also as a view such as its transpose or a
    chunk. The module's values are not looked at, so that dense and masked modules count alike.

    Args:
        module: the module; it runs as it is, on its device, without gradients.
        masks: parameter name to boolean tensor, True = kept; may be empty.
        example_input: a tensor, or a tuple of them, that `forward` takes; the first dimension is the batch. What is no
            batch, such as the nodes and edges of a graph, counts as one sample.

    Raises:
        ValueError: the masks do not fit.

    Example:
        >>> net = nn.Linear(10, 5)
        >>> count(net, {"weight": torch.eye(5, 10, dtype=torch.bool)}, torch.zeros(3, 10))
        Flops(dense=100, sparse=10, of_weights=100, uncounted=())
    """
    parameters = parameters_of(module)
    masks = Masks(masks)
    masks.check(parameters)
    counter = FlopCounterMode(display=False)
    owners = _Owners(counter, parameters, masks)
    sample = sample_of(module, as_inputs(example_input))
    with _in_plain_functions(), counter, owners:
        module(*sample)
    dense = counter.get_total_flops()
    sparse = dense - owners.of_weights + owners.of_kept
    uncounted = tuple(name for name in masks if name not in owners.seen)
    return Flops(dense, round(sparse), owners.of_weights, uncounted)


class _Owners(TorchDispatchMode):
    """Sees each call that torch makes, and notes whose weight its FLOPs are spent on."""

    def __init__(self, counter: FlopCounterMode, parameters: Mapping[str, Tensor], masks: Masks) -> None:
        super().__init__()
        self.counter = counter
        self.parameters = parameters
        self.masks = masks
        self.of_weights = 0
        self.of_kept = 0.0
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> object:
        before = self.counter.get_total_flops()
        result = func(*args, **(kwargs or {}))
        flops = self.counter.get_total_flops() - before
        if flops:
            densities = [self._density(x) for x in args if isinstance(x, Tensor)]
            found = [density for density in densities if density is not None]
            if found:
                self.of_weights += flops
                self.of_kept += flops * min(found)
        return result

    def _density(self, x: Tensor) -> float | None:
        """Of the mask of the weight that `x` is, or is a view of; None where it is of none."""
        for name, mask in self.masks.items():
            parameter = self.parameters[name]
            beyond = x.data_ptr() - parameter.data_ptr()
            if not 0 <= beyond < parameter.numel() * parameter.element_size():
                continue
            self.seen.add(name)
            if parameter.is_contiguous():  # as the mask, which then has the same view
                offset = beyond // parameter.element_size()
                mask = mask.contiguous().as_strided(x.shape, x.stride(), offset)
            return int(mask.sum()) / mask.numel()
        return None


@contextlib.contextmanager
def _in_plain_functions() -> Iterator[None]:
    """Without gradients, and without the fused kernels that no FLOPs are known of: those of attention and of recurrent
    layers."""
    with (
        warnings.catch_warnings(),
        torch.inference_mode(False),
        torch.no_grad(),
        plain_attention(),
        sdpa_kernel(SDPBackend.MATH),
    ):
        warnings.filterwarnings("ignore", ".*TF32")  # by the next line
        with torch.backends.mkldnn.flags(enabled=False), torch.backends.cudnn.flags(enabled=False):
            yield
