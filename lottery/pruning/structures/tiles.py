"""Structures that lie within one parameter: block, kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lottery.masks.masks import Masks
from lottery.pruning.structures.groups import Groups
from lottery.pruning.structures.registry import register
from lottery.pruning.structures.structure import Grouped


@register("block")
@dataclass(frozen=True)
class Block(Grouped):
    """Tiles of the (out, in) matrix, with all kernel entries of each of their pairs.

    Tiles start at (0, 0). Where a shape does not divide the matrix, those at its far edges are smaller; with
    reduce="mean" they are compared with whole ones on even terms.

    Args:
        shape: rows and columns of a tile.

    Raises:
        ValueError: the shape is not two positive integers.

    Source: Narang, Undersander & Diamos, "Block-Sparse Recurrent Neural Networks", 2017.
    """

    shape: tuple[int, int] = (4, 4)

    def __post_init__(self) -> None:
        super().__post_init__()
        shape = tuple(self.shape)
        if len(shape) != 2 or not all(type(n) is int and n > 0 for n in shape):
            raise ValueError(
                f"shape={self.shape!r} of a block must be its rows and columns, two positive integers such as [4, 4]"
            )
        object.__setattr__(self, "shape", shape)

    def groups(self, masks: Masks, module: nn.Module | None = None, example_input: object = None) -> Groups:
        """A group for each tile, row by row.

        Raises:
            ValueError: a parameter has fewer than two dimensions.
        """
        return Groups.consecutive({name: _tiles(name, mask, *self.shape) for name, mask in masks.items()})


@register("kernel")
@dataclass(frozen=True)
class Kernel(Grouped):
    """All kernel entries of one pair of an output and an input channel; in a linear layer each weight for itself.

    Source: Mao et al., "Exploring the Regularity of Sparse Structure in Convolutional Neural Networks", CVPR workshops
    2017, section 3.
    """

    def groups(self, masks: Masks, module: nn.Module | None = None, example_input: object = None) -> Groups:
        """A group for each pair, row by row.

        Raises:
            ValueError: a parameter has fewer than two dimensions.
        """
        return Groups.consecutive({name: _tiles(name, mask, 1, 1) for name, mask in masks.items()})


def _tiles(name: str, mask: Tensor, rows: int, columns: int) -> Tensor:
    """The number of each pair's tile, shape (out, in, 1, ...)."""
    if mask.ndim < 2:
        raise ValueError(
            f"{name} has shape {tuple(mask.shape)}; tiles need (out, in, *kernel). Exclude it: exclude=[{name!r}]."
        )
    outputs, inputs = mask.shape[:2]
    across = math.ceil(inputs / columns)
    down = torch.arange(outputs) // rows
    ids = down[:, None] * across + torch.arange(inputs) // columns
    return ids.reshape(outputs, inputs, *[1] * (mask.ndim - 2))
