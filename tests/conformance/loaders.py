"""Kinds of training loaders: each a function from `Data` to what a Trainer is given to train on."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    WeightedRandomSampler,
)

from conformance.axis import Axis
from conformance.data import BATCH, Data
from lottery.tasks.data import BatchLoader

LOADERS = loader = Axis("loader")


@loader()
def shuffled(data: Data) -> Any:
    """a DataLoader with `shuffle=True`"""
    return DataLoader(data.training, BATCH, shuffle=True, collate_fn=data.collate)


@loader()
def in_order(data: Data) -> Any:
    """a DataLoader that does not shuffle"""
    return DataLoader(data.training, BATCH, collate_fn=data.collate)


@loader()
def own_generator(data: Data) -> Any:
    """shuffled from a `torch.Generator` of the user's"""
    return DataLoader(
        data.training, BATCH, shuffle=True, generator=torch.Generator().manual_seed(5), collate_fn=data.collate
    )


@loader()
def weighted_sampler(data: Data) -> Any:
    """WeightedRandomSampler with a generator"""
    size = len(data.training)  # type: ignore[arg-type]
    sampler = WeightedRandomSampler(
        [1.0 + i % 3 for i in range(size)], size, generator=torch.Generator().manual_seed(6)
    )
    return DataLoader(data.training, BATCH, sampler=sampler, collate_fn=data.collate)


class Drawn(Sampler):
    """Indices drawn by a function that draws a permutation."""

    def __init__(self, size: int, generator: Any) -> None:
        self.size, self.generator = size, generator

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        order = list(range(self.size))
        self.generator.shuffle(order)
        return iter(order)


@loader()
def numpy_sampler(data: Data) -> Any:
    """a sampler with a NumPy generator of its own"""
    sampler = Drawn(len(data.training), np.random.default_rng(7))  # type: ignore[arg-type]
    return DataLoader(data.training, BATCH, sampler=sampler, collate_fn=data.collate)


@loader()
def python_sampler(data: Data) -> Any:
    """a sampler with a `random.Random` of its own"""
    sampler = Drawn(len(data.training), random.Random(8))  # type: ignore[arg-type]
    return DataLoader(data.training, BATCH, sampler=sampler, collate_fn=data.collate)


@loader()
def global_numpy_sampler(data: Data) -> Any:
    """a sampler that draws from NumPy's global state"""
    sampler = Drawn(len(data.training), np.random)  # type: ignore[arg-type]
    return DataLoader(data.training, BATCH, sampler=sampler, collate_fn=data.collate)


@loader()
def batch_sampler(data: Data) -> Any:
    """batches made by a `batch_sampler`"""
    batches = BatchSampler(RandomSampler(data.training), BATCH, drop_last=True)  # type: ignore[arg-type]
    return DataLoader(data.training, batch_sampler=batches, collate_fn=data.collate)


class Stream(IterableDataset):
    """Batches from a start to an end, or without one."""

    def __init__(self, data: Data, batches: int | None) -> None:
        self.data, self.batches = data, batches

    def __iter__(self) -> Iterator[Any]:
        samples = itertools.cycle(range(len(self.data.training)))  # type: ignore[arg-type]
        for _ in itertools.count() if self.batches is None else range(self.batches):
            yield self.data.collate([self.data.training[next(samples)] for _ in range(BATCH)])


@loader(lacks="sized")
def iterable(data: Data) -> Any:
    """an iterable data set that ends"""
    return DataLoader(Stream(data, 4), batch_size=None)


@loader(lacks="length sized epochs")
def endless(data: Data) -> Any:
    """an iterable data set without end; the Trainer's limits end epochs"""
    return DataLoader(Stream(data, None), batch_size=None)


class Buffered(IterableDataset):
    """Samples in an order that is drawn one by one, out of a buffer."""

    def __init__(self, samples: Any) -> None:
        self.samples, self.generator = samples, torch.Generator().manual_seed(10)

    def __iter__(self) -> Iterator[Any]:
        buffer: list[Any] = []
        for index in range(len(self.samples)):
            buffer.append(self.samples[index])
            if len(buffer) == 2 * BATCH:
                yield buffer.pop(self.draw(len(buffer)))
        while buffer:
            yield buffer.pop(self.draw(len(buffer)))

    def draw(self, among: int) -> int:
        return int(torch.randint(among, (), generator=self.generator))


@loader(lacks="sized")
def shuffle_buffer(data: Data) -> Any:
    """an iterable data set that shuffles in a buffer, with a generator of its own"""
    return DataLoader(Buffered(data.training), BATCH, collate_fn=data.collate)


@loader()
def workers(data: Data) -> Any:
    """a worker process, made anew for each epoch"""
    return DataLoader(data.training, BATCH, shuffle=True, num_workers=1, collate_fn=data.collate)


@loader(refused="persistent_workers=False")
def persistent_workers(data: Data) -> Any:
    """a worker process that lives on between epochs"""
    return DataLoader(
        data.training, BATCH, shuffle=True, num_workers=1, persistent_workers=True, collate_fn=data.collate
    )


@loader(needs="unwrap")
def combined_dict(data: Data) -> Any:
    """a CombinedLoader over a dict of two loaders"""
    return CombinedLoader({"labelled": shuffled(data), "more": in_order(data)}, "max_size_cycle")


@loader(needs="unwrap")
def list_of_loaders(data: Data) -> Any:
    """a list of loaders of different lengths"""
    short = Data(torch.utils.data.Subset(data.training, range(2 * BATCH)), data.validation, data.collate)
    return [shuffled(data), shuffled(short)]


class Resampled(Dataset):
    """A data set that draws, from a generator of its own, which sample it gives."""

    def __init__(self, samples: Any) -> None:
        self.samples, self.generator = samples, np.random.default_rng(9)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        if self.generator.random() < 0.5:
            index = int(self.generator.integers(len(self)))
        return self.samples[index]


@loader()
def drawing_data_set(data: Data) -> Any:
    """a data set with a NumPy generator of its own, as augmentations have"""
    return DataLoader(Resampled(data.training), BATCH, shuffle=True, collate_fn=data.collate)


class ByEpoch(Dataset):
    """A data set that another part of the program tells the epoch."""

    def __init__(self, samples: Any) -> None:
        self.samples, self.epoch = samples, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[(index + 3 * self.epoch) % len(self)]


class TellEpoch(pl.Callback):
    """Tells data sets that have `set_epoch` the epoch, as users of such data sets do."""

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        for loader in trainer.fit_loop._combined_loader.flattened:
            set_epoch = getattr(getattr(loader, "dataset", None), "set_epoch", None)
            if set_epoch is not None:
                set_epoch(trainer.current_epoch)


@loader()
def told_the_epoch(data: Data) -> Any:
    """a data set with `set_epoch`, called by a callback when an epoch starts"""
    return DataLoader(ByEpoch(data.training), BATCH, collate_fn=data.collate)


@loader()
def stateful(data: Data) -> Any:
    """a DataLoader with `state_dict`, which goes on inside an epoch"""
    return Stateful(data)


class Stateful:
    """Shuffled by seed and epoch; knows how many batches it gave."""

    def __init__(self, data: Data) -> None:
        self.data, self.epoch, self.given = data, 0, 0

    def __len__(self) -> int:
        return len(self.data.training) // BATCH  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        if self.given == len(self):  # the epoch before was given whole
            self.epoch, self.given = self.epoch + 1, 0
        order = torch.randperm(
            len(self.data.training),  # type: ignore[arg-type]
            generator=torch.Generator().manual_seed(self.epoch),
        ).tolist()
        while self.given < len(self):
            self.given += 1
            chosen = order[(self.given - 1) * BATCH : self.given * BATCH]
            yield self.data.collate([self.data.training[i] for i in chosen])

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.given = state["epoch"], state["given"]


@loader(needs="tensors")
def of_lottery(data: Data) -> Any:
    """`lottery.tasks.BatchLoader`"""
    return BatchLoader(*data.training.tensors, batch_size=BATCH, seed=3)  # type: ignore[attr-defined]


class Served(pl.LightningDataModule):
    """Both loaders from a data module."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.data = data

    def train_dataloader(self) -> Any:
        return shuffled(self.data)

    def val_dataloader(self) -> Any:
        return validation(self.data)


@loader()
def data_module(data: Data) -> Any:
    """a LightningDataModule"""
    return Served(data)


class Curriculum(Served):
    """Serves easy samples first; its state is saved by `state_dict`."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.level = 3

    def train_dataloader(self) -> Any:
        few = torch.utils.data.Subset(self.data.training, range(self.level * BATCH))
        self.level = min(self.level + 1, 4)
        return DataLoader(few, BATCH, shuffle=True, collate_fn=self.data.collate)

    def state_dict(self) -> dict[str, int]:
        return {"level": self.level}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.level = state["level"]


@loader(needs="automatic", lacks="many-batches")
def data_module_with_state(data: Data) -> Any:
    """a data module that counts how often it was asked, with `state_dict`"""
    return Curriculum(data)


class Counting(Served):
    """Counts the samples that went through it; nobody saves the count."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.seen = 0

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer.training:
            self.seen += 1
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer.training and torch.is_tensor(batch[0]):
            return [batch[0] * (1 + 0.01 * self.seen), *batch[1:]]
        return batch


@loader(needs="tensors")
def data_module_that_counts(data: Data) -> Any:
    """a data module that scales its batches by a counter, without `state_dict`"""
    return Counting(data)


def validation(data: Data) -> Any:
    return DataLoader(data.validation, BATCH, collate_fn=data.collate)


Loader = Callable[[Data], Any]
