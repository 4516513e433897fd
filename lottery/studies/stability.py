"""Stability to SGD noise: the error barrier on the line between two trained networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lottery.foundations.names import load_weights, mismatches, renamed, uncompiled
from lottery.foundations.undisturbed import undisturbed

POINTS = 30
THRESHOLD = 0.02

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Barrier:
    """The error on the line between two networks, and how far it rises above their own.

    Args:
        alphas: the points, from 0 (the one network) to 1 (the other).
        errors: the error at each.
        threshold: the height from which on the two do not count as connected.

    Example:
        >>> barrier = Barrier(alphas=(0.0, 0.5, 1.0), errors=(0.10, 0.31, 0.12))
        >>> round(barrier.height, 3), barrier.stable
        (0.2, False)
    """

    alphas: tuple[float, ...]
    errors: tuple[float, ...]
    threshold: float = THRESHOLD

    @property
    def height(self) -> float:
        """The highest error on the line, ends included, minus the mean of both ends. NaN if any error is."""
        highest = torch.tensor(self.errors, dtype=torch.float64).max().item()
        return highest - (self.errors[0] + self.errors[-1]) / 2

    @property
    def stable(self) -> bool:
        """Whether the height is below the threshold: both ended in one linearly connected region."""
        return self.height < self.threshold


def error_barrier(
    module: M,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    error_of: Callable[[M], float],
    points: int = POINTS,
    recompute: Callable[[M], None] | None = None,
) -> Barrier:
    """The error on the line between the weights `a` and `b` of a module.

    A module with BatchNorm needs `recompute`: between two networks their running statistics are not those of the
    network there, and the barrier is overestimated. It is called at every point, both ends included, so that all are
    measured alike. Afterwards, also after an exception, the module is as it was before, and so are the random streams.

    Args:
        module: a module of the architecture of both.
        a: a state dict; such as `run.weights(0)`.
        b: a state dict.
        error_of: the error of a module in eval mode, such as 1 - accuracy.
        points: how many points, evenly spaced, both ends included.
        recompute: brings running statistics up to date, by a pass of a module over data inside `accumulating`.

    Raises:
        ValueError: fewer than two points; or a state dict does not fit the module.

    Example:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> a, b = ({"weight": torch.tensor([[w]])} for w in (0.0, 1.0))
        >>> error_barrier(net, a, b, lambda m: (m.weight.item() - 0.5) ** 2, points=3).errors
        (0.25, 0.0, 0.25)

    Source: Frankle, Dziugaite, Roy & Carbin, "Linear Mode Connectivity and the Lottery Ticket Hypothesis", ICML 2020,
    section 2: 30 evenly spaced points, and 2 % as what still counts as connected.
    """
    if points < 2:
        raise ValueError(f"points={points}; a line has two ends, so give 2 or more")
    a, b = renamed(a), renamed(b)
    for name, weights in (("a", a), ("b", b)):
        _check(weights, module, name)
    alphas = tuple(i / (points - 1) for i in range(points))
    errors = []
    with undisturbed(module, {}):
        for alpha in alphas:
            load_weights(module, interpolate(a, b, alpha))
            if recompute is not None:
                recompute(module)
            module.eval()
            errors.append(float(error_of(module)))
    return Barrier(alphas, tuple(errors))


def interpolate(a: Mapping[str, Tensor], b: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """The state dict at ``(1 - alpha) a + alpha b``; exactly `a` at 0 and `b` at 1.

    Weights that are zero in both stay zero: between two networks under one mask all are under it. What is not a
    floating tensor, such as BatchNorm's count of batches, is taken from `a`.

    Raises:
        ValueError: the two differ in names or shapes.

    Example:
        >>> interpolate({"w": torch.tensor([0.0, 1.0])}, {"w": torch.tensor([0.0, 3.0])}, 0.25)
        {'w': tensor([0.0000, 1.5000])}
    """
    wrong = [f"{name}: only in one of them" for name in sorted(a.keys() ^ b.keys())]
    wrong += [
        f"{name}: {tuple(a[name].shape)} and {tuple(b[name].shape)}"
        for name in a
        if name in b and a[name].shape != b[name].shape
    ]
    if wrong:
        raise ValueError("there is no line between networks of two architectures:\n  " + "\n  ".join(wrong))
    return {
        name: torch.lerp(tensor, b[name].to(tensor), alpha)
        if tensor.is_floating_point() or tensor.is_complex()
        else tensor
        for name, tensor in a.items()
    }


@contextmanager
def accumulating(module: nn.Module) -> Iterator[Sequence[_BatchNorm]]:
    """Inside the block BatchNorm layers forget their running statistics and take the plain mean over what they see,
    whatever mode the module is put in.

    Afterwards their modes and momenta are as before; the new statistics stay.

    Returns:
        The layers that have running statistics.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    before = [(layer.training, layer.momentum) for layer in layers]
    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(_begin_to_train).remove)
        try:
            for layer in layers:
                layer.reset_running_stats()
                layer.momentum = None  # a cumulative average
            yield layers
        finally:
            for layer, (training, momentum) in zip(layers, before, strict=True):
                layer.training, layer.momentum = training, momentum


def _begin_to_train(layer: nn.Module, inputs: Any) -> None:
    layer.training = True


def _check(weights: Mapping[str, Tensor], module: nn.Module, name: str) -> None:
    if wrong := mismatches(weights, module, name):
        raise ValueError(
            f"the state dict {name} is not that of a {type(uncompiled(module)).__name__}:\n  " + "\n  ".join(wrong)
        )
