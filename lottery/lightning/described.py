"""What defines a training, as plain data that another fit can be compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def settings_of(trainer: Any) -> dict[str, Any]:
    """What defines a round besides the callback's own arguments, as plain data."""
    module = trainer.lightning_module
    return {
        "module": type(module).__name__,
        "hyperparameters": {k: describe(v) for k, v in dict(module.hparams).items()},
        "data": {k: describe(v) for k, v in dict(trainer.datamodule.hparams).items()}
        if trainer.datamodule is not None
        else {},
        "max_epochs": trainer.max_epochs,
        "max_steps": trainer.max_steps,
        "min_epochs": trainer.min_epochs,
        "min_steps": trainer.min_steps,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "gradient_clip_val": trainer.gradient_clip_val,
        "gradient_clip_algorithm": describe(trainer.gradient_clip_algorithm),
        "limit_train_batches": trainer.limit_train_batches,
        "precision": trainer.precision,
        "devices": trainer.world_size,
        "optimizers": [
            {
                "name": type(o).__name__,
                **{k: describe(v) for k, v in o.defaults.items()},
            }
            for o in trainer.optimizers
        ],
        "lr_schedulers": [
            type(c.scheduler).__name__ for c in trainer.lr_scheduler_configs
        ],
    }


def describe(value: Any) -> Any:
    """A setting as something that JSON holds and that compares equal from run to run."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(k): describe(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(v) for v in value]
    if isinstance(value, Tensor):
        return (
            value.tolist()
            if value.numel() < 100
            else f"tensor of shape {tuple(value.shape)}"
        )
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return f"{getattr(value, '__module__', None) or type(value).__module__}.{name}"
