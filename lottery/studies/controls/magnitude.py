"""Masks found in one step by magnitude, over the ticket's start weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lottery.masks.masks import Masks
from lottery.masks.selection import smallest
from lottery.pruning.amounts import check_choice
from lottery.pruning.scores import check_scores
from lottery.studies.controls.registry import register
from lottery.studies.controls.states import State, check_fits, with_masks
from lottery.tickets.ticket import Ticket

Pools = Literal["global", "layerwise"]


@register("one-shot")
@dataclass(frozen=True)
class OneShot:
    """Dense trained weights pruned in one step to the ticket's density: are rounds needed?

    The largest magnitudes stay, ties by position; the start weights are the ticket's.

    Args:
        scope: what competes with what: "global", all prunable weights, so that as many stay in all as the ticket has;
            "layerwise", those of each parameter, so that as many stay in each.

    Raises:
        ValueError: there is no such scope.

    Source: "one-shot pruning", Frankle & Carbin, "The Lottery Ticket Hypothesis", ICLR 2019, section 2.

    Example:
        >>> import torch
        >>> ticket = Ticket(Masks({"w": torch.tensor([[True, False, True]])}), {})
        >>> trained = {"w": torch.tensor([[0.1, -3.0, 2.0]])}
        >>> OneShot()(ticket, trained=trained).masks["w"]
        tensor([[False,  True,  True]])
    """

    scope: Pools = "global"

    def __post_init__(self) -> None:
        check_choice("scope", self.scope, get_args(Pools))

    def __call__(self, ticket: Ticket, seed: int = 0, *, trained: State) -> Ticket:
        """The control of a ticket; nothing is drawn, and the seed is noted.

        Args:
            ticket: the ticket.
            seed: noted in the provenance.
            trained: a state dict of trained dense weights.

        Raises:
            ValueError: `trained` is of another architecture or not finite, or the start weights of what is pruned were
                not kept.
        """
        check_fits(ticket, trained, "trained weights")
        masks = _largest(trained, ticket.masks, self.scope)
        return with_masks(ticket, masks, "one-shot", seed)


@register("magnitude-init")
@dataclass(frozen=True)
class MagnitudeInit:
    """Initial weights pruned by magnitude, before any training: need the mask be learned?

    As `OneShot`, of the weights that round 0 began with, also where the rewind point is later; the weights to start
    from are the ticket's.

    Args:
        scope: "global" or "layerwise", as of `OneShot`.

    Raises:
        ValueError: there is no such scope.

    Source: "magnitude" at initialization, Frankle et al., "Pruning Neural Networks at Initialization: Why Are We
        Missing
    the Mark?", ICLR 2021.
    """

    scope: Pools = "global"

    def __post_init__(self) -> None:
        check_choice("scope", self.scope, get_args(Pools))

    def __call__(self, ticket: Ticket, seed: int = 0, *, initial: State) -> Ticket:
        """The control of a ticket; nothing is drawn, and the seed is noted.

        Args:
            ticket: the ticket.
            seed: noted in the provenance.
            initial: a state dict of the weights before training.

        Raises:
            ValueError: `initial` is of another architecture or not finite, or the start weights of what is pruned were
                not kept.
        """
        check_fits(ticket, initial, "initial weights")
        masks = _largest(initial, ticket.masks, self.scope)
        return with_masks(ticket, masks, "magnitude-init", seed)


def _largest(weights: State, masks: Masks, scope: Pools) -> Masks:
    """Masks of the largest magnitudes, with the counts of `masks`."""
    magnitudes = {name: weights[name].detach().cpu().abs() for name in masks}
    magnitudes = check_scores(magnitudes, Masks.ones(magnitudes), "magnitude")
    found = {}
    for pool in [list(masks)] if scope == "global" else [[name] for name in masks]:
        pruned = sum(int((~masks[name]).sum()) for name in pool)
        gone = smallest([magnitudes[name] for name in pool], pruned)
        found.update({name: ~marks for name, marks in zip(pool, gone, strict=True)})
    return Masks(found)
