"""Paired differences over seeds: intervals, one-sided tests, Holm's correction and power, on arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

MOST_SEEDS = 50
"""Studies of more seeds than this are not proposed."""


@dataclass(frozen=True, eq=False)
class Paired:
    """Paired differences: seeds along the last axis, any number of comparisons before it.

    Seeds are independent of each other, and the differences of one comparison are taken to be normal: symmetric is
    enough for the tests to hold their level in practice (simulated in `tests/test_evidence_rates.py`).

    Args:
        differences: one difference per seed; NaN where a seed has no pair.
        rounding: differences that lie within this of each other are the same number; one for all, or one per
            comparison. Where all are the same, there is no spread to measure them by: the interval is NaN and an exact
            sign test takes the place of the t test.

    Example:
        >>> found = Paired(np.array([[0.01, 0.02, 0.03], [0.02, 0.02, 0.02], [0.01, np.nan, np.nan]]))
        >>> found.seeds.tolist(), found.mean.round(3).tolist()
        ([3, 3, 1], [0.02, 0.02, 0.01])
        >>> found.p_above(0.0).round(3).tolist()
        [0.037, 0.125, nan]
    """

    differences: Array
    rounding: float | Array = 0.0

    @cached_property
    def seeds(self) -> NDArray[np.int64]:
        """How many pairs there are."""
        return np.isfinite(self.differences).sum(-1)

    @cached_property
    def mean(self) -> Array:
        """The mean difference; NaN without any pair."""
        total = np.where(np.isfinite(self.differences), self.differences, 0.0).sum(-1)
        return np.where(self.seeds > 0, total / np.maximum(self.seeds, 1), np.nan)

    @cached_property
    def spread(self) -> Array:
        """The standard deviation of the differences; 0 where all are the same, NaN of fewer than two."""
        there = np.isfinite(self.differences)
        away = np.where(there, self.differences - self.mean[..., None], 0.0)
        high = np.where(there, self.differences, -np.inf).max(-1, initial=-np.inf)
        low = np.where(there, self.differences, np.inf).min(-1, initial=np.inf)
        deviation = np.sqrt((away**2).sum(-1) / np.maximum(self.seeds - 1, 1))
        spread = np.where(high - low <= self.rounding, 0.0, deviation)
        return np.where(self.seeds > 1, spread, np.nan)

    def interval(self, level: float = 0.05) -> tuple[Array, Array]:
        """The two ends of the 1 - level interval of the mean by Student's t; NaN where there is no spread."""
        from scipy import stats  # type: ignore[import-untyped]

        degrees = np.maximum(self.seeds - 1, 1)
        half = stats.t.isf(level / 2, degrees) * self._error
        half = np.where(self.spread > 0, half, np.nan)
        return self.mean - half, self.mean + half

    def p_above(self, bound: float) -> Array:
        """One-sided p values of H0: the mean difference is at most `bound`; NaN of fewer than two pairs.

        With bound 0 this is superiority, with bound -margin non-inferiority.
        """
        return self._p(self.mean - bound)

    def p_below(self, bound: float) -> Array:
        """One-sided p values of H0: the mean difference is at least `bound`; NaN of fewer than two pairs."""
        return self._p(bound - self.mean)

    @property
    def _error(self) -> Array:
        """The standard error of the mean."""
        return self.spread / np.sqrt(np.maximum(self.seeds, 1))

    def _p(self, effect: Array) -> Array:
        from scipy import stats

        spread = self.spread > 0
        t = effect / np.where(spread, self._error, 1.0)
        by_t = stats.t.sf(t, np.maximum(self.seeds - 1, 1))
        by_sign = np.where(effect > self.rounding, 0.5**self.seeds, 1.0)
        p = np.where(spread, by_t, by_sign)
        return np.where(self.seeds > 1, p, np.nan)


def holm(p: ArrayLike) -> Array:
    """Holm's adjusted p values of a family, along the last axis.

    Rejecting those at or below a level keeps the chance of any false rejection in the family at or below it, however
    the tests depend on each other. NaN, what could not be tested, stays NaN and counts as a member of the family.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p, axis=-1)  # NaN last
    sorted_p = np.take_along_axis(p, order, -1)
    stepped = sorted_p * np.arange(p.shape[-1], 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(stepped, axis=-1), 1.0)
    found = np.empty_like(p)
    np.put_along_axis(found, order, adjusted, -1)
    return found


def power(effect: float, spread: float, seeds: int | NDArray[np.int64], level: float) -> Array:
    """The chance that a one-sided t test shows an effect, by the noncentral t distribution.

    Args:
        effect: true mean difference, less the bound of the hypothesis.
        spread: standard deviation of the differences, more than 0.
        seeds: number or numbers of pairs, 2 or more.
        level: of the test, after any correction.

    Source: Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988, chapter 2.

    Example:
        >>> power(effect=0.01, spread=0.01, seeds=np.array([4, 8]), level=0.05).round(3).tolist()
        [0.461, 0.815]
    """
    from scipy import stats

    critical = stats.t.isf(level, np.subtract(seeds, 1))
    away = effect / spread * np.sqrt(seeds)
    return np.asarray(stats.nct.sf(critical, np.subtract(seeds, 1), away))


def seeds_for(effect: float, spread: float, level: float) -> int | None:
    """The fewest seeds that show an effect with a power of 80 %, if mean and spread stay as they are.

    Returns:
        None where `MOST_SEEDS` are not enough, or the effect has the wrong sign, or no spread is known (NaN).

    Example:
        >>> seeds_for(effect=0.01, spread=0.01, level=0.05), seeds_for(effect=-0.01, spread=0.01, level=0.05)
        (8, None)
    """
    if not effect > 0 or np.isnan(spread):
        return None
    seeds = np.arange(2, MOST_SEEDS + 1)
    if spread == 0:
        enough = 0.5**seeds <= level  # the sign test of `Paired`
    else:
        enough = power(effect, spread, seeds, level) >= 0.8
    return int(seeds[enough.argmax()]) if enough.any() else None
