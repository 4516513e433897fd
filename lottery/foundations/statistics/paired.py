"""Paired differences over seeds: intervals and one-sided tests, on arrays, where some trainings have failed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEWEST = 3
"""Pairs behind any test."""


@dataclass(frozen=True, eq=False)
class Paired:
    """Paired differences: seeds along the last axis, any number of comparisons before it.

    Seeds are independent of each other, and the differences of one comparison are taken to be normal. What that costs
    where they are not is in `docs/statistics.md`, which `python -m tests.evidence_rates` measures.

    A training that failed is worse than any other. Where the first of a pair failed the difference is -inf: no test
    shows then that the first is above anything. Where the second did, it is +inf, and counts as much as the largest
    difference of its comparison that is finite, no more.

    Args:
        differences: one difference per seed; NaN where a seed has no pair.
        rounding: differences that lie within this of each other are the same number; one for all, or one per
            comparison. Where all are the same, there is no spread to measure them by: the interval is NaN and an exact
            sign test takes the place of the t test.

    Example:
        >>> found = Paired(np.array([[0.01, 0.02, 0.03], [0.02, 0.02, 0.02], [0.01, np.nan, 0.02], [1, 1, -np.inf]]))
        >>> found.seeds.tolist(), found.mean.round(3).tolist()
        ([3, 3, 2, 3], [0.02, 0.02, 0.015, -inf])
        >>> found.p_above(0.0).round(3).tolist()
        [0.037, 0.125, nan, 1.0]
    """

    differences: Array
    rounding: float | Array = 0.0

    @cached_property
    def seeds(self) -> NDArray[np.int64]:
        """How many pairs there are, of which a training may have failed."""
        return (~np.isnan(self.differences)).sum(-1)

    @cached_property
    def mean(self) -> Array:
        """The mean difference; NaN without any pair, not finite where a training failed."""
        return _mean(self.differences)

    @cached_property
    def spread(self) -> Array:
        """The standard deviation of the differences; 0 where all are the same, NaN of fewer than two or not finite."""
        return _spread(self.differences, self.rounding)

    @property
    def error(self) -> Array:
        """The standard error of the mean."""
        return self.spread / np.sqrt(np.maximum(self.seeds, 1))

    def interval(self, level: float = 0.05) -> tuple[Array, Array]:
        """The two ends of the 1 - level interval of the mean by Student's t; NaN where there is no spread."""
        from scipy import stats  # type: ignore[import-untyped]

        half = stats.t.isf(level / 2, np.maximum(self.seeds - 1, 1)) * self.error
        half = np.where(self.spread > 0, half, np.nan)
        return self.mean - half, self.mean + half

    def p_above(self, bound: float | Array = 0.0) -> Array:
        """One-sided p values of H0: the mean difference is at most `bound`; NaN of fewer than three pairs.

        With bound 0 this is superiority, with bound -margin non-inferiority. A bound may have an axis of seeds.
        """
        return _p_above(self.differences - bound, self.rounding)

    def p_below(self, bound: float | Array = 0.0) -> Array:
        """One-sided p values of H0: the mean difference is at least `bound`; NaN of fewer than three pairs."""
        return _p_above(bound - self.differences, self.rounding)


def _mean(values: Array) -> Array:
    pairs = (~np.isnan(values)).sum(-1)
    with np.errstate(invalid="ignore"):  # failures on both sides: their mean is nothing
        total = np.where(np.isnan(values), 0.0, values).sum(-1)
    return np.where(pairs > 0, total / np.maximum(pairs, 1), np.nan)


def _spread(values: Array, rounding: float | Array) -> Array:
    there = ~np.isnan(values)
    pairs = there.sum(-1)
    finite = (np.isfinite(values) | ~there).all(-1)
    known = np.where(np.isfinite(values), values, 0.0)
    mean = known.sum(-1) / np.maximum(pairs, 1)
    away = np.where(there, known - mean[..., None], 0.0)
    high = np.where(there, known, -np.inf).max(-1, initial=-np.inf)
    low = np.where(there, known, np.inf).min(-1, initial=np.inf)
    deviation = np.sqrt((away**2).sum(-1) / np.maximum(pairs - 1, 1))
    spread = np.where(high - low <= rounding, 0.0, deviation)
    return np.where((pairs > 1) & finite, spread, np.nan)


def _p_above(values: Array, rounding: float | Array) -> Array:
    """P values of H0: the mean is at most 0."""
    from scipy import special

    pairs = (~np.isnan(values)).sum(-1)
    largest = np.where(np.isfinite(values), values, -np.inf).max(-1, initial=-np.inf)
    counted = np.where(np.isfinite(largest), largest, 1.0)[..., None]  # all the others failed: a sign is all there is
    tame = np.where(np.isposinf(values), counted, values)
    mean, spread = _mean(tame), _spread(tame, rounding)
    there = spread > 0
    t = mean / np.where(there, spread / np.sqrt(np.maximum(pairs, 1)), 1.0)
    by_t = special.stdtr(np.maximum(pairs - 1, 1), -t)
    by_sign = np.where(mean > rounding, 0.5**pairs, 1.0)
    p = np.where(there, by_t, by_sign)
    p = np.where(np.isneginf(values).any(-1), 1.0, p)
    return np.where(pairs >= FEWEST, p, np.nan)
