"""The Callback base class and the Trainer, in whichever of Lightning's two namespaces the user has."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytorch_lightning

    class Trainer(pytorch_lightning.Trainer):
        """A Trainer, with what Lightning declares no types for, or others than it has once a fit is extended."""

        callbacks: list[Any]
        datamodule: Any
        fit_loop: Any
        state: Any
        _checkpoint_connector: Any
        _logger_connector: Any


_NAMES = {"pytorch_lightning": "pytorch-lightning", "lightning.pytorch": "lightning"}


def callback_bases() -> tuple[type, ...]:
    """The `Callback` classes to derive from, so that the Trainer of either namespace accepts the result.

    From Lightning 2.6 a Trainer accepts callbacks of the other namespace, so one base is enough; up to 2.5 it refuses
    them, so every installed one is needed. (Importing both costs a second, which is why it is not always done.)
    """
    installed = [name for name in _NAMES if find_spec(name.split(".")[0]) is not None]
    loaded = [name for name in installed if name in sys.modules]
    strict = any(_version(_NAMES[name]) < (2, 6) for name in installed)
    wanted = installed if strict else (loaded or installed)[:1]
    return tuple(importlib.import_module(name).Callback for name in wanted)


def _version(distribution: str) -> tuple[int, ...]:
    return tuple(int(part) for part in metadata.version(distribution).split(".")[:2])
