"""What a study claims first: how its p values become one claim at one level. On arrays of any number of studies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lottery.foundations.statistics.family import holm, in_order, intersection
from lottery.foundations.statistics.looks import combined, counted
from lottery.foundations.statistics.paired import FEWEST, Array, Paired


def p_values(
    gains: Array, stages: Sequence[np.ndarray], bound: float | Array = 0.0, rounding: float | Array = 0
) -> Array:
    """P values of H0: the mean gain is at most `bound`, from the stages in which seeds were added.

    They are doubled where the gains of all rounds together have a tail of bad seeds, see `heavy_below`.

    Args:
        gains: ..., rounds x seeds.
        stages: the places of the seeds of each stage.
        bound: of the hypothesis; it may have an axis of seeds.
        rounding: as of `Paired`.
    """
    shifted = np.asarray(gains - bound)
    p = combined([Paired(shifted[..., stage], rounding).p_above() for stage in stages])
    return np.minimum(p * np.where(heavy_below(gains), 2.0, 1.0), 1.0)


def heavy_below(gains: Array) -> NDArray[np.bool_]:
    """Whether differences have a tail below, which makes a mean look surer to be above something than it is.

    That is, whether their skewness, pooled over rounds, is below 0 by more than 1.5 of its standard errors.

    Args:
        gains: ..., rounds x seeds; NaN and what is not finite are left out.

    Returns:
        ..., 1.

    Source: of what skewness does to t tests, Johnson, "Modified t tests and confidence intervals for asymmetrical
    populations", Journal of the American Statistical Association 1978.

    Example:
        >>> late = np.random.default_rng(0).exponential(size=(6, 8))
        >>> heavy_below(-late).item(), heavy_below(late).item()
        (True, False)
    """
    there = np.isfinite(gains)
    seeds = there.sum(-1)
    enough = seeds >= FEWEST
    known = np.where(there, gains, 0.0)
    away = np.where(there, known - (known.sum(-1) / np.maximum(seeds, 1))[..., None], 0.0)
    n = np.where(enough, seeds, FEWEST)
    third = np.where(enough, n / ((n - 1) * (n - 2)) * (away**3).sum(-1), 0.0).sum(-1)
    rounds = np.maximum(enough.sum(-1), 1)
    variance = np.where(enough, (away**2).sum(-1) / (n - 1), 0.0).sum(-1) / rounds
    error = np.sqrt(np.where(enough, 6 * n / ((n - 1) * (n - 2)), 0.0).sum(-1))
    return np.asarray(third < -1.5 * error * variance**1.5)[..., None]


def primary(matching: Array, better: Sequence[Array], look: int = 1) -> Array:
    """Adjusted p values of the claim of a headline, to be compared with the level: that a round wins.

    It is one claim for each round, that the ticket is matching and better than every control that must be beaten, and
    it is corrected by Holm over the rounds: the chance that any of the rounds is falsely said to win is at most the
    level.

    Args:
        matching: p values of being no more than the margin worse than dense: ..., rounds.
        better: p values of being better, one array per control that must be beaten: ..., rounds.
        look: which look at the study this is.

    Example:
        >>> primary(np.array([0.004, 0.01, 0.3]), [np.array([0.3, 0.001, 0.002])]).round(4).tolist()
        [0.75, 0.0375, 0.75]
    """
    return holm(counted(intersection([matching, *better]), look))


def ordered(p: Array, look: int = 1) -> Array:
    """Adjusted p values of a family that is tested from dense downwards, to be compared with the level of the study.

    Example:
        >>> ordered(np.array([0.004, 0.01, 0.3, 0.001])).round(4).tolist()
        [0.005, 0.0125, 0.375, 0.375]
    """
    return in_order(counted(p, look))


def secondary(p: Array, look: int = 1) -> Array:
    """Adjusted p values of a family of other claims, to be compared with the level of the study.

    They are tested at half of the level, as two-sided intervals are: one-sided tests err more often than they say where
    a few bad seeds make differences skew, and this is the room for it.
    """
    return np.minimum(2 * holm(counted(p, look)), 1.0)
