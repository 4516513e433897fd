"""The arguments of `LotteryTicket`, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lottery.foundations.steps import Step
from lottery.pruning.dynamic import Moving
from lottery.pruning.pruning import Pruning
from lottery.runs.metric import Mode
from lottery.runs.place import Place
from lottery.runs.retraining import Rewind
from lottery.tickets.ticket import Ticket


@dataclass(frozen=True)
class Options:
    """What a `LotteryTicket` is to do; see there for what each means."""

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
