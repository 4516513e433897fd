"""The numbers of an `Evidence` as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lottery.studies.evidence.family import Claim
from lottery.studies.evidence.grid import DENSE, TICKET
from lottery.studies.evidence.paired import Array, Paired

if TYPE_CHECKING:
    import pandas

    from lottery.studies.evidence.evidence import Evidence


def overview(evidence: Evidence) -> pandas.DataFrame:
    """One row per round: `Evidence.table`."""
    import pandas

    gains = evidence.gains[DENSE]
    columns = {
        "density": evidence.grid.densities,
        "seeds": gains.seeds,
        "dense": _mean_of_pairs(evidence, DENSE, gains),
        "ticket": _mean_of_pairs(evidence, TICKET, gains),
        **_tested(evidence, gains, evidence.matching),
        "matching": evidence.matching.shown,
        "label": list(evidence.labels().values()),
    }
    for name in evidence.controls:
        claim = evidence.wins[name]
        found = _tested(evidence, evidence.gains[name], claim) | {"wins": claim.shown}
        columns |= {f"{name} {column}": values for column, values in found.items()}
    return pandas.DataFrame(columns, index=pandas.Index(evidence.rounds, name="round"))


def against(evidence: Evidence, control: str) -> pandas.DataFrame:
    """The ticket against one control: `Evidence.comparison`."""
    import pandas

    gains, claim = evidence.gains[control], evidence.wins[control]
    columns = {
        "density": evidence.grid.densities,
        "seeds": gains.seeds,
        "control": _mean_of_pairs(evidence, control, gains),
        "ticket": _mean_of_pairs(evidence, TICKET, gains),
        **_tested(evidence, gains, claim),
        "wins": claim.shown,
        "p_close_holm": evidence.close[control].adjusted,
        "close": evidence.close[control].shown,
    }
    index = pandas.Index(evidence.rounds, name="round")
    return pandas.DataFrame(columns, index=index)[evidence.grid.has(control)]


def _tested(evidence: Evidence, gains: Paired, claim: Claim) -> dict[str, np.ndarray]:
    low, high = gains.interval(evidence.level)
    numbers = {"gain": gains.mean, "low": low, "high": high}
    return {**numbers, "p": claim.p, "p_holm": claim.adjusted}


def _mean_of_pairs(evidence: Evidence, arm: str, gains: Paired) -> Array:
    """The mean of an arm over the seeds that are paired."""
    paired = np.isfinite(gains.differences)
    return Paired(np.where(paired, evidence.grid.of(arm, "value"), np.nan)).mean
