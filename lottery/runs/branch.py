"""A branch from a run: another ticket, from the start of one of its rounds, on its random streams and data order."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lottery.foundations import streams
from lottery.foundations.steps import Step
from lottery.runs.differences import differences
from lottery.runs.layout import REWIND, run_directory, snapshot_file
from lottery.runs.run import Run, weights_in
from lottery.runs.starting_point import starting_state
from lottery.runs.states import read_state
from lottery.storage.directory import StorageError
from lottery.tickets.ticket import Ticket


@dataclass(frozen=True)
class Branch:
    """A training that branches off a run: a ticket in the place of a round, from the same point, on the same draws.

    With the round's own ticket the training equals the round bit for bit, so whatever differs, differs because of the
    ticket. Round 0 is an exception: it ran on random streams of the process that began it.

    Args:
        dirpath: the run directory.
        round: a round of the run that has a ticket.
        start: where training starts: "rewind", where the round started, of round 0 the rewind point itself; a step of
            round 0 that the run keeps a snapshot of, such as "500it"; or "init", the beginning of the whole training.
        order: 0 for the round's random streams and data order; others for as many other draws. Inside an epoch the
            order of its rest is another too.

    Raises:
        ValueError: a number is negative, or `start` is neither "rewind" nor a step.

    Example::

        ticket = controls.resolve("signs").make(run.ticket(7), seed=0)
        LotteryTicket(rounds=0, ticket=ticket, branch=Branch("checkpoints/digits", round=7))
    """

    dirpath: str
    round: int = 0
    start: str = "rewind"
    order: int = 0

    def __post_init__(self) -> None:
        for name in ("round", "order"):
            if operator.index(getattr(self, name)) < 0:
                raise ValueError(f"{name}={getattr(self, name)!r} must be 0 or more")
        if self.start != "rewind":
            Step.parse(self.start)

    @classmethod
    def of(cls, value: Mapping[str, Any] | Branch) -> Branch:
        """A mapping of arguments, as a `Branch`."""
        return value if isinstance(value, Branch) else cls(**value)

    @cached_property
    def run(self) -> Run:
        return Run(self.dirpath)

    @property
    def seed(self) -> int:
        """Seed of the random streams."""
        parts = ("order", self.order) if self.order else ()
        return streams.derive(self.run.info.seed, "round", self.round, *parts)

    @property
    def data_round(self) -> int:
        """The round that loaders are told whose order depends on it."""
        return streams.derive(self.round, "order", self.order) if self.order else self.round

    def ticket(self) -> Ticket:
        """The ticket that the place is of: the masks of the round and the weights there.

        Raises:
            StorageError: the run has no such round, or no snapshot of the step.
        """
        if self.start == "rewind" and self.round:
            return self.run.ticket(self.round)
        state = self.state()
        weights = self.run.weights("initial") if state is None else weights_in(state)
        masks = self.run.ticket(self.round).masks if self.round else self.run.masks[0]
        origin = {"run": self.run.info.id, "round": self.round, "start": self.start}
        return Ticket(masks, weights, origin)

    def state(self) -> dict[str, Any] | None:
        """The state that training starts from; None for the beginning of the training, which every fit has."""
        directory, run = run_directory(self.dirpath), self.run.info.id
        if self.start == "rewind" and not self.round:
            return read_state(directory, REWIND, run)
        if self.start == "rewind":
            return starting_state(directory, self.run.info.settings.rewind, self.round, run)
        step = Step.parse(self.start)
        if step == Step():
            return None
        if not directory.holds(snapshot_file(step)):
            stored = sorted(p.stem for p in directory.path.glob("snapshots/*.ckpt"))
            raise StorageError(
                f"{directory.path} has no snapshot of step {self.start!r}; it has {', '.join(stored) or 'none'}."
                " LotteryTicket(snapshots=[...]) stores them in round 0."
            )
        return read_state(directory, snapshot_file(step), run)

    def described(self) -> dict[str, Any]:
        """What of it changes results, as plain data."""
        return {"run": self.run.info.id, "round": self.round, "start": self.start, "order": self.order}

    def check(self, settings: Mapping[str, Any]) -> None:
        """Make sure that a fit trains as the run does, so that only the ticket differs.

        Args:
            settings: the fit's, as `Fit.settings` gives them.

        Raises:
            ValueError: it has another budget, optimizer, model or data; the message lists each difference.
        """
        stored = self.run.info.settings.stored
        theirs = {name: stored[name] for name in settings if name in stored}
        wrong = [f"  {d}" for d in differences(theirs, settings) if d.matters]
        if wrong:
            raise ValueError(
                f"training instead of round {self.round} of {self.dirpath} must be as that run's, but differs:\n"
                + "\n".join(wrong)
            )
