"""What a method of moving masks is, and what it sees of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from lottery.foundations.names import parameters_of
from lottery.foundations.steps import Step
from lottery.masks.masks import Masks

if TYPE_CHECKING:
    from pytorch_lightning import Trainer


@dataclass(frozen=True)
class Training:
    """How long a training is.

    Args:
        steps: optimizer steps in all.
        per_epoch: optimizer steps of an epoch; None where epochs have no end.

    Example:
        >>> Training(steps=300, per_epoch=30).interval("2ep")
        60
    """

    steps: int
    per_epoch: int | None = None

    @classmethod
    def of(cls, trainer: Trainer) -> Training:
        """The training that a Trainer's limits describe, once its data is known.

        With manual optimization a step is a batch, however often each optimizer steps; where `max_steps`, which counts
        those of all optimizers, ends the training sooner, it is shared out evenly.

        Raises:
            ValueError: it has no end that can be told.
        """
        steps = trainer.estimated_stepping_batches
        batches = trainer.num_training_batches
        manual = not trainer.lightning_module.automatic_optimization
        if manual and trainer.max_steps > 0:
            steps = min(steps, math.ceil(trainer.max_steps / len(trainer.optimizers)))
        if not 0 < steps < math.inf:
            raise ValueError(
                "masks that move must know how long the training is, and this one has no end that can be told: give the"
                " Trainer max_steps=..., or max_epochs=... and data of known length"
            )
        finite = 0 < batches < math.inf
        return cls(int(steps), math.ceil(batches / trainer.accumulate_grad_batches) if finite else None)

    def interval(self, every: str) -> int:
        """Steps between two moves.

        Raises:
            ValueError: `every` names epochs and these have no end.
        """
        step = Step.parse(every)
        if step.epochs and self.per_epoch is None:
            raise ValueError(
                f"every={every!r} counts epochs, and those of this data have no end: write steps, such as '100it'"
            )
        return step.epochs * (self.per_epoch or 0) + step.iterations


@dataclass(frozen=True, eq=False)
class MoveContext:
    """A step of a training at which masks move, before the optimizer makes it.

    Args:
        module: the module, its pruned weights at zero.
        masks: the masks so far, of the parameters that the optimizer trains.
        gradients: dense gradients, also of pruned weights; a parameter that got none is missing.
        step: steps that the training has made.
        training: how many it will make.
        generator: a random generator for this move alone, equal on all processes and when a run is resumed.
    """

    module: nn.Module
    masks: Masks
    gradients: Mapping[str, Tensor]
    step: int
    training: Training
    generator: torch.Generator

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights that the masks are of."""
        parameters = parameters_of(self.module)
        return {name: parameters[name].detach() for name in self.masks}


class Method(Protocol):
    """Masks that move while one training goes on. A user's own needs these three methods.

    Where it has no use for gradients, an attribute `needs_gradients = False` saves them from being kept for it.
    """

    def begin(self, masks: Masks, generator: torch.Generator) -> Masks:
        """The masks that training starts under, nested in `masks`."""
        ...

    def due(self, step: int, training: Training) -> bool:
        """Whether the masks move after `step` steps of the optimizer."""
        ...

    def move(self, context: MoveContext) -> Masks:
        """The masks from then on: of the same parameters as `context.masks`."""
        ...


def check_every(every: str) -> None:
    """Make sure that masks move after some time.

    Raises:
        ValueError: `every` is not a step, or no time at all.
    """
    if Step.parse(every) == Step():
        raise ValueError(f"every={every!r} is no time at all: write steps ('100it') or epochs ('1ep')")


def check_share(name: str, value: Any, least: float = 0.0) -> None:
    """Make sure that a value is a share of the training.

    Raises:
        ValueError: it is not above `least` and at most 1.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not least < value <= 1:
        raise ValueError(f"{name}={value!r} is a share of the training: above {least:g}, at most 1")
