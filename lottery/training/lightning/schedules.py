"""What the learning rates of a round come to, before it is trained."""

from __future__ import annotations

import copy
import math
import warnings
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lottery.training.lightning.namespaces import Trainer

_STEPS = 200_000  # more would take too long to go through


def final_rates(trainer: Trainer, steps_in_an_epoch: float) -> list[float] | None:
    """The largest learning rate of each optimizer at the end of a round, over the largest of the round.

    Args:
        trainer: a Trainer whose optimizers and schedulers are made.
        steps_in_an_epoch: optimizer steps in an epoch, infinity where that is not known.

    Returns:
        None where schedules cannot be foretold: they follow metrics, or the length of the round is not known.
    """
    epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs
    steps = epochs * steps_in_an_epoch
    if trainer.max_steps != -1:
        steps = min(steps, trainer.max_steps)
        epochs = min(epochs, steps // steps_in_an_epoch)
    found = []
    for optimizer in trainer.optimizers:
        stand_in = _stand_in(optimizer)
        largest = _largest_rate(stand_in)
        for config in trainer.lr_scheduler_configs:
            if config.scheduler.optimizer is not optimizer:
                continue
            length = (epochs if config.interval == "epoch" else steps) / config.frequency
            if config.reduce_on_plateau or not length <= _STEPS:
                return None
            scheduler = copy.deepcopy(config.scheduler, {id(optimizer): stand_in})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the stand-in makes no steps
                for _ in range(int(length)):
                    scheduler.step()
                    largest = max(largest, _largest_rate(stand_in))
        found.append(_largest_rate(stand_in) / largest if largest else 1.0)
    return found


def _stand_in(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """An optimizer with the same settings, of nothing."""
    groups = [
        {**copy.deepcopy({k: v for k, v in group.items() if k != "params"}), "params": [torch.zeros(1)]}
        for group in optimizer.param_groups
    ]
    stand_in = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    stand_in.param_groups = groups
    stand_in.defaults = dict(getattr(optimizer, "defaults", {}))
    return stand_in


def _largest_rate(optimizer: torch.optim.Optimizer) -> float:
    return max(float(group["lr"]) for group in optimizer.param_groups)
