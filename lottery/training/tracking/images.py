"""Masks as images: plain arrays, white where weights are gone, blue where they are kept."""

from __future__ import annotations

import math

import numpy as np
import torch.nn.functional as F
from torch import Tensor

SIDE = 256  # pixels of the longer side, about
_KEPT = np.array([0, 114, 178])  # blue of the palette of Okabe and Ito


def mask_image(mask: Tensor, *, of_input: bool = False) -> np.ndarray:
    """A mask as an image whose longer side has about `SIDE` pixels.

    A matrix is drawn as it is, a row per output. Convolution kernels are drawn as a grid, a row of kernels per output
    channel, as long as they fit; otherwise each is one pixel. Where several weights share a pixel, its colour tells the
    share that is kept, full colour for the highest in the image.

    Args:
        mask: boolean, True = kept.
        of_input: the mask belongs to a linear layer that reads images: where its number of inputs is a square, each
            input is drawn at its place in the image, coloured by the share of its weights that is kept.

    Returns:
        Height x width x 3, uint8.

    Example:
        >>> import torch
        >>> mask_image(torch.eye(4, dtype=torch.bool)).shape
        (256, 256, 3)
    """
    plane = _plane(mask.float(), of_input)
    plane = plane / plane.max().clamp(min=1e-12)
    shares = _sized(plane).numpy()[..., None]
    return (255 - shares * (255 - _KEPT)).round().astype(np.uint8)


def _plane(mask: Tensor, of_input: bool) -> Tensor:
    """Shares of kept weights, two-dimensional."""
    if mask.ndim < 2:
        return mask.reshape(1, -1)
    if mask.ndim > 2:
        return _kernels(mask)
    side = math.isqrt(mask.shape[1])
    if of_input and side * side == mask.shape[1]:
        return mask.mean(0).reshape(side, side)
    return mask


def _kernels(mask: Tensor) -> Tensor:
    outputs, inputs, *_, width = mask.shape
    kernels = mask.reshape(outputs, inputs, -1, width)
    height = kernels.shape[2]
    if max(outputs * (height + 1), inputs * (width + 1)) > SIDE:
        return kernels.mean((2, 3))
    framed = F.pad(kernels, (0, 1, 0, 1))  # white lines between kernels
    grid = framed.permute(0, 2, 1, 3).reshape(outputs * (height + 1), -1)
    return grid[:-1, :-1]


def _sized(plane: Tensor) -> Tensor:
    longer = max(plane.shape)
    if longer > SIDE:
        height, width = (max(1, round(n * SIDE / longer)) for n in plane.shape)
        return F.adaptive_avg_pool2d(plane[None], (height, width))[0]
    times = SIDE // longer
    return plane.repeat_interleave(times, 0).repeat_interleave(times, 1)
