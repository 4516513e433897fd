"""Wanda: magnitude times the norm of what comes in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lottery.foundations.names import parameters_of
from lottery.foundations.substitution import substituted
from lottery.pruning.scores.context import Context
from lottery.pruning.scores.gradient import summed
from lottery.pruning.scores.registry import register

_REACHED = ""  # no parameter has this name
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@register("wanda", "batches")
@dataclass(frozen=True)
class Wanda:
    """|W_ij| · ‖X_j‖₂: magnitude times the norm of the input that the weight multiplies, over all samples.

    Weights are compared within each output row: the scope "rows", the default with this score. For a convolution X_j is
    all that a kernel entry meets. The paper prunes layer after layer, on inputs that have passed the pruned layers
    below: to do so, score again after each.

    Args:
        batches: how many batches to take.

    Source: Sun, Liu, Bair & Kolter, "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024,
    section 3.
    """

    batches: int = 10

    def __call__(self, context: Context) -> dict[str, Tensor]:
        """The score of each weight, in double precision.

        Raises:
            ValueError: a parameter is not the weight of a linear layer or convolution, or no sample reached its layer.
        """
        layers = {name: _layers(context.module, weight) for name, weight in context.parameters.items()}
        squares = summed((_input_squares(layers, b, context) for b in context.take(self.batches)), context)
        reached = dict(zip(layers, squares.pop(_REACHED).tolist(), strict=True))
        wrong = []
        if others := [name for name, found in layers.items() if not found]:
            wrong.append(
                f"wanda scores the weights of Linear and Conv layers, which these are not: {others}. Exclude them or"
                " choose another score."
            )
        if missing := [name for name, found in layers.items() if found and not reached[name]]:
            wrong.append(
                f"wanda needs what comes into a layer, and no sample of batches={self.batches} reached: {missing}. Take"
                " more batches, or exclude them; where forward takes the weight without calling the layer, choose"
                " another score."
            )
        if wrong:
            raise ValueError(" ".join(wrong))
        return {n: w.abs() * squares[n].sqrt() for n, w in context.weights.items()}


def _layers(module: nn.Module, weight: nn.Parameter) -> list[nn.Module]:
    """All layers that have a weight, which may be tied; none where a part of another kind has it too."""
    parts = [(part, key) for part in module.modules() for key, own in part._parameters.items() if own is weight]
    served = all(isinstance(part, LAYERS) and key == "weight" for part, key in parts)
    return [part for part, _ in parts] if served else []


def _input_squares(layers: dict[str, list[nn.Module]], batch: object, context: Context) -> dict[str, Tensor]:
    """Σ x² over all inputs that each weight multiplies in one batch, and how many numbers came into its layers."""
    calls: list[tuple[str, nn.Module, Tensor]] = []

    def hook(name: str) -> Callable[..., None]:
        return lambda layer, inputs, named: calls.append((name, layer, (*inputs, *named.values())[0].detach()))

    with ExitStack() as stack:  # with gradients, which a training step may ask for
        for name, layer in ((name, layer) for name, tied in layers.items() for layer in tied):
            stack.callback(layer.register_forward_pre_hook(hook(name), with_kwargs=True).remove)
        context.loss(context.module, batch)
    totals = {name: torch.zeros_like(weight, dtype=torch.double) for name, weight in context.weights.items()}
    reached = dict.fromkeys(layers, 0)
    for name, layer, x in calls:
        totals[name] = totals[name] + _met(layer, x)
        reached[name] += x.numel()
    counts = next(iter(totals.values())).new_tensor(list(reached.values()))
    return {**totals, _REACHED: counts}


def _met(layer: nn.Module, x: Tensor) -> Tensor:
    """Σ x² for each weight of a layer: the derivative of the layer's summed output on x² by the weight."""
    own = {name: p.detach().double() for name, p in parameters_of(layer).items()}
    weight = own["weight"].requires_grad_()
    with substituted(layer, own):
        output = layer(x.double().square())
    return torch.autograd.grad(output.sum(), weight)[0]
