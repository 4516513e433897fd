"""The numbers of an `Evidence` as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lottery.foundations.statistics.paired import Array, Paired
from lottery.studies.evidence.claims import Claim, Claims
from lottery.studies.evidence.grid import DENSE, TICKET

if TYPE_CHECKING:
    import pandas


def overview(claims: Claims) -> pandas.DataFrame:
    """One row per round: `Evidence.table`."""
    import pandas

    gains = claims.gains[DENSE]
    columns = {
        "density": claims.grid.densities,
        "seeds": gains.seeds,
        "dense": _mean_of_pairs(claims, DENSE, gains),
        "ticket": _mean_of_pairs(claims, TICKET, gains),
        **_tested(claims, DENSE, claims.matching),
        "matching": claims.matching.shown,
        "better": claims.better.shown,
        "p_wins": claims.ahead.adjusted,
        "label": list(claims.labels().values()),
    }
    for name in claims.controls:
        claim = claims.wins[name]
        found = _tested(claims, name, claim) | {"wins": claim.shown}
        columns |= {f"{name} {column}": values for column, values in found.items()}
    return pandas.DataFrame(columns, index=pandas.Index(claims.rounds, name="round"))


def against(claims: Claims, control: str) -> pandas.DataFrame:
    """The ticket against one control: `Evidence.comparison`."""
    import pandas

    gains, claim = claims.gains[control], claims.wins[control]
    columns = {
        "density": claims.grid.densities,
        "seeds": gains.seeds,
        "control": _mean_of_pairs(claims, control, gains),
        "ticket": _mean_of_pairs(claims, TICKET, gains),
        **_tested(claims, control, claim),
        "wins": claim.shown,
        "p_close": claims.close[control].adjusted,
        "close": claims.close[control].shown,
    }
    index = pandas.Index(claims.rounds, name="round")
    return pandas.DataFrame(columns, index=index)[claims.grid.has(control)]


def _tested(claims: Claims, other: str, claim: Claim) -> dict[str, np.ndarray]:
    low, high = claims.interval(other, at_once=False)
    numbers = {"gain": claims.gains[other].mean, "low": low, "high": high}
    return {**numbers, "p": claim.p, "p_adjusted": claim.adjusted}


def _mean_of_pairs(claims: Claims, arm: str, gains: Paired) -> Array:
    """The mean of an arm over the seeds that are paired and did not fail."""
    values = claims.grid.of(arm, "value")
    there = ~np.isnan(gains.differences) & np.isfinite(values)
    return Paired(np.where(there, values, np.nan)).mean
