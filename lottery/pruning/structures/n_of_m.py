"""N:M sparsity, the pattern that sparse tensor cores compute with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lottery.masks.masks import Masks
from lottery.pruning.structures.groups import Pool
from lottery.pruning.structures.registry import register
from lottery.pruning.ties import note_choices


@register("n:m")
@dataclass(frozen=True)
class NofM:
    """N of each M consecutive inputs stay, those of the highest score, at each output and kernel entry.

    The pattern says how much goes: amounts, densities and scopes do not matter, and a second pruning changes nothing.
    Where fewer than N survive already, they stay. Ties go to the lowest position.

    Args:
        n: how many stay, 0 < n < m.
        m: how many inputs make a block.

    Raises:
        ValueError: n or m is not such an integer.

    Source: Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021, section 3; Zhou et al., "Learning N:M
    Fine-grained Structured Sparse Neural Networks From Scratch", ICLR 2021.

    Example:
        >>> w = torch.tensor([[4.0, 1.0, 3.0, 2.0]])
        >>> NofM(2, 4).next_masks({"w": w}, Masks.ones({"w": w}))["w"].tolist()
        [[True, False, True, False]]
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        integers = type(self.n) is int and type(self.m) is int
        if not (integers and 0 < self.n < self.m):
            raise ValueError(
                f"n={self.n!r}, m={self.m!r}: of each m inputs n stay, two integers with 0 < n < m, such as 2 of 4"
            )

    def next_masks(
        self,
        scores: Mapping[str, Tensor],
        masks: Masks,
        pools: Sequence[Pool] = (),
        *,
        allow_empty: bool = False,
        module: nn.Module | None = None,
        example_input: object = None,
    ) -> Masks:
        """The masks in the pattern, nested in `masks`; only the first two arguments matter.

        Raises:
            ValueError: a parameter has no input dimension, or one that m does not divide.
        """
        return Masks({name: self._pattern(name, scores[name].detach().cpu(), mask) for name, mask in masks.items()})

    def _pattern(self, name: str, scores: Tensor, mask: Tensor) -> Tensor:
        if mask.ndim < 2 or mask.shape[1] % self.m:
            raise ValueError(
                f"{self.n}:{self.m} sparsity needs an input dimension (dimension 1) that {self.m} divides; {name} has"
                f" shape {tuple(mask.shape)}. Exclude it: exclude=[{name!r}]."
            )
        blocks = (len(mask), mask.shape[1] // self.m, self.m, -1)
        ranked = scores.masked_fill(~mask, -torch.inf).reshape(blocks)
        lowest = ranked.argsort(dim=2, stable=True)[:, :, : self.m - self.n]
        stays = mask.reshape(blocks).clone().scatter_(2, lowest, False)
        note_choices(name, ranked, mask.reshape(blocks), stays, dim=2)
        return stays.reshape(mask.shape)
