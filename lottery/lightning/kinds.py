"""What a thing of Lightning is, told by class names: the same classes exist in `pytorch_lightning` and in `lightning`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any


def is_a(callback: Any, *names: str) -> bool:
    """Recognise a callback by class name: the same class exists in `pytorch_lightning` and in `lightning`."""
    return any(base.__name__ in names for base in type(callback).__mro__)


def is_lightnings_own(callback: Any) -> bool:
    if is_a(callback, "ProgressBar", "Timer", "LotteryTicket"):
        return False
    return any(
        base.__module__.startswith(("pytorch_lightning.", "lightning."))
        and base.__name__ != "Callback"
        for base in type(callback).__mro__
    )


def silent_logger(trainer: Any) -> Any:
    """A logger that drops everything, of the namespace that the Trainer is of."""
    return _module(trainer, "loggers.logger").DummyLogger()


def combined_loader_type(trainer: Any) -> Any:
    """Lightning's CombinedLoader, of the Trainer's namespace."""
    return _module(trainer, "utilities.combined_loader").CombinedLoader


def _module(trainer: Any, name: str) -> Any:
    """A module of the Lightning that a Trainer is of; subclasses of it may be called Trainer too."""
    home = next(
        base.__module__
        for base in reversed(type(trainer).__mro__)
        if base.__name__ == "Trainer"
    )
    return importlib.import_module(f"{home.rpartition('.trainer.')[0]}.{name}")


def all_loops(loop: Any) -> Iterator[Any]:
    yield loop
    for child in vars(loop).values():
        if any(base.__name__ == "_Loop" for base in type(child).__mro__):
            yield from all_loops(child)
