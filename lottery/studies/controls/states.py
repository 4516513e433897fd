"""What controls share: where they came from, state dicts that fit, values put into them, draws."""

from __future__ import annotations

import operator
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from lottery.foundations.streams import derive
from lottery.masks.masks import Masks
from lottery.tickets.ticket import Ticket

State = Mapping[str, Tensor]


def origin(ticket: Ticket, control: str, seed: int) -> dict[str, object]:
    """The provenance of a control made from a ticket."""
    made = {"control": control, "control_seed": operator.index(seed)}
    return {**ticket.provenance, **made}


def generator(seed: int, of: str, name: str) -> torch.Generator:
    """The random stream of one parameter, whatever the others; `of` is what is drawn."""
    parts = ("control", operator.index(seed), of, name)
    return torch.Generator().manual_seed(derive(*parts))


def check_fits(ticket: Ticket, state: State, what: str) -> None:
    """Make sure that a state dict is of the ticket's architecture.

    Args:
        ticket: the ticket; of masks alone, only prunable parameters are compared.
        state: the state dict; what is no tensor in it does not count.
        what: what errors call it, such as "fresh weights".

    Raises:
        ValueError: names or shapes differ; the message names each.
    """
    mine: dict[str, Tensor] = {**ticket.masks, **ticket.weights}
    there = {name: t for name, t in state.items() if isinstance(t, Tensor)}
    wrong = [f"{name}: missing in the {what}" for name in mine if name not in there]
    if ticket.weights:
        wrong += [f"{n}: missing in the ticket" for n in there if n not in mine]
    for name in mine.keys() & there.keys():
        if is_lazy(there[name]):
            wrong.append(f"{name}: lazy, without a shape yet, in the {what}")
        elif there[name].shape != mine[name].shape:
            shapes = tuple(mine[name].shape), tuple(there[name].shape)
            wrong.append(f"{name}: {shapes[0]} in the ticket, {shapes[1]} in the {what}")
    if wrong:
        raise ValueError(f"the {what} are of another architecture than the ticket:\n  " + "\n  ".join(sorted(wrong)))


def start_weights(ticket: Ticket, control: str) -> dict[str, Tensor]:
    """The start weights of the prunable parameters.

    Raises:
        ValueError: the ticket has masks alone.
    """
    if missing := [name for name in ticket.masks if name not in ticket.weights]:
        raise ValueError(
            f"the control {control!r} needs start weights, and the ticket has none of {', '.join(missing)}. Run.ticket"
            " gives tickets with weights, Ticket.save(weights='none') leaves them out."
        )
    return {name: ticket.weights[name] for name in ticket.masks}


def with_masks(ticket: Ticket, masks: Masks, control: str, seed: int) -> Ticket:
    """The start weights of a ticket under other masks.

    Raises:
        ValueError: most of the weights that come back to life are zero, because they were not kept.
    """
    for name in masks.keys() & ticket.weights.keys():
        start, mask = ticket.weights[name], ticket.masks[name]
        back = start[masks[name] & ~mask]
        if 2 * _zeros(back) > len(back) and 2 * _zeros(start[mask]) <= int(mask.sum()):
            raise ValueError(
                f"the control {control!r} keeps other weights of {name} than the ticket, and {_zeros(back)} of these"
                f" {len(back)} start at zero: the ticket does not know where they started. Take it from the run with"
                " Run.ticket: Ticket.save(weights='surviving') or 'signs' leaves out what is pruned, and so does a run"
                " that began with a ticket."
            )
    return Ticket(masks, ticket.weights, origin(ticket, control, seed))


def _zeros(weights: Tensor) -> int:
    return int((weights == 0).sum())
