"""The arguments of `LotteryTicket`, read and checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from lottery.foundations.steps import Step
from lottery.pruning import dynamic
from lottery.pruning.dynamic import Moving
from lottery.pruning.pruning import Pruning
from lottery.runs.metric import Mode
from lottery.runs.place import Place
from lottery.runs.retraining import Rewind
from lottery.tickets.ticket import Ticket


@dataclass(frozen=True)
class Options:
    """What a `LotteryTicket` is to do, under the names of its arguments; see there for what each means."""

    rounds: int
    pruning: Pruning
    rewind: Rewind
    dirpath: Path
    seed: int | None
    monitor: str | None
    mode: Mode
    keep: str
    test_each_round: bool
    save_every: float | Step
    ticket: Ticket | None
    moving: Moving | None = None
    instead_of: Place | None = None
    snapshots: tuple[Step, ...] = ()

    @classmethod
    def of(cls, ticket: object, dirpath: Path) -> Options:
        """The attributes of a `LotteryTicket` as they are now, for a run in a directory."""
        found = cls(**{**{option.name: getattr(ticket, option.name) for option in fields(cls)}, "dirpath": dirpath})
        if found.ticket is None and found.instead_of is not None:
            return replace(found, ticket=found.instead_of.ticket())
        return found

    def described(self) -> dict[str, object]:
        """What changes the results of a round, as plain data; without methods that are not used."""
        found: dict[str, object] = {
            "pruning": self.pruning.described(),
            "rewind": asdict(self.rewind),
            "seed": self.seed,
            "monitor": self.monitor,
            "keep": self.keep,
            "test_each_round": self.test_each_round,
            "ticket": None if self.ticket is None else self.ticket.fingerprint,
        }
        if self.moving is not None:
            found["moving"] = dynamic.described(self.moving)
        if self.instead_of is not None:
            found["instead_of"] = self.instead_of.described()
        return found
