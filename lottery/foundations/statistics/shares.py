"""Shares of a whole, such as how often a training collapses, with exact intervals."""

from __future__ import annotations


def share_interval(count: int, of: int, level: float = 0.05) -> tuple[float, float]:
    """The 1 - level interval of a chance, from how often something happened.

    Args:
        count: how often it did.
        of: how often it could have; 1 or more.
        level: 1 - level is the least share of such intervals that hold the chance, whatever it is.

    Source: Clopper & Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 1934.

    Example:
        >>> [round(end, 3) for end in share_interval(0, 5)], [round(end, 3) for end in share_interval(1, 30)]
        ([0.0, 0.522], [0.001, 0.172])
    """
    from scipy import stats  # type: ignore[import-untyped]

    low = float(stats.beta.ppf(level / 2, count, of - count + 1)) if count else 0.0
    high = float(stats.beta.ppf(1 - level / 2, count + 1, of - count)) if count < of else 1.0
    return low, high
