"""Claims of a study that is read, grown and read again: what each look may spend, and how its data are combined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lottery.foundations.statistics.paired import Array

FIRST = 0.8
"""What the first look spends of the level; each later one spends as much of what the ones before it left."""


def share(look: int) -> float:
    """What a look spends of the level; all looks together spend no more than all of it.

    Args:
        look: 1 for the first.

    Example:
        >>> [round(share(look), 4) for look in (1, 2, 3)]
        [0.8, 0.16, 0.032]
    """
    return FIRST * (1 - FIRST) ** (look - 1)


def combined(stages: Sequence[Array]) -> Array:
    """P values of the same claims from several groups of seeds, each added after the ones before it were looked at.

    The inverse normal combination with equal weights. It holds whatever made somebody add a group, and however large
    they made it, because each group is tested by itself. NaN where any is NaN.

    Source: Lehmacher & Wassmer, "Adaptive sample size calculations in group sequential trials", Biometrics 1999.

    Example:
        >>> combined([np.array([0.1]), np.array([0.1])]).round(4).tolist()
        [0.035]
    """
    if len(stages) == 1:
        return np.asarray(stages[0], dtype=float)
    from scipy import special  # type: ignore[import-untyped]

    z = special.ndtri(np.clip(np.asarray(stages, dtype=float), 1e-15, 1.0))
    return np.asarray(special.ndtr(z.sum(0) / np.sqrt(len(stages))))


def counted(p: Array, look: int) -> Array:
    """P values of a look, to be compared with the level of the whole study.

    Example:
        >>> [counted(np.array([0.04]), look).round(3).tolist() for look in (1, 2)]
        [[0.05], [0.25]]
    """
    return np.minimum(p / share(look), 1.0)
