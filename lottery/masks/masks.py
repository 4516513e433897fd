"""Named boolean tensors that say which weights are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from lottery.foundations.names import renamed
from lottery.text.numbers import percent
from lottery.text.sparkline import bar
from lottery.text.tables import TextTable


class Masks(Mapping[str, Tensor]):
    """A mask per prunable parameter: boolean, of the parameter's shape, True = kept.

    Masks are values: nothing changes one after it is made.

    Args:
        masks: parameter name to boolean tensor. Tensors are copied, to the CPU; names become canonical.

    Raises:
        TypeError: a tensor is not boolean.

    Example:
        >>> masks = Masks({"fc.weight": torch.tensor([[True, False], [True, True]])})
        >>> masks.kept, masks.total, masks.density
        (3, 4, 0.75)
    """

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        for name, mask in masks.items():
            if mask.dtype is not torch.bool:
                raise TypeError(f"the mask of {name!r} has dtype {mask.dtype}; a mask is boolean, True = kept")
        self._masks = {name: mask.detach().to("cpu", copy=True) for name, mask in renamed(masks).items()}

    @classmethod
    def ones(cls, parameters: Mapping[str, Tensor]) -> Masks:
        """Masks that keep every weight of `parameters`."""
        return cls({name: torch.ones(p.shape, dtype=torch.bool) for name, p in parameters.items()})

    def __getitem__(self, name: str) -> Tensor:
        return self._masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.keys() == other.keys() and all(torch.equal(mask, other[name]) for name, mask in self.items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Masks({len(self)} parameters, {self.kept:,} of {self.total:,} weights kept)"

    def _repr_html_(self) -> str:
        rows = [
            [name, "×".join(map(str, mask.shape)), f"{int(mask.sum()):,}", percent(density), bar(density)]
            for (name, mask), density in zip(self.items(), self.densities().values(), strict=True)
        ]
        headline = f"{percent(self.density)} kept: {self.kept:,} of {self.total:,} weights"
        return TextTable(["parameter", "shape", "kept", "density", ""], rows).html(headline)

    @property
    def kept(self) -> int:
        """Number of weights kept."""
        return sum(int(mask.sum()) for mask in self.values())

    @property
    def total(self) -> int:
        """Number of prunable weights."""
        return sum(mask.numel() for mask in self.values())

    @property
    def density(self) -> float:
        """Kept / prunable; 1.0 where there is nothing prunable."""
        return self.kept / self.total if self.total else 1.0

    def densities(self) -> dict[str, float]:
        """Density of each parameter."""
        return {name: int(mask.sum()) / mask.numel() if mask.numel() else 1.0 for name, mask in self.items()}

    def nested_in(self, other: Mapping[str, Tensor]) -> bool:
        """Whether every weight kept here is also kept in `other`."""
        return self.keys() == other.keys() and all(
            mask.shape == other[name].shape and not bool((mask & ~other[name]).any()) for name, mask in self.items()
        )

    def __and__(self, other: Mapping[str, Tensor]) -> Masks:
        """The weights kept in both.

        Raises:
            ValueError: the masks are not of the same parameters.
        """
        return self._combined(other, torch.logical_and)

    def __or__(self, other: Mapping[str, Tensor]) -> Masks:
        """The weights kept in either."""
        return self._combined(other, torch.logical_or)

    def __sub__(self, other: Mapping[str, Tensor]) -> Masks:
        """The weights kept here and not in `other`."""
        return self._combined(other, lambda here, there: here & ~there)

    def _combined(self, other: Mapping[str, Tensor], combine: Callable[[Tensor, Tensor], Tensor]) -> Masks:
        self.check_same(other)
        return Masks({name: combine(mask, other[name]) for name, mask in self.items()})

    def check_same(self, other: Mapping[str, Tensor]) -> None:
        """Make sure that `other` has masks of the same parameters.

        Raises:
            ValueError: names or shapes differ; the message names each.
        """
        wrong = [
            f"{name}: only in the {'first' if name in self else 'second'}"
            for name in {**self, **other}
            if (name in self) != (name in other)
        ]
        wrong += [
            f"{name}: {tuple(mask.shape)} in the first, {tuple(other[name].shape)} in the second"
            for name, mask in self.items()
            if name in other and other[name].shape != mask.shape
        ]
        if wrong:
            raise ValueError("the masks are not of the same parameters:\n  " + "\n  ".join(wrong))

    def with_masks(self, masks: Mapping[str, Tensor]) -> Masks:
        """These masks, those of `masks` put in their place.

        Raises:
            ValueError: `masks` has a name or a shape that is not here.
        """
        Masks(masks).check(self, of="ticket")
        return Masks({**self, **masks})

    def check(self, parameters: Mapping[str, Tensor], *, of: str = "mask") -> None:
        """Compare names and shapes with those of `parameters`.

        Raises:
            ValueError: parameters are missing or differ in shape; the message names each.
        """
        wrong = [f"{name}: not in the module" for name in self if name not in parameters]
        wrong += [
            f"{name}: {tuple(mask.shape)} in the {of}, {tuple(parameters[name].shape)} in the module"
            for name, mask in self.items()
            if name in parameters and parameters[name].shape != mask.shape
        ]
        if wrong:
            raise ValueError(f"the {of} does not fit the module:\n  " + "\n  ".join(wrong))

    def apply(self, parameters: Mapping[str, Tensor]) -> None:
        """Set the pruned weights of `parameters` to zero, in place."""
        with torch.no_grad():
            for name, mask in self.items():
                parameters[name].masked_fill_(~mask.to(parameters[name].device), 0)

    def pack(self) -> dict[str, Tensor]:
        """One bit per weight: parameter name to uint8 tensor of ceil(n / 8) bytes."""
        return {name: torch.from_numpy(np.packbits(mask.numpy().reshape(-1))) for name, mask in self.items()}

    @classmethod
    def unpack(cls, packed: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> Masks:
        """The inverse of `pack`, given the shape of each parameter; in the order of `shapes`.

        Raises:
            ValueError: the names differ, or a shape does not go with the number of bytes.
        """
        if odd := packed.keys() ^ shapes.keys():
            raise ValueError(f"packed masks and their shapes differ in the names {sorted(odd)}")

        def bits(name: str) -> Tensor:
            shape = tuple(shapes[name])
            count = math.prod(shape)
            if min(shape, default=0) < 0 or packed[name].numel() != -(-count // 8):
                raise ValueError(
                    f"the packed mask of {name!r} has {packed[name].numel()} bytes, which does not go with its shape"
                    f" {shape}"
                )
            flat = np.unpackbits(packed[name].numpy(), count=count)
            return torch.from_numpy(flat.astype(bool)).reshape(shape)

        return cls({name: bits(name) for name in shapes})


def spread(survivors: Tensor, mask: Tensor) -> Tensor:
    """The weights that a mask keeps, shape (kept,), in their places, and zeros elsewhere.

    Raises:
        ValueError: they are not as many as the mask keeps.
    """
    if survivors.shape != (int(mask.sum()),):
        raise ValueError(f"{tuple(survivors.shape)} surviving weights for {int(mask.sum())} places")
    whole = torch.zeros(mask.shape, dtype=survivors.dtype)
    whole[mask] = survivors
    return whole
