"""Claims that are made together, so that the chance of any false one among them is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lottery.foundations.statistics.paired import Array, holm


@dataclass(frozen=True, eq=False)
class Claim:
    """One claim, round by round, as a member of its family.

    Args:
        p: raw p values; NaN where fewer than two pairs are there to test with.
        adjusted: Holm's p values over the family.
        shown: where the claim can be made.
        size: how many tests the family has.
        next_level: the level at which Holm tests the family's next claim, those made so far aside.
    """

    p: Array
    adjusted: Array
    shown: np.ndarray
    size: int
    next_level: float


def family(p: Mapping[str, Array], asked: Mapping[str, np.ndarray], level: float) -> dict[str, Claim]:
    """Claims by name, with a chance of at most `level` for one or more false ones among all of them.

    Args:
        p: name to p values by round.
        asked: name to the rounds in which there is a hypothesis at all. Those without enough pairs count in the family,
            those never asked do not.
        level: the chance allowed.

    Example:
        >>> found = family({"a": np.array([0.01, 0.2]), "b": np.array([0.02, np.nan])}, {"a": [True, True],
        ...                 "b": [True, False]}, level=0.05)
        >>> found["b"].shown.tolist(), found["b"].size, found["b"].next_level
        ([True, False], 3, 0.05)
    """
    if not p:
        return {}
    raw = np.array(list(p.values()), dtype=float)
    members = np.array([asked[name] for name in p], dtype=bool)
    adjusted = np.full(raw.shape, np.nan)
    adjusted[members] = holm(raw[members])
    shown = adjusted <= level
    left = int(members.sum() - shown.sum())
    return {
        name: Claim(raw[i], adjusted[i], shown[i], int(members.sum()), level / max(1, left)) for i, name in enumerate(p)
    }
