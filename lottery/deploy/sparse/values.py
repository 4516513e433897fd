"""Surviving weights as they are, or in fewer bits: bfloat16, or int8 with a scale per row."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from lottery.masks.masks import spread

Values = Literal["native", "float32", "bfloat16", "int8"]
_STEPS = 127  # on either side of zero
_SMALLEST = 2.0**-149
"""The smallest positive float32: scales below it would be zero."""


class Stored(NamedTuple):
    """Survivors as stored.

    Args:
        survivors: one number per kept weight, in row-major order.
        scales: float32, what one step of int8 stands for: one per row that keeps a weight. None for other kinds.
    """

    survivors: Tensor
    scales: Tensor | None


def store(tensor: Tensor, mask: Tensor, values: Values = "native") -> Stored:
    """The kept weights of a tensor.

    "native" is exact. "float32" and "bfloat16" round to nearest, to 24 and 8 significant bits: bfloat16 is off by at
    most 2^-8 of each weight. "int8" divides a row, all that one output unit reads, into 254 steps between -m and m, m
    the largest magnitude that it keeps: off by at most half a step, m / 254. A tensor of fewer than two dimensions is
    one row. Numbers that would get no smaller stay as they are: integers, and floats of no more bits than asked for.

    Args:
        tensor: the weights.
        mask: boolean, of the same shape, True = kept.
        values: the kind.

    Raises:
        ValueError: there is no such kind, or a kept weight is not finite in it.

    Example:
        >>> weight = torch.tensor([[1.27, -0.5, 0.004], [0.0, 0.0, 3.0]])
        >>> store(weight, weight != 0, "int8").survivors.tolist()
        [127, -50, 0, 127]
    """
    check(values)
    survivors = tensor.detach()[mask]
    if not shrinks(tensor.dtype, values):
        return Stored(survivors, None)
    scales = None
    if values == "int8":
        scales = _scales(survivors, mask)
        steps = survivors.double() / scales.double().repeat_interleave(_counts(mask))
        coded, finite = steps.round().to(torch.int8), bool(scales.isfinite().all())
    else:
        coded = survivors.to(getattr(torch, values))
        finite = bool(coded.isfinite().all())
    if not finite:
        raise ValueError(
            f"a weight is not finite, or too large for values={values!r}; values='native' keeps all as they are"
        )
    return Stored(coded, scales)


def restore(stored: Stored, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor of the mask's shape with what `store` kept in its places and zeros elsewhere.

    Raises:
        ValueError: the numbers are not as many as the mask keeps.
    """
    whole = spread(stored.survivors, mask)
    if (scales := stored.scales) is not None:
        counts = _counts(mask)
        if scales.shape != counts.shape:
            raise ValueError(f"{tuple(scales.shape)} scales for {len(counts)} rows")
        whole = whole.double()
        whole[mask] *= scales.double().repeat_interleave(counts)
    return whole.to(dtype)


def size(mask: Tensor, dtype: torch.dtype = torch.float32, values: Values = "native") -> int:
    """Bytes that the kept weights of a tensor of `dtype` take, scales included."""
    kept = int(mask.sum())
    if not shrinks(dtype, values):
        return kept * dtype.itemsize
    if values == "int8":
        return kept + 4 * len(_counts(mask))
    return kept * getattr(torch, values).itemsize


def shrinks(dtype: torch.dtype, values: Values) -> bool:
    """Whether numbers of a dtype get smaller as `values`."""
    return values != "native" and dtype.is_floating_point and getattr(torch, values).itemsize < dtype.itemsize


def check(values: str) -> None:
    """Make sure that there is such a kind.

    Raises:
        ValueError: there is none.
    """
    if values not in get_args(Values):
        raise ValueError(f"values={values!r}; choose from {', '.join(get_args(Values))}")


def _scales(survivors: Tensor, mask: Tensor) -> Tensor:
    counts = _counts(mask)
    rows = torch.arange(len(counts)).repeat_interleave(counts)
    largest = torch.zeros(len(counts), dtype=torch.float64)
    largest.scatter_reduce_(0, rows, survivors.double().abs(), "amax")
    scales = (largest / _STEPS).float().clamp(min=_SMALLEST)
    # where float32 has few bits left, a scale that was rounded down would have the largest beyond 127 steps
    beyond = (largest / scales.double()).round() > _STEPS
    return scales.where(~beyond, scales.nextafter(torch.tensor(torch.inf)))


def _counts(mask: Tensor) -> Tensor:
    """Kept weights of each row that has any."""
    rows = mask.flatten(1).sum(1) if mask.ndim > 1 else mask.sum().reshape(1)
    return rows[rows > 0]
