"""What a thing of Lightning is, told by class names: the same are in `pytorch_lightning` and in `lightning`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule
    from pytorch_lightning.loggers import Logger
    from pytorch_lightning.utilities import CombinedLoader

    from lottery.training.lightning.namespaces import Trainer


def is_a(callback: object, *names: str) -> bool:
    """Recognise a callback by class name: the same class exists in `pytorch_lightning` and in `lightning`."""
    homes = ("lightning", "pytorch_lightning", "lottery")
    return any(base.__name__ in names and base.__module__.partition(".")[0] in homes for base in type(callback).__mro__)


def silent_logger(trainer: Trainer) -> Logger:
    """A logger that drops everything, of the namespace that the Trainer is of."""
    return _module(trainer, "loggers.logger").DummyLogger()


def combined_loader_type(trainer: Trainer) -> type[CombinedLoader]:
    """Lightning's CombinedLoader, of the Trainer's namespace."""
    return _module(trainer, "utilities.combined_loader").CombinedLoader


def _module(trainer: Trainer, name: str) -> Any:
    """A module of the Lightning that a Trainer is of; subclasses of it may be called Trainer too."""
    home = next(base.__module__ for base in reversed(type(trainer).__mro__) if base.__name__ == "Trainer")
    return importlib.import_module(f"{home.rpartition('.trainer.')[0]}.{name}")


def new_result(trainer: Trainer, metadata: Mapping[str, object]) -> object:
    """An empty entry of Lightning's collection of logged values."""
    results = _module(trainer, "trainer.connectors.logger_connector.result")
    meta = results._Metadata(**metadata)
    meta.sync = results._Sync(_should=False)
    return results._ResultMetric(meta, True)


def bare_module(trainer: Trainer) -> LightningModule:
    """A LightningModule without anything of a user's."""
    return _module(trainer, "core.module").LightningModule()


def all_loops(loop: object) -> Iterator[object]:
    yield loop
    for child in vars(loop).values():
        if any(base.__name__ == "_Loop" for base in type(child).__mro__):
            yield from all_loops(child)
