"""Means with their intervals."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lottery.foundations.statistics.paired import Paired


def mean_interval(values: Iterable[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of a sample and the interval of the mean by Student's t.

    mean ± t(n - 1) · s / √n, with the quantile t of `confidence` and s over n - 1.

    Args:
        values: one per run; NaN are left out.
        confidence: share of such intervals that hold the true mean.

    Returns:
        Mean, low, high. Low and high are NaN where there is no spread: of one value, or of equal ones. No value: three
        NaN.

    Example:
        >>> [round(number, 2) for number in mean_interval([1.0, 2.0, 3.0])]
        [2.0, -0.48, 4.48]
    """
    sample = Paired(np.fromiter(values, float))
    low, high = sample.interval(1 - confidence)
    return float(sample.mean), float(low), float(high)
