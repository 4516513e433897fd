"""SET and RigL: a sparse network whose connections are dropped and grown while it trains."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from lottery.masks.masks import Masks
from lottery.masks.selection import smallest
from lottery.pruning.amounts import Amounts, LayerScope, check_choice, check_fraction
from lottery.pruning.dynamic.method import MoveContext, Training, check_every, check_share
from lottery.pruning.dynamic.registry import register
from lottery.pruning.ties import note_choice


def drop_and_grow(mask: Tensor, weights: Tensor, worth: Tensor, fraction: float, name: str = "") -> Tensor:
    """Drop the kept weights of smallest magnitude and grow as many where `worth` is largest, ties by position.

    Exactly ``round(fraction * kept)`` go and as many come. They come from all positions that are not kept after the
    drop, as in RigL's equation and code: a weight that was just dropped may be taken again, and then goes on with its
    value. So a layer that is nearly dense can move too, and one that is dense does not.

    Args:
        mask: boolean, True = kept.
        weights: of its shape.
        worth: of its shape, without NaN.
        fraction: of the kept weights to drop, from 0 to 1.
        name: the parameter's, under which ties are noted.

    Returns:
        A mask with as many kept.

    Example:
        >>> mask = torch.tensor([True, True, False, False])
        >>> drop_and_grow(mask, torch.tensor([0.1, 2.0, 0.0, 0.0]), torch.tensor([0.0, 9.0, 1.0, 3.0]), 0.5).tolist()
        [False, True, False, True]
    """
    count = round(fraction * int(mask.sum()))
    dropped = smallest([weights.abs()], count, [mask])[0]
    remaining = mask & ~dropped
    grown = smallest([-worth], count, [~remaining])[0]
    trained = mask & weights.ne(0).cpu()  # which zeros go makes no difference
    note_choice({name: weights.abs()}, {name: trained}, {name: remaining})
    note_choice({name: worth}, {name: ~remaining}, {name: grown})
    return remaining | grown


@dataclass(frozen=True)
class Regrowing(ABC):
    """A random sparse network of constant density that drops and grows connections within each layer.

    Grown weights start from zero, with optimizer state zero; they learn from the step after the move on. The paper's
    code leaves out the optimizer's step at a move; here the weights that stay make it.
    """

    density: float = 0.1
    scope: LayerScope = "erk"
    drop: float = 0.3
    every: str = "100it"
    until: float = 0.75

    def __post_init__(self) -> None:
        check_fraction("density", self.density)
        check_choice("scope", self.scope, get_args(LayerScope))
        check_fraction("drop", self.drop)
        check_every(self.every)
        check_share("until", self.until)

    def begin(self, masks: Masks, generator: torch.Generator) -> Masks:
        """Random masks, exactly as many weights in each pool as the scope says; some of the ticket's where there is
        one.
        """
        following: dict[str, Tensor] = {}
        amounts = Amounts(densities=[self.density], scope=self.scope)
        for names, left in amounts.pools(masks, 1):
            draws = [torch.rand(masks[n].shape, generator=generator, dtype=torch.float64) for n in names]
            kept = smallest(draws, left, [masks[n] for n in names])
            following.update(zip(names, kept, strict=True))
        return Masks({name: following[name] for name in masks})

    def due(self, step: int, training: Training) -> bool:
        """At every interval after the first step, before `until`."""
        return 0 < step < self.until * training.steps and step % training.interval(self.every) == 0

    def fraction_after(self, step: int, training: Training) -> float:
        """The fraction of each layer's kept weights that is dropped after `step` steps."""
        return self.drop

    def move(self, context: MoveContext) -> Masks:
        """Each layer drops and grows; one whose worth is not known stays as it is."""
        fraction = self.fraction_after(context.step, context.training)
        weights, following = context.weights, dict(context.masks)
        for name, mask in context.masks.items():
            worth = self._worth(name, context)
            if worth is not None:
                following[name] = drop_and_grow(mask, weights[name], worth, fraction, name)
        return Masks(following)

    @abstractmethod
    def _worth(self, name: str, context: MoveContext) -> Tensor | None:
        """What growing each weight of a parameter would be worth."""


@register("set")
@dataclass(frozen=True)
class SET(Regrowing):
    """Sparse evolutionary training: the smallest weights are dropped, others grow at random positions.

    Args:
        density: kept / prunable, in (0, 1), from the first step to the last.
        scope: how it is shared out at the start: "erk", "erdos-renyi" as in the paper, "uniform" and the others of
            `Pruning`.
        drop: fraction of the kept weights of each layer that a move replaces, in (0, 1).
        every: time between two moves, such as "1ep" or "100it".
        until: share of the training after which nothing moves, above 0, at most 1.

    Raises:
        ValueError: an argument is out of range.

    Source: Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse connectivity inspired
        by
    network science", Nature Communications 2018, algorithm 1. It drops the smallest positive and the largest negative
    weights each for itself; this takes the smallest magnitudes, as comparisons with RigL do.
    """

    every: str = "1ep"
    until: float = 1.0

    needs_gradients: ClassVar[bool] = False

    def _worth(self, name: str, context: MoveContext) -> Tensor:
        return torch.rand(context.masks[name].shape, generator=context.generator, dtype=torch.float64)


@register("rigl")
@dataclass(frozen=True)
class RigL(Regrowing):
    """RigL: the smallest weights are dropped, others grow where the dense gradient is largest.

    After t steps a fraction drop / 2 · (1 + cos(π t / (until · steps))) of each layer moves. A layer without a
    gradient, or with one that is not finite, as when a GradScaler finds its scale, stays as it is until the next move.

    Args:
        density: kept / prunable, in (0, 1), from the first step to the last.
        scope: how it is shared out at the start: "erk" as in the paper, "uniform" and the others of `Pruning`.
        drop: fraction of the kept weights of each layer that a move replaces, in (0, 1); it falls on a cosine.
        every: time between two moves, such as "100it" or "1ep".
        until: share of the training after which nothing moves, above 0, at most 1.

    Raises:
        ValueError: an argument is out of range.

    Source: Evci et al., "Rigging the Lottery: Making All Tickets Winners", ICML 2020, section 3 and algorithm 1.

    Example:
        >>> [round(RigL(drop=0.3).fraction_after(step, Training(100)), 3) for step in (0, 25, 50, 75)]
        [0.3, 0.225, 0.075, 0.0]
    """

    needs_gradients: ClassVar[bool] = True

    def fraction_after(self, step: int, training: Training) -> float:
        """The cosine, from `drop` to 0."""
        passed = min(1.0, step / (self.until * training.steps))
        return self.drop / 2 * (1 + math.cos(math.pi * passed))

    def _worth(self, name: str, context: MoveContext) -> Tensor | None:
        gradient = context.gradients.get(name)
        if gradient is None or not bool(torch.isfinite(gradient).all()):
            return None
        return gradient.abs()
