"""A ticket found elsewhere in the place of this one."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from lottery.runs.run import Run
from lottery.storage.directory import StorageError
from lottery.studies.controls.registry import register
from lottery.studies.controls.states import check_fits, origin, with_masks
from lottery.text.numbers import percent
from lottery.tickets.ticket import Ticket


@register("transfer")
@dataclass(frozen=True)
class Transfer:
    """A ticket of another data set or run: is a winning ticket one for this task alone?

    Its masks, and the whole state that it starts from where it has one.

    Args:
        path: a run or a ticket file, for whoever fetches the other ticket; `nearest` reads it.
        weights: False takes the start weights of this ticket.
        tolerance: by how much the numbers of kept weights may differ, relative to this ticket's.

    Source: Morcos et al., "One ticket to win them all: generalizing lottery ticket initializations across datasets and
    optimizers", NeurIPS 2019.

    Example:
        >>> import torch
        >>> from lottery.masks.masks import Masks
        >>> here = Ticket(Masks({"w": torch.tensor([[True, False]])}), {})
        >>> there = Ticket(Masks({"w": torch.tensor([[False, True]])}), {})
        >>> Transfer()(here, other=there).masks == there.masks
        True
    """

    path: str | None = None
    weights: bool = True
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        if self.path is not None:
            object.__setattr__(self, "path", os.fspath(self.path))

    def __call__(self, ticket: Ticket, seed: int = 0, *, other: Ticket) -> Ticket:
        """The control of a ticket; nothing is drawn, and the seed is noted.

        Args:
            ticket: the ticket.
            seed: noted in the provenance.
            other: the ticket from elsewhere; its provenance is noted.

        Raises:
            ValueError: the tickets are of other architectures, or have other numbers of kept weights; or the start
                weights of what is pruned here were not kept.
        """
        self._check(ticket, other)
        if self.weights and other.weights:
            made = Ticket(other.masks, other.weights, origin(ticket, "transfer", seed))
        else:
            made = with_masks(ticket, other.masks, "transfer", seed)
        found = {**made.provenance, "transferred": dict(other.provenance)}
        return replace(made, provenance=found)

    def _check(self, ticket: Ticket, other: Ticket) -> None:
        ticket.masks.check_same(other.masks)
        if self.weights and other.weights and ticket.weights:
            check_fits(ticket, other.weights, "weights of the other ticket")
        here, there = ticket.masks.kept, other.masks.kept
        if abs(there - here) > self.tolerance * here:
            raise ValueError(
                f"the other ticket keeps {there:,} weights and this one {here:,}, which is more than"
                f" {percent(self.tolerance)} apart. Take another round of that run, one of about density"
                f" {ticket.density:.4f}; `lottery.controls.nearest` finds it."
            )


def nearest(path: str | os.PathLike[str], ticket: Ticket) -> Ticket:
    """The ticket of a run, or of a ticket file, that keeps about as many weights as `ticket`.

    Args:
        path: a run directory, of which the round with the nearest number of kept weights is taken; or a ticket file.
        ticket: the ticket it is compared with.

    Raises:
        StorageError: there is no run and no ticket, it is damaged, or the run has no finished round.
    """
    if Path(path).is_file():
        return Ticket.load(path)
    run = Run(path)
    here = ticket.masks.kept
    apart = {number: abs(run.last_masks(number).kept - here) for number in run.rounds}
    if not apart:
        raise StorageError(f"{path} has no finished round to take a ticket of")
    return run.ticket(min(apart, key=lambda number: apart[number]))
