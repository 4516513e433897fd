"""Callbacks beside LotteryTicket: each a function that makes them, for a fit of its own."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning import callbacks as lightning

from conformance.axis import Axis

CALLBACKS = callback = Axis("callback")

AVERAGING = "pytorch_lightning.callbacks.weight_averaging"  # from 2.6 on
# what a Trainer needs for a callback to work
LOGGED = {"logger": True, "log_every_n_steps": 2}


@callback()
def none() -> list[Any]:
    """no other callback"""
    return []


# Lightning's own


@callback(needs="validation")
def early_stopping() -> list[Any]:
    """EarlyStopping on the validation loss"""
    return [lightning.EarlyStopping("val_loss", patience=1, min_delta=0.05)]


@callback()
def early_stopping_on_training() -> list[Any]:
    """EarlyStopping on the training loss, checked at the end of training epochs"""
    return [
        lightning.EarlyStopping(
            "train_loss_epoch", patience=1, min_delta=0.05, check_on_train_epoch_end=True, strict=False
        )
    ]


@callback(needs="validation", more={"enable_checkpointing": True})
def model_checkpoint() -> list[Any]:
    """ModelCheckpoint, the best two and the last"""
    return [lightning.ModelCheckpoint(monitor="val_loss", save_top_k=2, save_last=True)]


@callback(more={"enable_checkpointing": True})
def checkpoint_every_3_steps() -> list[Any]:
    """ModelCheckpoint every three steps, all of them"""
    return [lightning.ModelCheckpoint(every_n_train_steps=3, save_top_k=-1)]


@callback(needs="loadable", more={"enable_checkpointing": True})
def checkpoint_on_exception() -> list[Any]:
    """OnExceptionCheckpoint"""
    return [lightning.OnExceptionCheckpoint("out")]


@callback(needs="decay", more=LOGGED)
def learning_rate_monitor() -> list[Any]:
    """LearningRateMonitor, with momentum and weight decay"""
    return [lightning.LearningRateMonitor(log_momentum=True, log_weight_decay=True)]


@callback(needs="averaging", refused="begin to average later")
def stochastic_weight_averaging() -> list[Any]:
    """StochasticWeightAveraging over the last epoch"""
    return [lightning.StochasticWeightAveraging(0.01, swa_epoch_start=1, annealing_epochs=1)]


@callback(needs="averaging", package=AVERAGING)
def ema_weight_averaging() -> list[Any]:
    """EMAWeightAveraging, from the first step"""
    return [lightning.EMAWeightAveraging(decay=0.8)]


@callback(needs="averaging", package=AVERAGING)
def weight_averaging() -> list[Any]:
    """WeightAveraging with plain averages"""
    return [lightning.WeightAveraging()]


@callback(needs="automatic", lacks="unaccumulated")
def accumulation_scheduler() -> list[Any]:
    """GradientAccumulationScheduler: two batches a step from the second epoch on"""
    return [lightning.GradientAccumulationScheduler({1: 2})]


@callback(needs="backbone")
def backbone_finetuning() -> list[Any]:
    """BackboneFinetuning: the backbone joins in the second epoch"""
    return [lightning.BackboneFinetuning(unfreeze_backbone_at_epoch=1, backbone_initial_lr=1e-3, verbose=False)]


@callback(needs="every-epoch")
def timer() -> list[Any]:
    """Timer of a day"""
    return [lightning.Timer("01:00:00:00")]


@callback()
def lambda_callback() -> list[Any]:
    """LambdaCallback with functions"""
    return [lightning.LambdaCallback(on_train_epoch_end=lambda trainer, module: None)]


@callback(needs="tuning")
def learning_rate_finder() -> list[Any]:
    """LearningRateFinder before training"""
    return [lightning.LearningRateFinder(num_training_steps=20, early_stop_threshold=None)]


@callback(more=LOGGED)
def device_stats() -> list[Any]:
    """DeviceStatsMonitor"""
    return [lightning.DeviceStatsMonitor(cpu_stats=False)]


@callback(more=LOGGED)
def throughput() -> list[Any]:
    """ThroughputMonitor"""
    return [lightning.ThroughputMonitor(batch_size_fn=lambda batch: 8, window_size=2)]


@callback(more={"enable_progress_bar": True})
def rich_progress_bar() -> list[Any]:
    """RichProgressBar"""
    return [lightning.RichProgressBar()]


@callback(more={"enable_progress_bar": True})
def tqdm_progress_bar() -> list[Any]:
    """TQDMProgressBar"""
    return [lightning.TQDMProgressBar()]


@callback(more={"enable_model_summary": True})
def model_summary() -> list[Any]:
    """ModelSummary and its rich sibling"""
    return [lightning.ModelSummary(max_depth=2), lightning.RichModelSummary()]


@callback(refused="ModelPruning")
def model_pruning() -> list[Any]:
    """ModelPruning, which wraps the weights that it prunes"""
    return [lightning.ModelPruning("l1_unstructured", amount=0.1)]


# users' own


class OwnAverage(pl.Callback):
    """An exponential moving average of the weights, swapped in for validation; saved by `state_dict`."""

    def __init__(self) -> None:
        self.average: dict[str, torch.Tensor] = {}
        self.aside: dict[str, torch.Tensor] = {}

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        if not self.average:
            self.average = {n: p.detach().clone() for n, p in module.named_parameters()}

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                self.average[name].lerp_(parameter.detach(), 0.2)

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                self.aside[name] = parameter.detach().clone()
                parameter.copy_(self.average[name])

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(self.aside[name])

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average = {n: t.clone() for n, t in state["average"].items()}


@callback()
def own_average() -> list[Any]:
    """a user's own moving average of the weights, with `state_dict`"""
    return [OwnAverage()]


class CopyAverage(pl.Callback):
    """A deep copy of the module that follows it; nobody saves it. Its loss is logged."""

    def __init__(self) -> None:
        self.copy: Any = None

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        self.copy = {n: p.detach().clone() for n, p in module.named_parameters()}

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        for name, parameter in module.named_parameters():
            self.copy[name].lerp_(parameter.detach(), 0.2)

    def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
        norm = sum(float(tensor.double().square().sum()) for tensor in self.copy.values())
        module.log("norm_of_copy", norm)


@callback()
def copy_without_state() -> list[Any]:
    """a user's own moving average as a plain attribute, without `state_dict`"""
    return [CopyAverage()]


class GradientNoise(pl.Callback):
    """Adds noise to all gradients, after everyone else."""

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        for parameter in module.parameters():
            if parameter.grad is not None and not parameter.grad.is_sparse:
                parameter.grad.add_(torch.randn_like(parameter.grad), alpha=0.01)


@callback()
def gradient_noise() -> list[Any]:
    """noise on every gradient, before the step"""
    return [GradientNoise()]


class WeightDecayByHand(pl.Callback):
    """Changes weights after each batch: clips them, and pulls them to the module's start."""

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        self.start = [p.detach().clone() for p in module.parameters()]

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        with torch.no_grad():
            for parameter, start in zip(module.parameters(), self.start, strict=True):
                parameter.lerp_(start.to(parameter), 0.01)


@callback(refused="are not zero")
def pull_to_the_start() -> list[Any]:
    """a regularizer that moves weights after each batch, towards where they began"""
    return [WeightDecayByHand()]


class Counter(pl.Callback):
    """Scales the learning rate by counts that nobody saves."""

    def __init__(self) -> None:
        self.batches, self.seen = 0, {"epochs": [0]}

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.seen["epochs"].append(trainer.current_epoch)

    def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        self.batches += 1
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 0.02 / (1 + 0.1 * self.batches + len(self.seen["epochs"]))


@callback(needs="optimizer")
def counter_without_state() -> list[Any]:
    """counters in a number and a list set the learning rate; no `state_dict`"""
    return [Counter()]


class NumpyState(pl.Callback):
    """A learning rate drawn from a NumPy generator of its own; history in an array."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(4)
        self.history = np.zeros(0)

    def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        rate = float(self.generator.uniform(0.005, 0.02))
        self.history = np.append(self.history, rate)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 + 0.1 * len(self.history))


@callback(needs="optimizer")
def numpy_state() -> list[Any]:
    """a NumPy generator and an array set the learning rate; no `state_dict`"""
    return [NumpyState()]


class Drawing(pl.Callback):
    """Draws from global streams, as augmentations, samplings and plots do."""

    def draw(self, *_: Any) -> None:
        torch.rand(3)
        np.random.rand(2)

    on_train_start = on_train_epoch_start = on_train_batch_end = draw
    on_validation_start = on_train_epoch_end = draw


@callback()
def drawing() -> list[Any]:
    """draws random numbers in hooks"""
    return [Drawing()]


class Freezing(pl.Callback):
    """Freezes the first parameter after the first epoch, by `requires_grad`."""

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 1:
            next(iter(module.parameters())).requires_grad = False


@callback(needs="automatic unfrozen")
def freezing() -> list[Any]:
    """freezes a layer in the second epoch"""
    return [Freezing()]


class Thinned(pl.Callback):
    """Takes what it doesn't like out of checkpoints."""

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: Any) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {
            name: (tensor.half() if tensor.is_floating_point() else tensor) for name, tensor in state.items()
        }


@callback(more={"enable_checkpointing": True})
def halved_checkpoints() -> list[Any]:
    """checkpoints in half precision, by `on_save_checkpoint`"""
    return [Thinned(), lightning.ModelCheckpoint(save_top_k=-1)]


class Teacher(pl.Callback):
    """Keeps the weights of the best epoch and goes back to them when one is worse, but for weights that are zero."""

    def __init__(self) -> None:
        self.best = float("inf")
        self.weights: Any = None

    def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
        loss = float(trainer.callback_metrics.get("val_loss", 0.0))
        if trainer.sanity_checking:
            return
        if loss < self.best:
            self.best = loss
            self.weights = copy.deepcopy(module.state_dict())
        elif self.weights is not None:
            now = module.state_dict()
            module.load_state_dict({n: torch.where(now[n] == 0, now[n], w) for n, w in self.weights.items()})


@callback(needs="validation")
def back_to_the_best() -> list[Any]:
    """goes back to the weights of the best epoch, kept as a plain attribute"""
    return [Teacher()]


class LogsMore(pl.Callback):
    """Logs values of its own, per step and per epoch."""

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        norm = sum(p.detach().double().square().sum() for p in module.parameters())
        module.log("norm", norm, on_step=True, on_epoch=True)


@callback(more=LOGGED)
def logs_norms() -> list[Any]:
    """logs the norm of the weights, per step and per epoch"""
    return [LogsMore()]
