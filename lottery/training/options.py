"""The arguments of `LotteryTicket`, read and checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from lottery.foundations.steps import Step
from lottery.pruning import dynamic
from lottery.pruning.dynamic import Method
from lottery.pruning.pruning import Pruning
from lottery.runs.branch import Branch
from lottery.runs.metric import Mode
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
    dynamic: Method | None = None
    branch: Branch | None = None
    snapshots: tuple[Step, ...] = ()
    on_divergence: str = "stop"

    @classmethod
    def of(cls, ticket: object, dirpath: Path) -> Options:
        """The attributes of a `LotteryTicket` as they are now, for a run in a directory."""
        found = cls(**{**{option.name: getattr(ticket, option.name) for option in fields(cls)}, "dirpath": dirpath})
        if found.ticket is None and found.branch is not None:
            return replace(found, ticket=found.branch.ticket())
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
        if self.dynamic is not None:
            found["dynamic"] = dynamic.described(self.dynamic)
        if self.branch is not None:
            found["branch"] = self.branch.described()
        return found
