"""Parameters as pixels: block means of large matrices, kernels side by side, inputs folded back to images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

MOST_TILES = 16


@dataclass(frozen=True)
class Pixels:
    """What a panel shows of a parameter.

    Args:
        image: (rows, columns) of pixels.
        note: what the image leaves out or sums up; empty where it is exact.
        size: what the axes count, rows and columns: of the parameter, or of the pixels of its kernels.
        kernel: rows and columns of a kernel; (1, 1) for a matrix.
    """

    image: np.ndarray
    note: str
    size: tuple[int, int]
    kernel: tuple[int, int]

    @property
    def height(self) -> float:
        """Rows over columns, within what a panel can have."""
        return panel_height(*self.size)


def panel_height(rows: int, columns: int) -> float:
    """Height over width of a panel for an image: the image's, unless that is very flat or very high."""
    return min(max(rows / columns, 0.25), 1.25)


def as_pixels(values: Tensor, most: int) -> Pixels:
    """A parameter (out, in, *kernel) as an image: a matrix as it is, few kernels side by side, outputs downwards.

    More kernels than 16 x 16 are a map of one pixel for each: the mean over its weights.

    Args:
        values: numbers or booleans, not empty; of one dimension, they are one row.
        most: pixels on a side that a matrix or a map may have; a larger one is averaged in blocks.
    """
    shape = values.shape
    each = math.prod(shape[2:])
    if each > 1 and max(shape[:2]) <= MOST_TILES:
        kernels = values.numpy().reshape(*shape[:2], -1, shape[-1])
        image = tiles(kernels)
        return Pixels(image, "", _pair(image), _pair(kernels[0, 0]))
    matrix = values.numpy().reshape(shape[0] if values.dim() > 1 else 1, -1)
    if each > 1:
        matrix = values.flatten(2).double().mean(2).numpy()
    image, (rows, columns) = block_means(matrix, most)
    what = f"kernels of {each} weights" if each > 1 else "weights"
    note = f"means of {rows}×{columns} {what}" if rows * columns > 1 else "means of kernels" if each > 1 else ""
    return Pixels(image, note, _pair(matrix), (1, 1))


def block_means(matrix: np.ndarray, most: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Means over blocks, the smallest that leave at most `most` on a side; the last ones may be cut.

    Returns:
        The means, and rows and columns of a block; a matrix that is small enough itself, and 1 and 1.

    Example:
        >>> means, block = block_means(np.array([[0, 1, 1], [1, 1, 1], [0, 0, 1]]), most=2)
        >>> means.tolist(), block
        ([[0.75, 1.0], [0.0, 1.0]], (2, 2))
    """
    block = (-(-matrix.shape[0] // most), -(-matrix.shape[1] // most))
    for axis, size in enumerate(block):
        if size == 1:
            continue
        starts = np.arange(0, matrix.shape[axis], size)
        counts = np.diff(starts, append=matrix.shape[axis])
        sums = np.add.reduceat(matrix, starts, axis, dtype=float)
        matrix = sums / np.expand_dims(counts, 1 - axis)
    return matrix, block


def tiles(kernels: np.ndarray) -> np.ndarray:
    """Kernels (out, in, height, width) side by side: (out * height, in * width).

    Example:
        >>> tiles(np.arange(8).reshape(1, 2, 2, 2)).tolist()
        [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    outputs, inputs, height, width = kernels.shape
    return kernels.transpose(0, 2, 1, 3).reshape(outputs * height, inputs * width)


def fold(values: Tensor, image_shape: Sequence[int] | None = None) -> Tensor:
    """The last dimension, one entry per input, folded back to an image.

    Args:
        values: (..., inputs).
        image_shape: (height, width) or (channels, height, width); a square of 1 or 3 channels if it is not given.

    Returns:
        (..., channels, height, width).

    Raises:
        ValueError: the inputs are no such image.

    Example:
        >>> import torch
        >>> fold(torch.zeros(300, 784)).shape, fold(torch.zeros(3072)).shape
        (torch.Size([300, 1, 28, 28]), torch.Size([3, 32, 32]))
    """
    inputs = values.shape[-1]
    if image_shape is None:
        for channels in (1, 3):
            side = math.isqrt(inputs // channels)
            if side > 1 and channels * side * side == inputs:
                return values.reshape(*values.shape[:-1], channels, side, side)
        raise ValueError(
            f"{inputs} inputs are no square image of 1 or 3 channels: give image_shape=(height, width) or"
            f" (channels, height, width), such as image_shape=(1, {inputs})"
        )
    shape = tuple(image_shape)
    if len(shape) not in (2, 3) or min(shape) < 1 or math.prod(shape) != inputs:
        raise ValueError(
            f"image_shape={shape} does not go with {inputs} inputs: give (height, width) or (channels, height, width)"
            " whose product that is"
        )
    return values.reshape(*values.shape[:-1], *(1,) * (3 - len(shape)), *shape)


def _pair(image: np.ndarray) -> tuple[int, int]:
    rows, columns = image.shape
    return rows, columns
