"""Data small enough for a fit of a few milliseconds: what a module learns from, apart from how a loader serves it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset, default_collate

INPUTS, CLASSES, BATCH, SAMPLES = 12, 3, 8, 32


class Data(NamedTuple):
    """Samples to train on and to validate with, and how a list of them becomes a batch."""

    training: Dataset
    validation: Dataset
    collate: Callable[[list[Any]], Any] = default_collate


def table(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, INPUTS, generator=generator)
    noise = torch.randn(samples, CLASSES, generator=generator)
    return x, (x[:, :CLASSES] + 0.3 * noise).argmax(1)


def tabular(collate: Callable[[list[Any]], Any] = default_collate) -> Data:
    """Rows of numbers in three classes: what every module here can read that is not said to need other data."""
    return Data(TensorDataset(*table(SAMPLES, 0)), TensorDataset(*table(2 * BATCH, 1)), collate)
