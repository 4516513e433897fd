"""How far a tensor is from the one that is expected."""

from __future__ import annotations

import torch
from torch import Tensor


def distance(expected: Tensor, found: Tensor) -> tuple[float, float]:
    """The largest distance between two entries, and the largest finite entry that is expected, by its size.

    NaN is at no distance from NaN, and so is an infinity from itself; NaN stands for a distance that is not known,
    infinity for other shapes.

    Example:
        >>> distance(torch.tensor([-4.0, torch.inf]), torch.tensor([-3.5, torch.inf]))
        (0.5, 4.0)
    """
    exact = torch.complex128 if expected.is_complex() else torch.float64
    one, other = expected.detach().to("cpu", exact), found.detach().to("cpu", exact)
    scale = _largest(one[one.isfinite()].abs())
    if one.shape != other.shape:
        return float("inf"), scale
    agreed = (one == other) | (one.isnan() & other.isnan())
    return _largest((one - other).abs().masked_fill(agreed, 0)), scale


def _largest(sizes: Tensor) -> float:
    return float(sizes.max()) if sizes.numel() else 0.0
