"""Claims that are made together, so that the chance of any false one among them is bounded."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lottery.foundations.statistics.paired import Array


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


def in_order(p: ArrayLike) -> Array:
    """Adjusted p values of a family that is tested in an order fixed beforehand, along the last axis.

    Each test has the whole level, and the first that fails ends the family: what comes after it is not shown. What
    could not be tested (NaN) ends it too.

    Source: Maurer, Hothorn & Lehmacher, "Multiple comparisons in drug clinical trials and preclinical assays: a-priori
    ordered hypotheses", Biometrie in der chemisch-pharmazeutischen Industrie 1995.

    Example:
        >>> in_order([0.01, 0.04, 0.03]).tolist()
        [0.01, 0.04, 0.04]
    """
    return np.maximum.accumulate(np.asarray(p, dtype=float), axis=-1)


def intersection(p: ArrayLike) -> Array:
    """The p value of all of several claims together, along the first axis: the largest; NaN where one is not there.

    Source: Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 1982.

    Example:
        >>> intersection([[0.01, 0.2], [0.03, 0.1]]).tolist()
        [0.03, 0.2]
    """
    return np.asarray(p, dtype=float).max(0)
