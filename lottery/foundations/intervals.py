"""Means with their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np


def mean_interval(values: Iterable[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of a sample and the interval of the mean by Student's t.

    mean ± t(n - 1) · s / √n, with the quantile t of `confidence` and s over n - 1.

    Args:
        values: one per run; NaN are left out.
        confidence: share of such intervals that hold the true mean.

    Returns:
        Mean, low, high. One value has no interval: low and high are the mean. No value: three NaN.

    Example:
        >>> [round(number, 2) for number in mean_interval([1.0, 2.0, 3.0])]
        [2.0, -0.48, 4.48]
    """
    from scipy.stats import t as student_t  # type: ignore[import-untyped]

    sample = np.fromiter(values, float)
    sample = sample[~np.isnan(sample)]
    if not len(sample):
        return math.nan, math.nan, math.nan
    mean = float(sample.mean())
    if len(sample) == 1:
        return mean, mean, mean
    quantile = float(student_t.ppf((1 + confidence) / 2, len(sample) - 1))
    half = quantile * float(sample.std(ddof=1)) / math.sqrt(len(sample))
    return mean, mean - half, mean + half
