"""How an architecture is registered, and the inputs that architectures take."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Inputs = Callable[[int, int], object]
"""What gives the input of a batch size and a step of its other sizes: 0 the usual one, 1 and 2 larger ones."""

Made = tuple[nn.Module, Inputs]

ARCHITECTURES: dict[str, Callable[[], Made]] = {}


def architecture(make: Callable[[], Made]) -> Callable[[], Made]:
    ARCHITECTURES[make.__name__] = make
    return make


def images(channels: int = 3, size: int = 16, fixed: bool = False) -> Inputs:
    return lambda batch, more: torch.randn(batch, channels, *[size + (0 if fixed else 8 * more)] * 2)


def vectors(features: int) -> Inputs:
    return lambda batch, more: torch.randn(batch, features)


def tokens(length: int = 6, words: int = 20) -> Inputs:
    return lambda batch, more: torch.randint(words, (batch, length + more))


def signals(channels: int, length: int = 16) -> Inputs:
    """(batch, channels, length)."""
    return lambda batch, more: torch.randn(batch, channels, length + 8 * more)


def sequences(features: int, length: int = 6) -> Inputs:
    """(batch, length, features)."""
    return lambda batch, more: torch.randn(batch, length + more, features)


def several(*inputs: Inputs) -> Inputs:
    return lambda batch, more: tuple(one(batch, more) for one in inputs)


class Then(nn.Module):
    """A module, and a function of what it gives."""

    def __init__(self, module: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.module(x))


class Plus(nn.Module):
    """A residual connection."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def convolved(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution, batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def pooled(features: int, classes: int = 5) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes))
