"""SynFlow: no data, and a path from input to output is left."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from lottery.foundations.names import buffers_of, parameters_of
from lottery.foundations.substitution import substituted
from lottery.foundations.tensors_in import arguments, tensors_in, with_tensors
from lottery.pruning.scores.context import Context
from lottery.pruning.scores.derivatives import derivatives
from lottery.pruning.scores.registry import register

_SHIFT = re.compile(r"(.+_)?bias(_.+)?|running_mean")


@register("synflow", "example_input")
@dataclass(frozen=True)
class SynFlow:
    """|θ ⊙ ∂R/∂θ| with R = 1ᵀ Π|θ| 1, the flow from an input of ones through absolute weights.

    In eval mode and double precision (float32 overflows in deep networks), for one input. Score anew after each of many
    small steps: at iteration k of n = 100 the density is ρ^(k/n). A path from input to output is left then; a layer of
    a residual block, which paths lead around, may go empty. The module must end in its logits.

    Args:
        zero_biases: biases, BatchNorm shifts and running means count as zero, as the paper's theorem wants. With False
            their absolute values enter, as in its authors' code, which brings layer collapse back.

    Source: Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow",
    NeurIPS 2020, sections 4 and 6.
    """

    zero_biases: bool = True

    def __call__(self, context: Context) -> dict[str, Tensor]:
        """The score of each weight, in double precision.

        Raises:
            TypeError: the input is not floating, or the output is not a tensor.
        """
        module = context.module
        flow = {
            name: self._absolute(name, tensor)
            for name, tensor in {**parameters_of(module), **buffers_of(module)}.items()
        }
        weights = [flow[name].requires_grad_() for name in context.masks]
        with substituted(module, flow):
            inputs, named = arguments(_ones(context.example_input))
            output = module(*inputs, **named)
            if not isinstance(output, Tensor):
                raise TypeError(
                    f"synflow needs a module whose forward gives a tensor; that of {type(module).__name__} gives a"
                    f" {type(output).__name__}"
                )
            gradients = derivatives(output.sum(), weights)  # a checkpoint computes forward once more here
        return {
            name: (weight * gradient).abs()
            for name, weight, gradient in zip(context.masks, weights, gradients, strict=True)
        }

    def _absolute(self, name: str, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        if self.zero_biases and _SHIFT.fullmatch(name.rpartition(".")[2]):
            return torch.zeros_like(tensor, dtype=torch.float64, requires_grad=False)
        return tensor.detach().double().abs()


def _ones(example: object) -> object:
    """Ones in the place of every tensor."""
    if not any(True for _ in tensors_in(example)):
        raise TypeError(f"synflow needs an input of tensors, but example_input is a {type(example).__name__}")

    def ones(x: Tensor) -> Tensor:
        if not x.is_floating_point() or not x.ndim:
            raise TypeError(
                "synflow needs floating inputs with a batch dimension, to replace by ones; example_input has"
                f" {x.dtype}. Token ids have no ones: score another way."
            )
        return torch.ones_like(x[:1], dtype=torch.float64)

    return with_tensors(example, ones)
