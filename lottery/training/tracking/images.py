"""Masks as images: plain arrays, white where weights are gone, blue where they are kept."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lottery.plots.pixels import fold, tiles

SIDE = 256  # pixels of the longer side, about
_KEPT = np.array([0, 114, 178])  # blue of the palette of Okabe and Ito


def mask_image(mask: Tensor, *, of_input: bool = False) -> np.ndarray:
    """A mask as an image whose longer side has about `SIDE` pixels.

    A matrix is drawn as it is, a row per output. Convolution kernels are drawn as a grid, a row of kernels per output
    channel, as long as they fit; otherwise each is one pixel. Where several weights share a pixel, its colour tells the
    share that is kept, full colour for the highest in the image.

    Args:
        mask: boolean, True = kept.
        of_input: the mask belongs to a linear layer that reads images: where its inputs are a square image of 1 or 3
            channels, each pixel is drawn at its place, coloured by the share of its weights that is kept.

    Returns:
        Height x width x 3, uint8.

    Example:
        >>> mask_image(torch.eye(4, dtype=torch.bool)).shape
        (256, 256, 3)
    """
    plane = _plane(mask.float(), of_input)
    plane = plane / plane.max().clamp(min=1e-12)
    shares = _sized(plane).numpy()[..., None]
    return (255 - shares * (255 - _KEPT)).round().astype(np.uint8)


def _plane(mask: Tensor, of_input: bool) -> Tensor:
    """Shares of kept weights, two-dimensional."""
    if mask.ndim > 2:
        return _kernels(mask)
    matrix = mask.reshape(-1, mask.shape[-1])
    if of_input:
        with contextlib.suppress(ValueError):  # no image
            return fold(matrix.mean(0)).mean(0)
    return matrix


def _kernels(mask: Tensor) -> Tensor:
    kernels = mask.reshape(*mask.shape[:2], -1, mask.shape[-1])
    grid = tiles(F.pad(kernels, (0, 1, 0, 1)).numpy())[:-1, :-1]  # white lines between kernels
    return kernels.mean((2, 3)) if max(grid.shape) > SIDE else torch.from_numpy(grid)


def _sized(plane: Tensor) -> Tensor:
    longer = max(plane.shape)
    if longer > SIDE:
        height, width = (max(1, round(n * SIDE / longer)) for n in plane.shape)
        return F.adaptive_avg_pool2d(plane[None], (height, width))[0]
    return plane.repeat_interleave(SIDE // longer, 0).repeat_interleave(SIDE // longer, 1)
