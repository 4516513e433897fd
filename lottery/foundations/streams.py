"""The random streams of a process: store, restore, and derive new ones that never collide."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

Streams = dict[str, Any]


def capture() -> Streams:
    """The states of Python's, NumPy's and torch's global generators, as plain containers and tensors."""
    version, internal, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore(streams: Streams) -> None:
    """Set the global generators to states that `capture` returned."""
    version, internal, gauss = streams["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = streams["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(streams["torch"])
    if streams["cuda"]:
        torch.cuda.set_rng_state_all(streams["cuda"])


@contextmanager
def isolated() -> Iterator[None]:
    """Leave the global streams, after the block, as they were before it."""
    before = capture()
    try:
        yield
    finally:
        restore(before)


def derive(*parts: object) -> int:
    """A 63-bit seed from any values, by hashing: other values, another seed.

    Example:
        >>> derive(1, "round", 2) != derive(2, "round", 1)
        True
    """
    digest = hashlib.sha256("\x1f".join(map(repr, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def fingerprint(streams: Streams) -> int:
    """A seed that stands for the captured state of torch's generator."""
    return derive(hashlib.sha256(streams["torch"].numpy().tobytes()).hexdigest())


def seed(value: int) -> None:
    """Start all global generators from one seed."""
    torch.manual_seed(value)
    random.seed(value)
    np.random.seed(derive(value, "numpy") % 2**32)
