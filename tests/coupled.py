"""Small networks whose channels hang together in the ways that networks' do."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """A residual block of He et al. (2016); where it widens, its shortcut is of their option A or B."""

    def __init__(self, inputs: int, outputs: int, option: str) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.one = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.two = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)])
        self.padding = (outputs - inputs) // 2
        self.short: nn.Module = nn.Identity()
        if option == "B" and stride == 2:
            self.short, self.padding = nn.Conv2d(inputs, outputs, 1, 2), 0

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[1](self.two(F.relu(self.norms[0](self.one(x)))))
        if self.padding:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        y += self.short(x)
        return F.relu(y)


class Residual(nn.Module):
    def __init__(self, option: str) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(Block(4, 4, option), Block(4, 8, option))
        self.output = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.blocks(F.relu(self.stem(x))).mean((2, 3)))


class Gated(nn.Module):
    """Squeeze and excitation, then a gated linear unit: products and halves."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.squeeze, self.excite = nn.Linear(4, 2), nn.Linear(2, 4)
        self.glu, self.output = nn.Linear(4, 10), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        gate = self.excite(F.relu(self.squeeze(x.mean((2, 3))))).sigmoid()
        x = (x * gate[:, :, None, None]).amax((2, 3))
        value, gate = self.glu(x).chunk(2, dim=1)
        return self.output(value * torch.sigmoid(gate))


class Dense(nn.Module):
    """Concatenation with the input, a transposed convolution, a channel shuffle, and one layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3, padding=1)
        self.two = nn.Conv2d(7, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 6, 2, 2)
        self.twice = nn.Conv2d(6, 6, 1)
        self.output = nn.Linear(6 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(F.relu(self.two(torch.cat([F.relu(self.one(x)), x], 1))))
        x = x.view(len(x), 2, -1, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        x = self.twice(F.relu(self.twice(x)))
        return self.output(F.adaptive_avg_pool2d(x, 4).view(len(x), -1))


def _flat() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(4 * 16, 3),
    )


def _depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.Conv2d(4, 8, 3, groups=4),
        nn.Hardswish(),
        nn.Conv2d(8, 6, 3, groups=2),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def _perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Linear(6, 5, bias=False), nn.Tanh(), nn.Linear(5, 3)
    )


# networks for inputs of shape (n, 3, 8, 8), and how many channels each can lose
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "perceptron": (_perceptron, 6 + 5),
    "flatten": (_flat, 4),
    "residual, option A": (lambda: Residual("A"), 4 + 4 + 8),
    "residual, option B": (lambda: Residual("B"), 4 + 4 + 8 + 8),
    "depthwise": (_depthwise, 2 + 3),
    "gated": (Gated, 4 + 2 + 5),
    "dense": (Dense, 4 + 4 + 3),
}
