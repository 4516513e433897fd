"""Small networks to be scored in double precision."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lottery import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.scores import Context

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=4)


def context(
    net: nn.Module, x: Tensor | None = None, y: Tensor | None = None, masks: Masks | None = None, **more: Any
) -> Context:
    """A context in double precision; targets are drawn where none are given."""
    net.double().eval()
    masks = masks or Masks.ones(prunable_parameters(net))
    masks.apply(dict(net.named_parameters()))
    if x is not None and y is None:
        y = torch.arange(len(x)) % 3
    return Context(net, masks, batches=lambda: [(x, y)], example_input=x, **more)


def mlp(seed: int = 0, widths: tuple[int, ...] = (4, 5, 3)) -> tuple[nn.Sequential, Tensor]:
    """A tanh network, and six samples."""
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        parts += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*parts[:-1]), torch.randn(6, widths[0], dtype=torch.float64)


def assert_close(found: Any, expected: Any, **tolerance: float) -> None:
    """Equal within the last digits of double precision, unless told otherwise."""
    torch.testing.assert_close(found, expected, **(tolerance or {"rtol": 1e-9, "atol": 1e-15}))
