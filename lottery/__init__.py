"""Lottery tickets for PyTorch Lightning: find them, keep them, look at them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lottery.callback import LotteryTicket
    from lottery.masks import Masks
    from lottery.place import Place
    from lottery.pruning import Pruning
    from lottery.retraining import Rewind
    from lottery.run import Run
    from lottery.storage import StorageError
    from lottery.study import Study, run_study
    from lottery.ticket import Ticket

_HOMES = {
    "LotteryTicket": "callback",
    "Masks": "masks",
    "Place": "place",
    "Pruning": "pruning",
    "Rewind": "retraining",
    "Run": "run",
    "StorageError": "storage",
    "Study": "study",
    "Ticket": "ticket",
    "run_study": "study",
}
__all__ = [
    "LotteryTicket",
    "Masks",
    "Place",
    "Pruning",
    "Rewind",
    "Run",
    "StorageError",
    "Study",
    "Ticket",
    "run_study",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: inspecting a ticket does not need Lightning."""
    if name not in _HOMES:
        raise AttributeError(
            f"module 'lottery' has no attribute {name!r}; it has {', '.join(__all__)}"
        )
    return getattr(importlib.import_module(f"lottery.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
