"""Lottery tickets for PyTorch Lightning: find them, keep them, look at them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lottery.masks.masks import Masks
    from lottery.pruning.pruning import Pruning
    from lottery.runs.comparison import compare
    from lottery.runs.place import Place
    from lottery.runs.retraining import Rewind
    from lottery.runs.run import Run
    from lottery.storage.directory import StorageError
    from lottery.studies import Study, run_study
    from lottery.tickets.ticket import Ticket
    from lottery.training.callback import LotteryTicket

# what is reached at the top: names, and rooms with names of their own
_HOMES = {
    "LotteryTicket": "training.callback",
    "Masks": "masks.masks",
    "Place": "runs.place",
    "Pruning": "pruning.pruning",
    "Rewind": "runs.retraining",
    "Run": "runs.run",
    "StorageError": "storage",
    "Study": "studies",
    "Ticket": "tickets.ticket",
    "compare": "runs.comparison",
    "run_study": "studies",
}
_ROOMS = {
    "controls": "studies.controls",
    "dynamic": "pruning.dynamic",
    "metrics": "tickets.metrics",
    "scores": "pruning.scores",
    "structures": "pruning.structures",
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
    "compare",
    "controls",
    "deploy",
    "dynamic",
    "metrics",
    "plots",
    "run_study",
    "scores",
    "structures",
    "tasks",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: inspecting a ticket does not need Lightning."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"lottery.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"lottery.{_ROOMS.get(name, name)}")
    raise AttributeError(
        f"module 'lottery' has no attribute {name!r}; it has {', '.join(__all__)}"
    )


def __dir__() -> list[str]:
    return __all__
