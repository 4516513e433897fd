"""Batches of an in-memory data set, in an order that a seed, a round and an epoch fix."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


class EpochSampler:
    """Holds the epoch of a `BatchLoader`, where Lightning expects to set it.

    Example:
        >>> sampler = EpochSampler()
        >>> sampler.set_epoch(3)
        >>> sampler.epoch
        3
    """

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next pass takes."""
        self.epoch = epoch


class BatchLoader:
    """Iterates over tensors in batches, one `index_select` per tensor and batch.

    The order is a pure function of (`seed`, round, epoch). The global random
    streams are neither read nor moved. As in PyTorch's distributed sampler, two
    passes in the same epoch have the same order: call `sampler.set_epoch` before
    each pass (Lightning does).

    The loader can be stopped and resumed inside an epoch through `state_dict` and
    `load_state_dict`, which Lightning calls when it saves and loads a checkpoint.

    Args:
        tensors: Tensors with the same first dimension, on the same device.
        batch_size: Samples per batch. The last batch is smaller where it must be.
        shuffle: Whether to permute the samples, anew in each epoch.
        seed: Any integer. Other seeds give other, unrelated orders.
        drop_last: Whether to leave out a last batch that is not full.

    Raises:
        ValueError: The tensors differ in length or device, or `batch_size` is not
            positive.

    Example:
        >>> loader = BatchLoader(torch.arange(5), batch_size=2, shuffle=False)
        >>> [batch[0].tolist() for batch in loader]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self, *tensors: Tensor, batch_size: int, shuffle: bool = True, seed: int = 0, drop_last: bool = False
    ) -> None:
        if not tensors:
            raise ValueError("BatchLoader needs at least one tensor.")
        lengths = [len(tensor) for tensor in tensors]
        if len(set(lengths)) > 1:
            raise ValueError(f"BatchLoader needs tensors of one length, but got {lengths}.")
        devices = list(dict.fromkeys(str(tensor.device) for tensor in tensors))
        if len(devices) > 1:
            raise ValueError(f"BatchLoader needs tensors on one device, but got {devices}.")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, but is {batch_size}.")
        self.tensors = tensors
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.round = 0
        self.sampler = EpochSampler()
        # Lightning asks for it on every loader with a sampler.
        self.batch_sampler = None
        self._pass: _Pass | None = None
        self._resume: dict[str, int] | None = None

    @property
    def samples(self) -> int:
        """Number of samples, with those that `drop_last` leaves out."""
        return len(self.tensors[0])

    def set_round(self, number: int) -> None:
        """Choose the round whose order the next pass takes (0 is dense).

        A pass that has handed out a batch keeps its order.
        """
        self.round = number

    def __len__(self) -> int:
        full, rest = divmod(self.samples, self.batch_size)
        return full if self.drop_last or not rest else full + 1

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return _Pass(self)

    def state_dict(self) -> dict[str, int]:
        """The place in the data, in plain integers.

        `position` counts the batches handed out by the pass that is under way. A
        position of 0 or `len(loader)` means that no pass is under way.
        """
        if self._resume is not None:
            return dict(self._resume)
        place = self._pass
        return {
            "seed": self.seed,
            "samples": self.samples,
            "batch_size": self.batch_size,
            "shuffle": int(self.shuffle),
            "round": self.round if place is None else place.round,
            "epoch": self.sampler.epoch if place is None else place.epoch,
            "position": 0 if place is None else place.position,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where a stored pass stopped.

        The next pass to hand out a batch takes up the stored pass, in the order of
        the *stored* round and epoch. If `set_epoch` has named another epoch by then,
        the stored pass was the end of a shortened epoch (`limit_train_batches`), and
        a new one starts. The stored round and epoch become the loader's own, until
        `set_round` and `set_epoch` say otherwise.

        Raises:
            ValueError: The state is damaged or belongs to other data or settings.
        """
        mine = self.state_dict()
        if missing := sorted(mine.keys() - state.keys()):
            raise ValueError(f"The loader state lacks {missing}; it was not saved by a BatchLoader.")
        for name in ("seed", "samples", "batch_size", "shuffle"):
            if state[name] != mine[name]:
                raise ValueError(
                    f"The stored data order has {name}={state[name]}, but this loader "
                    f"has {name}={mine[name]}. Resume with the same data and settings, "
                    "or start a new run."
                )
        if not 0 <= state["position"] <= len(self):
            raise ValueError(f"The stored position is {state['position']}, but an epoch has {len(self)} batches.")
        self.round = state["round"]
        self.sampler.epoch = state["epoch"]
        self._pass = None
        self._resume = {name: int(state[name]) for name in mine}

    def order(self, number: int, epoch: int) -> Tensor:
        """The indices of the samples, in the order of a round and an epoch.

        Example:
            >>> loader = BatchLoader(torch.zeros(100), batch_size=10)
            >>> torch.equal(loader.order(0, 1), loader.order(1, 0))
            False
        """
        if not self.shuffle:
            return torch.arange(self.samples, device=self.tensors[0].device)
        # NumPy takes the whole hash as the seed; torch's CPU generator would use only
        # its lowest 32 bits, so that unrelated epochs could share an order.
        text = f"lottery.BatchLoader seed={self.seed} round={number} epoch={epoch}"
        digest = hashlib.sha256(text.encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest, "little"))
        order = torch.from_numpy(generator.permutation(self.samples))
        return order.to(self.tensors[0].device)

    def _begin(self, new: _Pass) -> None:
        """Place a pass that is about to hand out its first batch."""
        new.round, new.epoch, new.position = self.round, self.sampler.epoch, 0
        stored, self._resume = self._resume, None
        if stored is not None and stored["epoch"] == new.epoch and 0 < stored["position"] < len(self):
            new.round, new.position = stored["round"], stored["position"]
        self._pass = new


class _Pass:
    """One pass over the data.

    It looks up its round and epoch at the first batch, because Lightning makes the
    iterator of a fit's first epoch before it sets that epoch.
    """

    def __init__(self, loader: BatchLoader) -> None:
        self.round = self.epoch = self.position = 0
        self._loader = loader
        self._batches: tuple[Tensor, ...] | None = None

    def __iter__(self) -> _Pass:
        return self

    def __next__(self) -> tuple[Tensor, ...]:
        if self._batches is None:
            self._loader._begin(self)
            order = self._loader.order(self.round, self.epoch)
            self._batches = order.split(self._loader.batch_size)
        if self.position >= len(self._loader):
            raise StopIteration
        indices = self._batches[self.position]
        self.position += 1
        return tuple(t.index_select(0, indices) for t in self._loader.tensors)
