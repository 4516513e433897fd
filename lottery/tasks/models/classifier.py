"""What the benchmark models share: cross entropy, accuracy, an optimizer of choice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

OptimizerCallable = Callable[[Iterable], Optimizer]
LRSchedulerCallable = Callable[[Optimizer], LRScheduler]


class Classifier(LightningModule, ABC):
    """A classifier trained with cross entropy. A subclass is the network.

    Logs `val_loss`, `val_acc`, `test_loss` and `test_acc`, and once an epoch
    `train_loss` and `train_acc`, the means over the epoch's batches as they were
    trained on. These two sums are part of a checkpoint, so that they are right in an
    epoch that was stopped and resumed. The checkpoint holds the architecture but not
    the optimizer: `load_from_checkpoint` needs `optimizer` again where it matters.

    Args:
        optimizer: Makes the optimizer from the parameters. In a recipe, a class and
            its arguments.
        lr_scheduler: Makes a scheduler that is stepped once an epoch.

    Example, in a recipe:
        optimizer: {class_path: torch.optim.Adam, init_args: {lr: 1.2e-3}}
    """

    def __init__(
        self, optimizer: OptimizerCallable = torch.optim.Adam, lr_scheduler: LRSchedulerCallable | None = None
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self._epoch_sums = torch.zeros(3)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (samples, classes)."""

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters())
        if self.lr_scheduler is None:
            return optimizer
        return [optimizer], [self.lr_scheduler(optimizer)]

    def on_train_start(self) -> None:
        # A checkpoint is loaded before the module moves to its device.
        self._epoch_sums = self._epoch_sums.to(self.device)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss, hits = self._loss_and_hits(batch)
        # Summed here, because two `self.log` calls cost a third of a LeNet step.
        # Begun anew here, because Lightning leaves out `on_train_epoch_start` when it
        # resumes from the last batch of the epoch before.
        if batch_idx == 0:
            self._epoch_sums = torch.zeros(3, device=self.device)
        samples = len(batch[1])
        self._epoch_sums[0] += loss.detach() * samples
        self._epoch_sums[1] += hits
        self._epoch_sums[2] += samples
        return loss

    def on_train_epoch_end(self) -> None:
        loss, hits, samples = self._epoch_sums
        self.log("train_loss", loss / samples)
        self.log("train_acc", hits / samples)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("test", batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["epoch_sums"] = self._epoch_sums.clone()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        sums = checkpoint.get("epoch_sums", torch.zeros(3))
        self._epoch_sums = sums.to(self.device, copy=True)

    def _evaluate(self, stage: str, batch: tuple[Tensor, Tensor]) -> None:
        loss, hits = self._loss_and_hits(batch)
        samples = len(batch[1])
        self.log(f"{stage}_loss", loss, batch_size=samples)
        self.log(f"{stage}_acc", hits / samples, batch_size=samples, prog_bar=stage == "val")

    def _loss_and_hits(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y = batch
        logits = self(x)
        return F.cross_entropy(logits, y), (logits.detach().argmax(1) == y).sum()
