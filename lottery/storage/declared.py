"""How much a file may declare: in a few bytes, coded masks say how many weights there are, and all are allocated."""

from __future__ import annotations

FREE = 2**23
"""Weights that any file may declare: 8 million, which take 64 MB with what decodes them."""
PER_BYTE = 256
"""Weights that a file may declare more for each of its bytes. Files of ours are never smaller: they are padded."""


def check_declared(weights: int, size: int, most: int | None = None) -> None:
    """Make sure that a file does not declare far more than it holds, before anything is allocated for it.

    Args:
        weights: that it declares.
        size: of the file in bytes, or of what else proves that there are so many weights.
        most: what the reader allows instead.

    Raises:
        ValueError: it does; the message says how to read it all the same.
    """
    allowed = most_declared(size) if most is None else most
    if not 0 <= weights <= allowed:
        raise ValueError(
            f"it declares {weights:,} weights in {size:,} bytes, and {allowed:,} are allowed. Where that is right, read"
            f" it with most_weights={weights}"
        )


def most_declared(size: int) -> int:
    """The weights that a file of so many bytes may declare.

    Example:
        >>> most_declared(0), most_declared(1000) - most_declared(0)
        (8388608, 256000)
    """
    return FREE + PER_BYTE * size


def least_size(weights: int) -> int:
    """The bytes that a file needs to declare so many weights.

    Example:
        >>> least_size(1000), least_size(25_000_000) <= 25_000_000 / 256
        (0, True)
    """
    return max(0, -(-(weights - FREE) // PER_BYTE))
