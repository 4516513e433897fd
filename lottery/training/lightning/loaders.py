"""The random state of data loaders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import IterableDataset

from lottery.foundations import streams
from lottery.training.state import Plain


def generators_of(loaders: list[object]) -> list[torch.Generator]:
    """The random generators that loaders draw their order from."""
    found: dict[int, torch.Generator] = {}
    for loader in loaders:
        batch_sampler = getattr(loader, "batch_sampler", None)
        for owner in (loader, getattr(loader, "sampler", None), getattr(batch_sampler, "sampler", None)):
            generator = getattr(owner, "generator", None)
            if isinstance(generator, torch.Generator):
                found[id(generator)] = generator
    return list(found.values())


def iterables_of(loaders: list[Any]) -> list[str]:
    """The kinds of data sets that loaders iterate in this process."""
    return [
        type(loader.dataset).__name__
        for loader in loaders
        if isinstance(getattr(loader, "dataset", None), IterableDataset) and not getattr(loader, "num_workers", 0)
    ]


def set_sampler_epochs(loaders: list[object], epoch: int) -> None:
    for loader in loaders:
        for owner in (loader, getattr(loader, "batch_sampler", None)):
            set_epoch = getattr(getattr(owner, "sampler", None), "set_epoch", None)
            if callable(set_epoch):
                set_epoch(epoch)


def another_origin(origin: Mapping[str, Plain], seed: int) -> dict[str, Plain]:
    """Random streams for an epoch's iterator that are others than those it was made from."""
    with streams.isolated():
        streams.seed(streams.derive(seed, "epoch"))
        generators = [
            torch.Generator().manual_seed(streams.derive(seed, "epoch", i)).get_state()
            for i, _ in enumerate(origin["generators"])
        ]
        kept = {k: v for k, v in origin.items() if k != "first"}
        return {**kept, "streams": streams.capture(), "generators": generators}


def built_loaders(loop: Any) -> list[object]:
    """The data loaders that a loop of Lightning's has made, none before that."""
    combined = loop._combined_loader
    return [] if combined is None else combined.flattened
