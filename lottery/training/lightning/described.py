"""What defines a training, as plain data that another fit can be compared with."""

from __future__ import annotations

import datetime
import dis
import functools
import inspect
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lottery.foundations.names import parameters_of
from lottery.training.lightning.kinds import is_a

if TYPE_CHECKING:
    from lottery.training.lightning.namespaces import Trainer

_OF_THE_TRAINER = (
    "max_epochs",
    "max_steps",
    "min_epochs",
    "min_steps",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "overfit_batches",
    "val_check_interval",
    "check_val_every_n_epoch",
    "reload_dataloaders_every_n_epochs",
    "precision",
)
# Lightning's callbacks that change a training while it goes on, and what of their arguments does not
_TRAINING = (
    "BaseFinetuning",
    "EarlyStopping",
    "GradientAccumulationScheduler",
    "StochasticWeightAveraging",
    "WeightAveraging",
)
_SAID = {"verbose", "log_rank_zero_only"}
_OF_A_CONFIG = ("interval", "frequency", "monitor", "strict", "reduce_on_plateau")
# what schedulers and optimizers count while they run, and what they derive from parameter groups
_PROGRESS = {
    "last_epoch",
    "_step_count",
    "_last_lr",
    "base_lrs",
    "_is_initial",
    "_get_lr_called_within_step",
    "best",
    "num_bad_epochs",
    "cooldown_counter",
    "mode_worse",
    "T_cur",
    "T_i",
    "verbose",
    "state",
    "defaults",
    "param_groups",
}


def settings_of(trainer: Trainer) -> dict[str, object]:
    """What defines a round besides the callback's own arguments, as plain data.

    It must be asked before the states of optimizers and schedulers are restored: these hold their arguments too.
    """
    module, data = trainer.lightning_module, trainer.datamodule
    names = {id(p): name for name, p in parameters_of(module).items()}
    return {
        "module": type(module).__name__,
        "hyperparameters": describe(dict(module.hparams)),
        "data": {} if data is None else describe(dict(data.hparams)),
        "data_module": None if data is None else type(data).__name__,
        **{name: describe(getattr(trainer, name)) for name in _OF_THE_TRAINER},
        "devices": trainer.world_size,
        "sync_batchnorm": getattr(trainer.strategy, "_layer_sync", None) is not None,
        "use_distributed_sampler": trainer._accelerator_connector.use_distributed_sampler,
        "optimizers": [_optimizer(o, names) for o in trainer.optimizers],
        "lr_schedulers": [
            {
                **_stepped(config.scheduler, trainer.optimizers),
                **{name: describe(getattr(config, name)) for name in _OF_A_CONFIG},
                "logged_as": config.name,
            }
            for config in trainer.lr_scheduler_configs
        ],
        "callbacks": [_callback(c) for c in trainer.callbacks if is_a(c, *_TRAINING)],
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
        return value.tolist() if value.numel() < 100 else f"tensor of shape {tuple(value.shape)}"
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, datetime.date):
        return value.isoformat()
    return _name(value)


def _name(value: object) -> str:
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return f"{getattr(value, '__module__', None) or type(value).__module__}.{name}"


def _optimizer(optimizer: Optimizer, names: Mapping[int, str]) -> dict[str, object]:
    """An optimizer: its class and arguments, and of each parameter group what is its own."""
    return {
        **_stepped(optimizer, ()),
        **describe(optimizer.defaults),
        "groups": [
            {
                "parameters": [names.get(id(p), "not of the module") for p in group["params"]],
                **_own(group, optimizer.defaults),
            }
            for group in optimizer.param_groups
        ],
    }


def _own(group: Mapping[str, object], defaults: Mapping[str, object]) -> dict[str, object]:
    """What a parameter group has besides the optimizer's defaults; schedulers may have changed its learning rate."""
    values = {**group, "lr": group.get("initial_lr", group.get("lr"))}
    left_out = ("params", "param_names", "initial_lr")
    described = {k: describe(v) for k, v in values.items() if k not in left_out}
    usual = describe(defaults)
    return {k: v for k, v in described.items() if k == "lr" or usual.get(k) != v}


def _stepped(thing: object, seen: Collection[object]) -> dict[str, object]:
    """The class of an optimizer or scheduler, and what it holds of its arguments: no progress, no objects in `seen`."""

    def argument(value: object) -> object:
        if isinstance(value, (list, tuple)):
            return [argument(v) for v in value]
        if isinstance(value, (Optimizer, LRScheduler)):
            return _stepped(value, [*seen, thing])
        if isinstance(value, Tensor) and value.numel() > 1:
            return f"tensor of shape {tuple(value.shape)}"
        return _function(value) if callable(value) else describe(value)

    kind = type(thing)
    hidden = "_" if isinstance(thing, Optimizer) else ()  # caches; schedulers hide arguments
    return {
        "name": kind.__name__,
        "module": kind.__module__,
        **{
            name.lstrip("_"): argument(value)
            for name, value in vars(thing).items()
            if name not in _PROGRESS
            and not name.startswith(hidden)
            and not callable(getattr(kind, name, None))  # a method, wrapped
            and not any(value is other for other in (*seen, thing))
        },
    }


def _callback(callback: object) -> dict[str, object]:
    """One of Lightning's callbacks: its class and the arguments that it was made with."""
    kinds = [kind for kind in type(callback).__mro__ if "__init__" in vars(kind)]
    arguments = {name for kind in kinds for name in inspect.signature(kind).parameters}
    held = _stepped(callback, ())
    return {k: v for k, v in held.items() if k in {"name", *arguments} - _SAID}


def _function(value: object) -> dict[str, Any]:
    """A function: its name, and the numbers and text that it reads; of torch's own the name says all."""
    if isinstance(value, functools.partial):
        arguments = describe({**dict(enumerate(value.args)), **value.keywords})
        return {**_function(value.func), "arguments": arguments}
    described = {"name": _name(value)}
    if described["name"].startswith("torch."):
        return described
    if not inspect.isfunction(value):
        return {**described, **_values(getattr(value, "__dict__", {}))}
    read = inspect.getclosurevars(value)
    return {
        **described,
        "constants": [
            step.argval
            for step in dis.get_instructions(value)
            if ("CONST" in step.opname or "SMALL_INT" in step.opname) and isinstance(step.argval, (int, float))
        ],
        "defaults": describe(value.__defaults__ or ()),
        **_values({**read.globals, **read.nonlocals}),
    }


def _values(found: Mapping[str, object]) -> dict[str, object]:
    return {k: describe(v) for k, v in found.items() if _is_a_value(v)}


def _is_a_value(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_a_value(v) for v in value)
    return isinstance(value, (bool, int, float, str))
