"""Rounds that went wrong in numbers: found before anything of them is stored, and trained again, otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from lottery.foundations import streams
from lottery.foundations.names import parameters_of
from lottery.runs.layout import RETRIED, round_file
from lottery.runs.schema import Retried
from lottery.storage.directory import Directory

if TYPE_CHECKING:
    from lottery.training.lightning import Fit
    from lottery.training.record import Record

ATTEMPTS = 3
"""How often `on_divergence="retry"` trains a round, the first time included."""
_RATES = ("lr", "initial_lr", "max_lr", "min_lr")


class DivergedError(ValueError):
    """A round ended with weights or a loss that are NaN or infinite; nothing of it was stored."""


def trouble(fit: Fit, record: Record) -> list[str]:
    """What of a round's weights and losses is NaN or infinite, in words."""
    return [*_weights(fit), *_losses(record)]


def _weights(fit: Fit) -> Iterator[str]:
    for name, parameter in parameters_of(fit.module).items():
        if parameter.is_floating_point() or parameter.is_complex():
            broken = int((~torch.isfinite(parameter.detach())).sum())
            if broken:
                yield f"{broken} of the {parameter.numel()} weights of {name}"


def _losses(record: Record) -> Iterator[str]:
    last: dict[str, float] = {}
    for row in record.history:
        last.update(row)
    for name, value in last.items():
        if "loss" in name.lower() and not math.isfinite(value):
            yield f"{name} ({value})"


def error(number: int, found: list[str], directory: Directory) -> DivergedError:
    """The error of a round that diverged, with the ways out."""
    more = f", and {len(found) - 4} more" if len(found) > 4 else ""
    return DivergedError(
        f"round {number} diverged: NaN or infinite are {', '.join(found[:4])}{more}. Nothing of the round was stored;"
        f" the rounds before it are in {directory.path}, and running again trains it again on the same draws. If it"
        f" diverges each time, give it other draws or a lower learning rate: `lottery retry {directory.path}"
        " --learning-rate 0.5` before running again, or LotteryTicket(on_divergence='retry')."
    )


def retried(directory: Directory, number: int) -> Retried | None:
    """How a round is trained otherwise than the others, None where it is not."""
    name = round_file(number, RETRIED)
    return directory.read_json(name, Retried.of) if name in directory else None


def again(before: Retried | None, *, seed: int | None = None, learning_rate: float | None = None) -> Retried:
    """The next attempt after another: with a seed of its own, or a given one."""
    if before is None:
        before = Retried(0, None, 1.0)
    rate = before.learning_rate if learning_rate is None else learning_rate
    return Retried(before.attempt + 1, seed, rate)


def seed_of(run_seed: int, number: int, attempt: Retried | None) -> int:
    """Seed of a round's random streams, in its first or in another attempt."""
    if attempt is None:
        return streams.derive(run_seed, "round", number)
    if attempt.seed is not None:
        return attempt.seed
    return streams.derive(run_seed, "round", number, "attempt", attempt.attempt)


def scale_rates(fit: Fit, factor: float) -> None:
    """Multiply the learning rates of all optimizers and schedulers."""
    if factor == 1.0:
        return
    for optimizer in fit.states.optimizers():
        for group in optimizer.param_groups:
            group.update({name: group[name] * factor for name in _RATES if name in group})
    schedulers: list[Any] = [config.scheduler for config in fit.trainer.lr_scheduler_configs]
    for scheduler in schedulers:
        for name in ("base_lrs", "_last_lr"):
            if isinstance(known := getattr(scheduler, name, None), list):
                setattr(scheduler, name, [rate * factor for rate in known])
