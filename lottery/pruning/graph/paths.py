"""Path analysis: which kept weights lie on a path from input to output, and what that says of a mask.

>>> import torch
>>> from torch import nn
>>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
>>> masks = Masks({"0.weight": torch.tensor([[True, True], [False, True]]),
...                "2.weight": torch.tensor([[False, True]])})
>>> found = Connectivity(masks, effective(net, masks, torch.zeros(1, 2)))
>>> found.density, found.effective_density  # nothing reads the first unit, so its two weights do not count
(0.6666666666666666, 0.3333333333333333)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lottery.foundations.names import buffers_of, parameters_of
from lottery.foundations.substitution import substituted
from lottery.foundations.tensors_in import arguments, tensors_in, with_tensors
from lottery.foundations.undisturbed import undisturbed
from lottery.masks.inspection import fan_in
from lottery.masks.masks import Masks
from lottery.pruning.graph.connections import Connections, Flow
from lottery.text.numbers import percent


def effective(module: nn.Module, masks: Masks, example_input: object) -> Masks:
    """The kept weights that lie on a path from the input to the output of `forward`.

    A path is a chain of kept weights; parameters without a mask are dense. The module's own forward is run on the CPU
    with weights of 0 and 1, and `lottery.pruning.graph.connections` stands in for what is not a sum of inputs. Each
    value is whether the input reaches it, each gradient whether it reaches the output, so the answer is exact at any
    depth. A pruned bias or norm weight counts where its unit does; a bias alone begins no path. Every token may be the
    input of an embedding.

    Args:
        module: the module; it is afterwards as it was before.
        masks: a mask per prunable parameter.
        example_input: what `forward` takes: a tensor, a tuple, or a mapping by name; the first dimension is the batch.

    Returns:
        Masks of the same parameters, nested in `masks`.

    Raises:
        ValueError: the masks do not fit the module, or forward does what no path can be followed through, as recurrent
            layers and attention; the message names it.

    Source: Vysogorets & Kempe, "Connectivity Matters: Neural Network Pruning Through the Lens of Effective Sparsity",
    JMLR 2023, section 3.
    """
    masks.check(parameters_of(module))
    with undisturbed(module, masks):
        weights = {n: mask.double().requires_grad_() for n, mask in masks.items()}
        reached = _outputs(module, {**_dense(module), **weights}, example_input)
        try:
            gradients = torch.autograd.grad(
                torch.stack([output.sum() for output in reached]).sum(),
                list(weights.values()),
                allow_unused=True,
                materialize_grads=True,
            )
        except Exception as error:  # as where a part computes its forward once more
            raise ValueError(f"the paths of {type(module).__name__} cannot be followed back: {error}") from error
    return Masks({name: (gradient > 0) & masks[name] for name, gradient in zip(masks, gradients, strict=True)})


def _dense(module: nn.Module) -> dict[str, Tensor]:
    """Ones for each parameter; of each buffer, where it is not zero: it may say what is connected."""
    ones = {name: torch.ones(p.shape, dtype=torch.float64, device="cpu") for name, p in parameters_of(module).items()}
    buffers = {
        name: _positive(buffer) if buffer.is_floating_point() else buffer for name, buffer in buffers_of(module).items()
    }
    return {**ones, **{name: buffer.cpu() for name, buffer in buffers.items()}}


def _positive(buffer: Tensor) -> Tensor:
    """Above zero where a buffer is not zero; what is sparse has no other operation for it."""
    sparse = buffer.layout != torch.strided
    return buffer.double().abs() if sparse else buffer.ne(0).double()


def _outputs(module: nn.Module, values: dict[str, Tensor], example_input: object) -> list[Tensor]:
    inputs, named = arguments(with_tensors(example_input, _ones))
    what = f"the paths of {type(module).__name__} cannot be followed: "
    run: Any = module
    if "torch._dynamo" in sys.modules:  # slow to import, and there where it is needed
        # a compiled module shows no functions
        run = torch.compiler.disable(lambda *inputs, **named: module(*inputs, **named))
    try:
        with substituted(module, values), Connections():
            output = run(*inputs, **named)
    except Exception as error:  # whatever forward does with such an input
        raise ValueError(f"{what}{error}") from error
    outputs = [t for t in tensors_in(output) if t.is_floating_point()]
    # a function of its own in C++ or an autograd.Function gives a plain tensor
    if not outputs or not all(isinstance(t, Flow) and t.requires_grad for t in outputs):
        raise ValueError(
            f"{what}an output of forward does not come from its input and the masked parameters by functions that torch"
            " lets one see"
        )
    return [t.as_subclass(Tensor) for t in outputs]


def _ones(x: Tensor) -> Tensor:
    first = x.detach()[:1].cpu()
    if first.is_floating_point():
        first = first.double().fill_(1)
    return first.as_subclass(Flow)


@dataclass(frozen=True)
class Connectivity:
    """What masks leave of a network: how much is pruned, what is on a path, where it has fallen apart.

    Args:
        masks: a mask per prunable parameter.
        effective: the weights of `masks` that are on a path, from `effective`; None where paths cannot be followed:
            then what is said of units counts all kept weights, and what needs paths is None.

    Raises:
        ValueError: the masks are of other parameters, or `effective` keeps a weight that `masks` does not.

    Source: Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow", NeurIPS
    2020, section 3 (compression, layer collapse); Vysogorets & Kempe, JMLR 2023, section 3 (effective compression).
    """

    masks: Masks
    effective: Masks | None = None

    def __post_init__(self) -> None:
        if self.effective is None:
            return
        self.masks.check_same(self.effective)
        if not self.effective.nested_in(self.masks):
            raise ValueError(
                "effective keeps weights that masks does not; give what lottery.pruning.graph.paths.effective found for"
                " these masks"
            )

    @property
    def density(self) -> float:
        """Kept / prunable."""
        return self.masks.density

    @property
    def compression(self) -> float:
        """Prunable / kept; infinite where nothing is kept."""
        return _compression(self.masks)

    @property
    def largest_compression(self) -> float:
        """Prunable / layers: one weight in each. Tanaka's maximal compression."""
        return self.masks.total / len(self.masks) if self.masks else 1.0

    @property
    def effective_density(self) -> float | None:
        """On a path / prunable."""
        return None if self.effective is None else self.effective.density

    @property
    def effective_compression(self) -> float | None:
        """Prunable / on a path; infinite where there is no path."""
        return None if self.effective is None else _compression(self.effective)

    @property
    def connected(self) -> bool | None:
        """Whether any path leads from input to output."""
        return None if self.effective is None else self.effective.kept > 0

    @property
    def empty(self) -> tuple[str, ...]:
        """The layers without a kept weight: those that have collapsed."""
        return tuple(n for n, mask in self.masks.items() if not mask.any())

    @property
    def lowest_density(self) -> float:
        """The density of the sparsest layer."""
        return min(self.masks.densities().values(), default=1.0)

    def check(self) -> None:
        """Make sure that a path leads from input to output, as far as is known.

        Raises:
            ValueError: none does; the message names the sparsest layer.
        """
        if self.connected is False:
            name, density = min(self.masks.densities().items(), key=lambda item: item[1])
            raise ValueError(
                f"no path is left from input to output (the sparsest layer is {name}, with {percent(density)} of its"
                " weights), so nothing can be learnt. Keep more weights, prune in more steps, use another score or"
                " scope='layerwise', or set collapse='warn'."
            )

    @property
    def units(self) -> dict[str, int]:
        """Output units of each layer: the first dimension of its weight."""
        return {name: len(fan_in(mask)) for name, mask in self.masks.items()}

    @property
    def dead_units(self) -> dict[str, int]:
        """Output units of each layer that no weight on a path leads into."""
        alive = self.masks if self.effective is None else self.effective
        return {name: int((fan_in(mask) == 0).sum()) for name, mask in alive.items()}

    def summary(self) -> ConnectivitySummary:
        """All of it as plain numbers.

        Example:
            >>> nothing = Masks({"fc.weight": torch.zeros(2, 3, dtype=torch.bool)})
            >>> Connectivity(nothing).summary().empty
            ('fc.weight',)
        """
        found = self.effective
        return ConnectivitySummary(
            density=self.density,
            compression=_finite(self.compression),
            largest_compression=self.largest_compression,
            effective=None if found is None else found.kept,
            effective_density=self.effective_density,
            effective_compression=_finite(self.effective_compression),
            effective_densities=None if found is None else found.densities(),
            lowest_density=self.lowest_density,
            connected=self.connected,
            empty=self.empty,
            units=self.units,
            dead_units=self.dead_units,
        )


def followed(module: nn.Module, masks: Masks, example_input: Callable[[], object]) -> Connectivity:
    """What masks leave of a network, as far as its paths can be followed.

    Args:
        module: the module.
        masks: a mask per prunable parameter.
        example_input: gives what `forward` takes; called inside, as it may fail like `forward`.
    """
    try:
        return Connectivity(masks, effective(module, masks, example_input()))
    except ValueError:  # not through every module
        return Connectivity(masks)


def cut(before: Masks, after: Masks, follow: Callable[[Masks], Connectivity]) -> tuple[str, ...]:
    """The layers that lose their last weight, unless a path is left, as around an empty layer of a residual block.

    Args:
        before: the masks so far.
        after: the masks that follow.
        follow: what masks leave of the network; where it cannot tell of paths, each empty layer is taken to cut it.

    Example:
        >>> before, after = (Masks({"w": torch.tensor([kept])}) for kept in (True, False))
        >>> cut(before, after, follow=Connectivity)
        ('w',)
    """
    empty = tuple(name for name, mask in after.items() if before[name].any() and not mask.any())
    return empty if empty and not follow(after).connected else ()


@dataclass(frozen=True)
class ConnectivitySummary:
    """The numbers of a `Connectivity`; see there. None for what is not known or infinite."""

    density: float
    compression: float | None
    largest_compression: float
    effective: int | None
    effective_density: float | None
    effective_compression: float | None
    effective_densities: Mapping[str, float] | None
    lowest_density: float
    connected: bool | None
    empty: tuple[str, ...]
    units: Mapping[str, int]
    dead_units: Mapping[str, int]


def _compression(masks: Masks) -> float:
    return 1 / masks.density if masks.kept else float("inf")


def _finite(value: float | None) -> float | None:
    return None if value == float("inf") else value
