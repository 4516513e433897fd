"""What a fit changes outside of checkpoints."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from lottery.lightning.kinds import is_lightnings_own


class Pristine:
    """What a fit changes outside of checkpoints, as it was before the first round."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._max_epochs = trainer.fit_loop.max_epochs
        self._accumulate = trainer.accumulate_grad_batches
        self._schedulers = list(trainer.lr_scheduler_configs)
        self._group_counts = [
            len(optimizer.param_groups) for optimizer in trainer.optimizers
        ]
        self._requires_grad = [
            (p, p.requires_grad) for p in trainer.lightning_module.parameters()
        ]
        self._callbacks = [
            (
                callback,
                {name: copy_if_plain(value) for name, value in vars(callback).items()},
            )
            for callback in trainer.callbacks
            if is_lightnings_own(callback)
        ]

    def restore(self) -> None:
        trainer = self._trainer
        trainer.fit_loop.max_epochs = self._max_epochs
        trainer.accumulate_grad_batches = self._accumulate
        trainer.fit_loop._skip_backward = False
        trainer.strategy.lr_scheduler_configs = list(self._schedulers)
        for optimizer, count in zip(
            trainer.optimizers, self._group_counts, strict=True
        ):
            del optimizer.param_groups[count:]
        for parameter, flag in self._requires_grad:
            parameter.requires_grad_(flag)
        for callback, attributes in self._callbacks:
            vars(callback).clear()
            vars(callback).update(
                {name: copy_if_plain(value) for name, value in attributes.items()}
            )


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return type(value) is dict and all(
            is_plain(v) for item in value.items() for v in item
        )
    if isinstance(value, (list, tuple, set)):
        return type(value) in (list, tuple, set) and all(is_plain(v) for v in value)
    return (
        value is None
        or type(value) in (bool, int, float, complex, str, bytes)
        or isinstance(value, Tensor)
    )


def copy_if_plain(value: Any) -> Any:
    return copy.deepcopy(value) if is_plain(value) else value
