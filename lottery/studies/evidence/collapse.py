"""Trainings that collapsed: how many there were, and how many so few seeds cannot exclude."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from lottery.foundations.statistics.paired import Array
from lottery.foundations.statistics.shares import share_interval

SPREADS = 5
MARGINS = 5


@dataclass(frozen=True)
class Collapse:
    """The trainings of an arm that ended far from the others, or did not end with a finite value.

    Args:
        trainings: how many were trained.
        collapsed: how many of these collapsed.
        seeds: how many seeds were trained.
        seeds_hit: how many of these have a training that collapsed.
        low, high: the ends of the exact interval of the chance that a seed has one.
    """

    trainings: int
    collapsed: int
    seeds: int
    seeds_hit: int
    low: float
    high: float


def collapse_of(values: Array, margin: float, level: float = 0.05) -> Collapse | None:
    """The collapsed trainings of an arm; None where nothing was trained.

    One has collapsed if it failed, or lies below the median of its arm and round by more than five spreads and five
    margins. The spread is 1.4826 times the median distance from these medians, in the round or in the whole arm,
    whichever is larger: a few trainings cannot move it. An interval needs independent trials: these are seeds, not
    trainings.

    Args:
        values: rounds x seeds, more is better; -inf where a training failed, NaN where there was none.
        margin: in units of the values.
        level: 1 - level is that of the interval.

    Example:
        >>> found = collapse_of(np.array([[0.90, 0.91, 0.92, 0.70], [0.90, 0.91, -np.inf, 0.90]]), margin=0.01)
        >>> found.collapsed, found.trainings, found.seeds_hit, round(found.low, 3), round(found.high, 3)
        (2, 8, 2, 0.068, 0.932)
    """
    there = ~np.isnan(values)
    if not there.any():
        return None
    values = values[there.any(-1)]
    there = ~np.isnan(values)
    finite = np.where(np.isfinite(values), values, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all of a round failed
        away = finite - np.nanmedian(finite, axis=-1, keepdims=True)
        apart = np.where(away == 0, np.nan, np.abs(away))  # a median is no distance from itself
        of_the_round = np.nanquantile(apart, 0.5, axis=-1, keepdims=True, method="lower")
        spread = 1.4826 * np.fmax(np.nan_to_num(np.nanmedian(apart)), np.nan_to_num(of_the_round))
    collapsed = there & ((away < -np.maximum(SPREADS * spread, MARGINS * margin)) | np.isnan(finite))
    seeds, hit = int(there.any(0).sum()), int(collapsed.any(0).sum())
    return Collapse(int(there.sum()), int(collapsed.sum()), seeds, hit, *share_interval(hit, seeds, level))
