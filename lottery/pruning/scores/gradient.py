"""Scores of the first derivatives: SNIP, GraSP and Taylor.

L is the loss, g = ∂L/∂θ, H its Hessian, m the mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lottery.pruning.scores.context import Context, cross_entropy, fresh, supervised_logits
from lottery.pruning.scores.derivatives import derivatives, differentiable_twice
from lottery.pruning.scores.registry import register

_IGNORED = -100  # the class that torch.nn.functional.cross_entropy leaves out by itself


def gradients(loss: Tensor, context: Context, graph: bool = False) -> dict[str, Tensor]:
    """∂loss/∂θ of each prunable parameter, dense; zeros where it plays no part."""
    parameters = context.parameters
    return dict(zip(parameters, derivatives(loss, list(parameters.values()), graph), strict=True))


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

    L is the module's own loss; where that is the cross entropy of logits, it is taken of logits / T. A first pass sums
    g ⊙ m over batches and ranks and is detached, a second takes Hg = ∂(gᵀ·∂L/∂θ)/∂θ. Divided by |Σ θ ⊙ Hg| + 1e-10, as
    the authors' code does; the order is the same.

    Args:
        batches: how many batches to take; the paper takes ten samples of each class.
        temperature: T. Default: 200 where the loss is the plain cross entropy of logits, as `Context(logits=...)` says
            or as loss and gradient on every batch show; 1, the loss itself, where it is another, as with weights of
            classes or with a class that is left out.
        absolute: |θ ⊙ Hg| in place of θ ⊙ Hg: weights whose removal would change the gradient's norm most stay. What
            only raises the norm is then no longer preferred.

    Raises:
        ValueError: the temperature is not positive, or the loss has no logits to divide by it.

    Source: Wang, Zhang & Grosse, "Picking Winning Tickets Before Training by Preserving Gradient Flow", ICLR 2020,
    section 4, algorithm 2. Magnitudes: Frankle et al., "Pruning Neural Networks at Initialization: Why Are We Missing
    the Mark?", ICLR 2021.
    """

    batches: int = 1
    temperature: float | None = None
    absolute: bool = False

    def __post_init__(self) -> None:
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature!r} must be above 0")

    def __call__(self, context: Context) -> dict[str, Tensor]:
        """The score of each weight."""
        with differentiable_twice():
            return self._scores(list(context.take(self.batches)), context)

    def _scores(self, taken: list[object], context: Context) -> dict[str, Tensor]:
        loss = self._loss(taken, context)
        total = summed((gradients(loss(b), context) for b in taken), context)
        total = {name: g.detach() * context.masks[name].to(g.device) for name, g in total.items()}

        def curvature(batch: object) -> dict[str, Tensor]:
            own = gradients(loss(batch), context, graph=True)
            product = torch.stack([(total[n] * own[n]).sum() for n in own]).sum()
            if not product.requires_grad:  # a loss that is linear in the weights
                return {name: torch.zeros_like(g) for name, g in own.items()}
            return gradients(product, context)

        bent = summed(map(curvature, taken), context)
        scores = {n: w * bent[n] for n, w in context.weights.items()}
        whole = abs(sum(float(score.double().sum()) for score in scores.values()))
        return {n: (score.abs() if self.absolute else score) / (whole + 1e-10) for n, score in scores.items()}

    def _loss(self, taken: list[object], context: Context) -> Callable[[object], Tensor]:
        """The loss of a batch, with the temperature in it where there is one."""
        logits = _logits(taken, context)
        if logits is None:
            if self.temperature not in (None, 1):
                raise ValueError(
                    f"grasp: temperature={self.temperature:g} divides logits, and the loss of"
                    f" {type(context.module).__name__} is not the cross entropy of module(x) for batches (x, target)."
                    " Leave temperature out, or set it to 1, to score that loss itself; or give Context(logits=...)."
                )
            return lambda b: context.loss(context.module, fresh(b))
        temperature = 200.0 if self.temperature is None else self.temperature

        def tempered(b: object) -> Tensor:
            found, target = logits(context.module, fresh(b))
            return F.cross_entropy(found / temperature, target)

        return tempered


def _logits(taken: list[object], context: Context) -> Callable[[nn.Module, object], tuple[Tensor, Tensor]] | None:
    """Where logits come from; None where the loss is not their cross entropy.

    It is, where loss and gradient of every batch, on all ranks, are to rounding those of the cross entropy of
    module(x).
    """
    if context.logits is not None:
        return context.logits
    if context.loss is cross_entropy:
        return supervised_logits
    others = sum(not _is_cross_entropy(batch, context) for batch in taken)
    somewhere = context.reduce(next(iter(context.weights.values())).new_tensor(float(others)))
    return None if somewhere else supervised_logits


class _Watch(TorchFunctionMode):
    """Sees whether a cross entropy has weights of classes or leaves one out, which a batch need not show."""

    plain = True

    def __torch_function__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> object:
        kwargs = kwargs or {}
        if func in (F.cross_entropy, F.nll_loss):
            weight = kwargs.get("weight")
            self.plain &= weight is None or bool((weight == weight[:1]).all())
            self.plain &= kwargs.get("ignore_index", _IGNORED) == _IGNORED
        return func(*args, **kwargs)


def _is_cross_entropy(batch: object, context: Context) -> bool:
    entropy, expected = None, {}
    with suppress(Exception):  # whatever module(x) does with such a batch, and where it takes no gradients
        logits, target = supervised_logits(context.module, fresh(batch))
        if _classes(logits, target):
            entropy = F.cross_entropy(logits, target)
            expected = gradients(entropy, context)
    if entropy is None or not expected:
        return False
    with _Watch() as watch:
        loss = context.loss(context.module, fresh(batch))
    if (
        not watch.plain
        or loss.numel() != 1
        or not torch.isclose(loss.double().reshape(()), entropy.double(), rtol=1e-5, atol=1e-7)
    ):
        return False
    found = gradients(loss, context)
    apart = sum(float((g - expected[n]).double().square().sum()) for n, g in found.items())
    return apart <= 1e-8 * sum(float(g.double().square().sum()) for g in expected.values())


def _classes(logits: object, target: object) -> bool:
    """Whether they are logits and classes; a class that there is not would end a CUDA process."""
    if not isinstance(logits, Tensor) or not isinstance(target, Tensor) or logits.ndim < 2:
        return False
    if target.is_floating_point():
        return target.shape == logits.shape
    count = logits.shape[1]
    shape = (len(logits), *logits.shape[2:])
    known = (target == _IGNORED) | ((target >= 0) & (target < count))
    return target.dtype is torch.int64 and target.shape == shape and bool(known.all())


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
