"""Lottery tickets for PyTorch Lightning: find them, keep them, look at them."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from lottery.masks.masks import Masks
    from lottery.pruning import dynamic, scores, structures
    from lottery.pruning.pruning import Pruning
    from lottery.runs.branch import Branch
    from lottery.runs.comparison import compare
    from lottery.runs.retraining import Rewind
    from lottery.runs.run import Run
    from lottery.storage.directory import StorageError
    from lottery.studies import Study, controls, run_study
    from lottery.tickets import metrics
    from lottery.tickets.ticket import Ticket
    from lottery.training.callback import LotteryTicket

# what is reached at the top: names, and rooms with names of their own
_HOMES = {
    "LotteryTicket": "training.callback",
    "Masks": "masks.masks",
    "Branch": "runs.branch",
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
    "Branch",
    "LotteryTicket",
    "Masks",
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


class _Rooms:
    """Has `import lottery.scores` give the very module that `lottery.scores` is."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        top, _, room = name.partition(".")
        known = top == __name__ and room.partition(".")[0] in _ROOMS
        return ModuleSpec(name, self) if known else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        room, dot, rest = spec.name.partition(".")[2].partition(".")
        module = importlib.import_module(f"{__name__}.{_ROOMS[room]}{dot}{rest}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


sys.meta_path.insert(0, _Rooms())


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: inspecting a ticket does not need Lightning."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"lottery.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"lottery.{_ROOMS.get(name, name)}")
    raise AttributeError(f"module 'lottery' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
