"""What the benchmark tasks share: three splits of tensors, held in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from pytorch_lightning import LightningDataModule
from torch import Tensor

from lottery.tasks.data.loader import BatchLoader

EVALUATION_BATCH = 10_000


class Split(NamedTuple):
    """Inputs `x`, with the samples in the first dimension, and integer labels `y`."""

    x: Tensor
    y: Tensor


class Splits(NamedTuple):
    """The three parts of a data set; no sample is in two of them."""

    train: Split
    val: Split
    test: Split


class InMemory(LightningDataModule, ABC):
    """A data set that fits in memory. A subclass says how it is loaded.

    The splits are the same for every `seed`, which fixes the order of the training
    batches and nothing else. Where a Trainer is attached, the tensors move to its
    device once per loader, not once per batch.

    Attributes:
        num_classes: Number of labels.
        input_shape: Shape of one sample.

    Args:
        batch_size: Training samples per batch.
        seed: Seed of the order of the training batches.
    """

    num_classes: ClassVar[int]
    input_shape: ClassVar[tuple[int, ...]]

    def __init__(self, batch_size: int, seed: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.seed = seed
        self._splits: Splits | None = None

    @abstractmethod
    def load(self) -> Splits:
        """Read or make the data, scaled, with samples in a fixed order."""

    @property
    def splits(self) -> Splits:
        """The data, loaded at the first use."""
        if self._splits is None:
            self._splits = self.load()
        return self._splits

    def setup(self, stage: str | None = None) -> None:
        """Load the data, unless an earlier call has."""
        self.splits  # noqa: B018

    def train_dataloader(self) -> BatchLoader:
        """Shuffled batches of `batch_size`."""
        x, y = self._on_device(self.splits.train)
        return BatchLoader(x, y, batch_size=self.batch_size, seed=self.seed)

    def val_dataloader(self) -> BatchLoader:
        """Large batches in a fixed order."""
        return self._evaluation(self.splits.val)

    def test_dataloader(self) -> BatchLoader:
        """Large batches in a fixed order."""
        return self._evaluation(self.splits.test)

    def _evaluation(self, split: Split) -> BatchLoader:
        x, y = self._on_device(split)
        return BatchLoader(x, y, batch_size=EVALUATION_BATCH, shuffle=False)

    def _on_device(self, split: Split) -> Split:
        if self.trainer is None:
            return split
        device = self.trainer.strategy.root_device
        return Split(split.x.to(device), split.y.to(device))
