"""What a Trainer says of its fit."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lottery.foundations.names import weights_of
from lottery.pruning.dynamic import Training
from lottery.runs.metric import Mode
from lottery.training.lightning import signals
from lottery.training.lightning.described import settings_of
from lottery.training.lightning.kinds import is_a
from lottery.training.lightning.schedules import final_rates

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule
    from pytorch_lightning.callbacks import Timer

    from lottery.training.lightning.namespaces import Trainer


class Reading:
    """A Trainer's fit, read.

    Args:
        trainer: a Trainer in `setup(stage="fit")`.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    @property
    def module(self) -> LightningModule:
        return self.trainer.lightning_module

    @property
    def global_step(self) -> int:
        return self.trainer.global_step

    def position(self) -> int | None:
        """How far a manual optimization is, in the steps of `dynamic.Training`; None where steps can be counted."""
        trainer = self.trainer
        if trainer.lightning_module.automatic_optimization:
            return None
        steps = Training.of(trainer).steps
        found = [trainer.global_step * steps // trainer.max_steps] if trainer.max_steps > 0 else []
        batches = trainer.num_training_batches * (trainer.max_epochs or -1)
        if 0 < batches < math.inf:
            seen = trainer.fit_loop.epoch_loop.batch_progress.total.ready - 1
            found.append(int(seen * steps // batches))
        return max(found, default=None)

    @property
    def epoch(self) -> int:
        """Epochs of the round that are complete."""
        return self.trainer.fit_loop.epoch_progress.current.processed

    @property
    def logged_steps(self) -> int:
        """The step under which loggers get what comes next: batches, whatever the optimizers do with them."""
        return self.trainer.fit_loop.epoch_loop._batches_that_stepped

    @property
    def requeue_signal(self) -> int | None:
        """The signal with which SLURM asks for the job to be put back into the queue, None where nothing asks."""
        return signals.requeue_signal(self.trainer)

    @property
    def handlers_before(self) -> dict[int, Any]:
        """The handlers of signals that there were before the fit."""
        return signals.handlers_before(self.trainer)

    @property
    def is_writer(self) -> bool:
        return self.trainer.is_global_zero

    @property
    def max_epochs(self) -> int:
        """The user's `max_epochs`, -1 for none."""
        limit = self.trainer.max_epochs
        return -1 if limit is None else limit

    def weights(self) -> dict[str, Tensor]:
        """The module's own state dict by canonical names, tensors only."""
        return weights_of(self.module)

    def settings(self) -> dict[str, object]:
        """What defines a round besides the callback's own arguments, as plain data."""
        return settings_of(self.trainer)

    def metrics(self) -> dict[str, Tensor]:
        """The metrics known to callbacks; a value is the same object until it is logged again."""
        return dict(self.trainer.callback_metrics)

    def monitored(self) -> tuple[str, Mode] | None:
        """Metric and mode of the first EarlyStopping or ModelCheckpoint that has one."""
        for callback in self.trainer.callbacks:
            if is_a(callback, "EarlyStopping", "ModelCheckpoint") and callback.monitor:
                return callback.monitor, callback.mode
        return None

    def trains_nothing(self) -> str | None:
        """The Trainer's setting that leaves a round without a step, as it would be written, or None."""
        trainer = self.trainer
        limits = ("max_epochs", "max_steps", "limit_train_batches")
        return next((f"{n}=0" for n in limits if getattr(trainer, n) == 0), None)

    def never_ends(self) -> bool:
        """Whether nothing that is known here ends a training."""
        unlimited = self.max_epochs == -1 and self.trainer.max_steps == -1
        ends = [c for c in self.trainer.callbacks if is_a(c, "EarlyStopping", "Timer")]
        return unlimited and not ends

    def steps_in_an_epoch(self) -> float:
        """Optimizer steps in an epoch, infinity where that is not known. Makes the training data as the first epoch
        would.

        Callbacks that accumulate more and more batches may make them fewer.
        """
        if not self.module.automatic_optimization:
            return math.inf
        loop = self.trainer.fit_loop
        loop.setup_data()
        if not math.isfinite(loop.max_batches):
            return math.inf
        return math.ceil(loop.max_batches / self.trainer.accumulate_grad_batches)

    def averages_from(self) -> float:
        """The epoch in which weights begin to be averaged by SWA, from when on no state can be captured."""
        swa = [c for c in self.trainer.callbacks if is_a(c, "StochasticWeightAveraging")]
        starts = [s if isinstance(s := c._swa_epoch_start, int) else int(self.max_epochs * s) for c in swa]
        return min((max(start - 1, 0) for start in starts), default=math.inf)

    def final_rates(self, steps_in_an_epoch: float) -> list[float] | None:
        """The largest learning rate of each optimizer at the end of a round, over the largest of the round; None where
        schedules cannot be foretold."""
        return final_rates(self.trainer, steps_in_an_epoch)

    def agrees(self, value: Callable[[], bytes]) -> bool:
        """Whether all processes of a distributed fit have the same value."""
        strategy = self.trainer.strategy
        if self.trainer.world_size == 1:
            return True
        digest = hashlib.sha256(value()).hexdigest()
        same = strategy.broadcast(digest) == digest
        return bool(strategy.reduce_boolean_decision(same, all=True))

    def reached_its_end(self) -> bool:
        """Whether the round ran to the Trainer's own limits, rather than being stopped."""
        loop = self.trainer.fit_loop
        if 0 <= loop.max_steps <= self.global_step:
            return True
        whole_epoch = loop.epoch_loop._num_ready_batches_reached()
        return 0 <= loop.max_epochs <= self.epoch and whole_epoch

    def time_limit(self) -> float:
        """Seconds that `Trainer(max_time=...)` allows, infinity where it is not given."""
        limits = [timer._duration for timer in timers(self.trainer) if timer._duration is not None]
        return min(limits, default=math.inf)

    def time_is_up(self) -> bool:
        """Whether `Trainer(max_time=...)` has run out."""
        left = [timer.time_remaining() for timer in timers(self.trainer)]
        return any(seconds is not None and seconds <= 0 for seconds in left)


def timers(trainer: Trainer) -> list[Timer]:
    """The callbacks that bound a fit's time."""
    return [callback for callback in trainer.callbacks if is_a(callback, "Timer")]
