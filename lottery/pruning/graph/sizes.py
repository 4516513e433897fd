"""Sizes that know whether they shrink when units go."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self


class Size(int):
    """A size of features that shrinks with their units, and what forward computes from it.

    `x.shape[1] // 2` is such a size, so a split by it stays right where units go; a number that is written into the
    code is a plain int, and so is what is computed from a `Size` in a way that is not followed here.

    Args:
        value: how large it is.
        share: how many times the size that it came from, apart from constants that are added.
        rows: the labels along the dimension that it came from, one row for each place; None where it has several.

    Example:
        >>> (Size(8) // 2).share, (8 - Size(8) // 2).share, type(Size(9) // 2)
        (Fraction(1, 2), Fraction(-1, 2), <class 'int'>)
    """

    share: Fraction
    rows: Tensor | None

    def __new__(cls, value: int, share: Fraction | int = 1, rows: Tensor | None = None) -> Self:
        size = super().__new__(cls, value)
        size.share = Fraction(share)
        size.rows = rows
        return size

    def __add__(self, other: int) -> int:
        if not _whole(other):
            return NotImplemented
        rows = None if isinstance(other, Size) and other.rows is not self.rows else self.rows
        return _sized(int(self) + int(other), self.share + share_of(other), rows)

    __radd__ = __add__

    def __neg__(self) -> int:
        return _sized(-int(self), -self.share, self.rows)

    def __sub__(self, other: int) -> int:
        return self + -other if _whole(other) else NotImplemented

    def __rsub__(self, other: int) -> int:
        return -self + other if _whole(other) else NotImplemented

    def __mul__(self, other: int) -> int:
        if not _whole(other) or isinstance(other, Size):
            return int(self) * other
        return _sized(int(self) * other, self.share * other, self.rows)

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> int:
        if not _whole(other) or isinstance(other, Size) or other == 0 or int(self) % other:
            return int(self) // other
        return _sized(int(self) // other, self.share / other, self.rows)

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)  # none outlives the forward pass that it was made in


def share_of(size: int) -> Fraction:
    """How many times the size that it came from; 0 where it does not shrink."""
    return size.share if isinstance(size, Size) else Fraction(0)


def _whole(value: object) -> bool:
    return isinstance(value, int)


def _sized(value: int, share: Fraction, rows: Tensor | None) -> int:
    return Size(value, share, rows) if share else value
