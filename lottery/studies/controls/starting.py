"""The ticket's masks over other start weights."""

from __future__ import annotations

from dataclasses import replace

import torch

from lottery.studies.controls.registry import register
from lottery.studies.controls.states import State, check_fits, generator, origin, start_weights
from lottery.tickets.ticket import Ticket, with_values


@register("reinit", start="initial", rules_out="weights")
def reinit(ticket: Ticket, seed: int = 0, *, fresh: State) -> Ticket:
    """Fresh initial weights under the same mask: are the ticket's own weights needed?

    All state is the fresh module's, biases and buffers too. The seed is noted; the draw is that of `fresh`.

    Args:
        ticket: the ticket.
        seed: noted in the provenance.
        fresh: a state dict of a newly initialised module.

    Raises:
        ValueError: `fresh` is of another architecture, or has the ticket's own weights.

    Source: "random reinitialization", Frankle & Carbin, "The Lottery Ticket Hypothesis", ICLR 2019, section 2.

    Example:
        >>> from lottery.masks.masks import Masks
        >>> mask = torch.tensor([[True, False]])
        >>> ticket = Ticket(Masks({"w": mask}), {"w": torch.tensor([[1.0, 2.0]])})
        >>> reinit(ticket, fresh={"w": torch.tensor([[3.0, 4.0]])}).weights["w"]
        tensor([[3., 4.]])
    """
    check_fresh(ticket, fresh)
    return Ticket(ticket.masks, fresh, origin(ticket, "reinit", seed))


@register("reinit-signs", start="initial", rules_out="weights")
def reinit_signs(ticket: Ticket, seed: int = 0, *, fresh: State) -> Ticket:
    """Fresh magnitudes with the ticket's signs: is it the signs that make the ticket?

    A start weight of zero counts as positive. What is not prunable is the fresh module's. The seed is noted; the draw
    is that of `fresh`.

    Args:
        ticket: the ticket.
        seed: noted in the provenance.
        fresh: a state dict of a newly initialised module.

    Raises:
        ValueError: the ticket has masks alone, or `fresh` is of another architecture or has the ticket's own weights.

    Source: "reinit" with the initial sign, Zhou et al., "Deconstructing Lottery Tickets", NeurIPS 2019, section 4.1.

    Example:
        >>> from lottery.masks.masks import Masks
        >>> mask = torch.tensor([[True, True]])
        >>> ticket = Ticket(Masks({"w": mask}), {"w": torch.tensor([[1.0, -2.0]])})
        >>> reinit_signs(ticket, fresh={"w": torch.tensor([[-3.0, 4.0]])}).weights["w"]
        tensor([[ 3., -4.]])
    """
    signs = start_weights(ticket, "reinit-signs")
    check_fresh(ticket, fresh)
    values = {}
    for name, start in signs.items():
        magnitude = fresh[name].detach().cpu().abs()
        values[name] = torch.where(start >= 0, magnitude, -magnitude)
    weights = with_values(fresh, ticket.masks, values)
    return Ticket(ticket.masks, weights, origin(ticket, "reinit-signs", seed))


@register("signs")
def signs(ticket: Ticket, seed: int = 0) -> Ticket:
    """One magnitude per layer with the ticket's signs: do magnitudes matter at all?

    `Ticket.signed`, which draws nothing: the seed is noted.

    Raises:
        ValueError: the ticket has masks alone.

    Source: "signed constant", Zhou et al., "Deconstructing Lottery Tickets", NeurIPS 2019, section 4.1.
    """
    signed = ticket.signed()
    return replace(signed, provenance=origin(signed, "signs", seed))


@register("shuffle-weights")
def shuffle_weights(ticket: Ticket, seed: int = 0) -> Ticket:
    """Surviving weights permuted among the surviving places of their layer: does it matter which starts where?

    The mask is the same, and so are the values of each layer. What is pruned or not prunable stays as it is.

    Raises:
        ValueError: the ticket has masks alone.

    Source: "reshuffle", Zhou et al., "Deconstructing Lottery Tickets", NeurIPS 2019, section 4.1.
    """
    values = {}
    for name, start in start_weights(ticket, "shuffle-weights").items():
        mask = ticket.masks[name]
        survivors = start[mask]
        order = torch.randperm(len(survivors), generator=generator(seed, "weights", name))
        values[name] = start.masked_scatter(mask, survivors[order])
    weights = with_values(ticket.weights, ticket.masks, values)
    return Ticket(ticket.masks, weights, origin(ticket, "shuffle-weights", seed))


@register("order", order=1)
def order(ticket: Ticket, seed: int = 0) -> Ticket:
    """The ticket itself, trained with another order of the data: how far does its result depend on chance?

    Source: instability analysis, Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis", ICML
    2020, section 3.
    """
    return replace(ticket, provenance=origin(ticket, "order", seed))


def check_fresh(ticket: Ticket, fresh: State) -> None:
    """Make sure that fresh weights fit the ticket, and that they are not its own.

    Raises:
        ValueError: they do not, or they are.
    """
    check_fits(ticket, fresh, "fresh weights")
    known = ticket.masks.keys() & ticket.weights.keys()
    if known and all(torch.equal(fresh[n].cpu(), ticket.weights[n].to(fresh[n].dtype)) for n in known):
        raise ValueError(
            "the fresh weights are those that the ticket starts from: initialise the module with another seed"
        )
