"""How lists, durations and metrics are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def listed(items: Sequence[str]) -> str:
    """MetricText joined as in a sentence; nothing for none.

    Example:
        >>> listed([]), listed(["a"]), listed(["a", "b", "c"])
        ('', 'a', 'a, b and c')
    """
    *most, last = items or [""]
    return f"{', '.join(most)} and {last}" if most else last


def duration(seconds: float) -> str:
    """In the two largest units.

    Example:
        >>> duration(59), duration(90), duration(3 * 3600 + 120)
        ('59 s', '1 min 30 s', '3 h 02 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def in_percent(metric: str, values: pandas.Series) -> bool:
    """Whether a metric is a share that reads better in percent: an accuracy between 0 and 1, where it is known."""
    return "acc" in metric.lower() and bool(values.dropna().between(0, 1).all())
