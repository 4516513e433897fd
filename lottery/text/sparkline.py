"""Numbers as a line of text."""

from __future__ import annotations

import math
from collections.abc import Iterable

_LEVELS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def sparkline(values: Iterable[float | None], low: float | None = None, high: float | None = None) -> str:
    """One block for each value, as high as the value lies between the lowest and the highest.

    Args:
        values: None and what is not finite leave a gap.
        low: value of the lowest block; default: the smallest.
        high: value of the highest block; default: the largest.

    Example:
        >>> sparkline([0.90, 0.92, None, 0.97, 0.10])
        '▇█ █▁'
        >>> sparkline([3, 3, 3])
        '▄▄▄'
    """
    numbers = [math.nan if value is None else float(value) for value in values]
    finite = [number for number in numbers if math.isfinite(number)]
    if not finite:
        return " " * len(numbers)
    low = min(finite) if low is None else low
    high = max(finite) if high is None else high
    if not math.isfinite(high - low):  # a span beyond the largest float
        return sparkline([number / 4 for number in numbers], low / 4, high / 4)
    return "".join(
        _block((number - low) / (high - low) if high > low else 0.5) if math.isfinite(number) else " "
        for number in numbers
    )


def bar(share: float, width: int = 10) -> str:
    """A share from 0 to 1 as a horizontal bar; one that is not 0 is never empty.

    Example:
        >>> bar(0.5, 4), bar(0.001, 4), bar(0.0, 4)
        ('██  ', '▏   ', '    ')
    """
    eighths = math.ceil(min(max(share, 0.0), 1.0) * width * 8 - 1e-9)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + _EIGHTHS[rest] * (rest > 0)).ljust(width)


def _block(height: float) -> str:
    return _LEVELS[min(max(round(height * 7 - 1e-9), 0), 7)]
