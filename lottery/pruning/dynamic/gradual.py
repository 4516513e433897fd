"""Gradual pruning: from dense to sparse on a polynomial, within one training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch

from lottery.masks.masks import Masks
from lottery.masks.selection import smallest
from lottery.pruning import scores
from lottery.pruning.amounts import Amounts, LayerScope, check_choice, check_fraction
from lottery.pruning.dynamic.method import MoveContext, Training, check_every, check_share
from lottery.pruning.dynamic.registry import register
from lottery.pruning.scores.context import NEEDS
from lottery.pruning.ties import note_choice


@register("gradual")
@dataclass(frozen=True)
class Gradual:
    """Gradual pruning: the density falls on a polynomial from 1 to `density` while the network trains.

    After t steps, from t0 = start · steps to t1 = end · steps, the density is d + (1 − d) · (1 − (t − t0) / (t1 −
    t0))^power. Pruned weights stay pruned. A training that is stopped before t1 ends denser than `density`.

    Args:
        density: kept / prunable at the end, in (0, 1).
        start: where in the training it begins, a share from 0.
        end: where the last weights go, a share above `start`, at most 1.
        every: time between two prunings, such as "100it" or "1ep".
        power: of the polynomial: 3 in the paper, 1 for a line.
        score: what a weight is worth: a score of `lottery.scores` that needs no data and nothing from before, such as
            "magnitude" or "lamp", or a function of a `Context`.
        scope: "layerwise", every layer at the same density, as in the paper; "global", "erk" and the others of
            `Pruning`.

    Raises:
        ValueError: an argument is out of range, or the score needs what is not there while a round trains.

    Source: Zhu & Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", ICLR 2018
    workshop, equation 1.

    Example:
        >>> method = Gradual(0.1, start=0.2, end=0.8)
        >>> [round(method.density_after(step, Training(100)), 3) for step in (20, 50, 80)]
        [1.0, 0.213, 0.1]
    """

    density: float = 0.1
    start: float = 0.0
    end: float = 0.75
    every: str = "100it"
    power: float = 3.0
    score: Any = "magnitude"
    scope: LayerScope = "layerwise"

    needs_gradients: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fraction("density", self.density)
        if self.start != 0:
            check_share("start", self.start)
        check_share("end", self.end, least=self.start)
        check_every(self.every)
        if not self.power > 0:
            raise ValueError(f"power={self.power!r} must be above 0")
        check_choice("scope", self.scope, get_args(LayerScope))
        for need in scores.needs_of(scores.resolve(self.score)):
            if need != "generator":
                raise ValueError(
                    f"score={self.score!r} needs {NEEDS[need]}, which is not at hand while a round trains; use"
                    " 'magnitude', or another score of weights alone"
                )

    def begin(self, masks: Masks, generator: torch.Generator) -> Masks:
        """The masks as they are: dense, or those of the ticket."""
        return masks

    def due(self, step: int, training: Training) -> bool:
        """At every interval from the start to the end, and at the end."""
        first, last = self._span(training)
        since = step - first
        return 0 < since and (step == last or (step < last and since % training.interval(self.every) == 0))

    def density_after(self, step: int, training: Training) -> float:
        """The density that the polynomial gives after `step` steps."""
        first, last = self._span(training)
        left = 1 - min(1.0, max(0.0, (step - first) / max(1, last - first)))
        return self.density + (1 - self.density) * left**self.power

    def move(self, context: MoveContext) -> Masks:
        """The lowest scores go, exactly as many in each pool as the schedule says, ties by position."""
        density = self.density_after(context.step, context.training)
        if density >= 1:
            return context.masks
        what = scores.Context(context.module, context.masks, generator=context.generator)
        found = scores.compute(self.score, what)
        amounts = Amounts(densities=[density], scope=self.scope)
        following = dict(context.masks)
        for names, left in amounts.pools(context.masks, 1):
            masks = [following[name] for name in names]
            count = sum(int(mask.sum()) for mask in masks) - left
            gone = smallest([found[name] for name in names], count, masks)
            following.update({n: m & ~g for n, m, g in zip(names, masks, gone, strict=True)})
            note_choice(found, {name: context.masks[name] for name in names}, following)
        return Masks(following)

    def _span(self, training: Training) -> tuple[int, int]:
        """The steps of start and end; the last step of a training is not followed by one."""
        last = min(round(self.end * training.steps), training.steps - 1)
        return round(self.start * training.steps), last
