"""Scores of the first derivatives: SNIP, GraSP and Taylor.

L is the loss, g = ∂L/∂θ, H its Hessian, m the mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lottery.pruning.scores.context import Context
from lottery.pruning.scores.registry import register


def gradients(loss: Tensor, context: Context, graph: bool = False) -> dict[str, Tensor]:
    """∂loss/∂θ of each prunable parameter, dense; zeros where it plays no part."""
    parameters = context.parameters
    found = torch.autograd.grad(
        loss, list(parameters.values()), create_graph=graph, allow_unused=True, materialize_grads=True
    )
    return {name: g.to_dense() if g.is_sparse else g for name, g in zip(parameters, found, strict=True)}


def summed(terms: Iterable[dict[str, Tensor]], context: Context) -> dict[str, Tensor]:
    """The sum of terms, one per batch, over batches and ranks."""
    total: dict[str, Tensor] = {}
    for term in terms:
        for name, value in term.items():
            total[name] = total[name] + value if name in total else value
    return {name: context.reduce(value) for name, value in total.items()}


@register("snip", "batches")
@dataclass(frozen=True)
class Snip:
    """|θ ⊙ g| / Σ|θ ⊙ g|: what the loss at initialisation feels when a weight is cut.

    Signed gradients are summed over batches and ranks before the absolute value.

    Args:
        batches: how many batches to take; the paper takes one.

    Source: Lee, Ajanthan & Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019,
    section 4.
    """

    batches: int = 1

    def __call__(self, context: Context) -> dict[str, Tensor]:
        """The score of each weight; all of them sum to 1."""
        taken = context.take(self.batches)
        total = summed((gradients(context.loss(context.module, b), context) for b in taken), context)
        scores = {n: (w * total[n]).abs() for n, w in context.weights.items()}
        whole = sum(float(score.double().sum()) for score in scores.values())
        return {name: score / (whole or 1.0) for name, score in scores.items()}


@register("grasp", "batches")
@dataclass(frozen=True)
class GraSP:
    """θ ⊙ Hg, normalised: weights whose removal would lower the gradient's norm most stay.

    L is the cross entropy of logits / T. A first pass sums g ⊙ m over batches and ranks and is detached, a second takes
    Hg = ∂(gᵀ·∂L/∂θ)/∂θ. Divided by |Σ θ ⊙ Hg| + 1e-10, as the authors' code does; the order is the same.

    Args:
        batches: how many batches to take; the paper takes ten samples of each class.
        temperature: T.

    Source: Wang, Zhang & Grosse, "Picking Winning Tickets Before Training by Preserving Gradient Flow", ICLR 2020,
    section 4, algorithm 2.
    """

    batches: int = 1
    temperature: float = 200.0

    def __call__(self, context: Context) -> dict[str, Tensor]:
        """The score of each weight."""
        taken = list(context.take(self.batches))
        total = summed((gradients(self._loss(b, context), context) for b in taken), context)
        total = {name: g.detach() * context.masks[name].to(g.device) for name, g in total.items()}

        def curvature(batch: object) -> dict[str, Tensor]:
            own = gradients(self._loss(batch, context), context, graph=True)
            product = torch.stack([(total[n] * own[n]).sum() for n in own]).sum()
            return gradients(product, context)

        bent = summed(map(curvature, taken), context)
        scores = {n: w * bent[n] for n, w in context.weights.items()}
        whole = abs(sum(float(score.double().sum()) for score in scores.values()))
        return {name: score / (whole + 1e-10) for name, score in scores.items()}

    def _loss(self, batch: object, context: Context) -> Tensor:
        logits, target = context.logits(context.module, batch)
        return F.cross_entropy(logits / self.temperature, target)


@register("taylor", "batches")
@dataclass(frozen=True)
class Taylor:
    """Σ (g ⊙ θ)² over batches: first-order change of the loss when a weight is cut.

    Args:
        batches: how many batches to take, each with a g of its own.

    Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, section 3.1;
    Mozer & Smolensky, "Skeletonization", NeurIPS 1988.
    """

    batches: int = 10

    def __call__(self, context: Context) -> dict[str, Tensor]:
        """The score of each weight."""
        return _changes(context, self.batches, lambda change: change.square())


@register("taylor_channel", "batches")
@dataclass(frozen=True)
class TaylorChannel:
    """Σ (Σ_channel g ⊙ θ)² over batches: first-order change of the loss when an output channel is cut.

    Every weight of a channel (a row of the first dimension) has the channel's score.

    Args:
        batches: how many batches to take, each with a g of its own.
        signed: True squares the sum over the channel; False sums |g ⊙ θ| instead, as Torch-Pruning does.

    Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, section 3.1.
    """

    batches: int = 10
    signed: bool = True

    def __call__(self, context: Context) -> dict[str, Tensor]:
        """The score of each weight: that of its channel."""

        def channel(change: Tensor) -> Tensor:
            rows = change.flatten(1)
            sums = rows.sum(1).square() if self.signed else rows.abs().sum(1)
            return sums.reshape(-1, *[1] * (change.ndim - 1)).expand_as(change).clone()

        return _changes(context, self.batches, channel)


def _changes(context: Context, count: int, of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    weights = context.weights

    def term(batch: object) -> dict[str, Tensor]:
        found = gradients(context.loss(context.module, batch), context)
        return {name: of(weights[name] * g) for name, g in found.items()}

    return summed(map(term, context.take(count)), context)
