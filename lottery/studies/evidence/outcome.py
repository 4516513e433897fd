"""What a study shows, settled: the rounds of each claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lottery.studies.evidence.claims import Claims
from lottery.studies.evidence.collapse import Collapse
from lottery.studies.evidence.forecast import LIKELY, Chance, forecast
from lottery.studies.evidence.grid import DENSE


@dataclass(frozen=True)
class Outcome:
    """The rounds of each claim, and what more seeds would show.

    Args:
        winning: the rounds that are shown to be winning tickets.
        ahead: the rounds shown to match and to be better than every control that must be beaten; they are winning if
            these controls are enough.
        matching: the rounds shown to match dense.
        below: the rounds shown to be more than the margin worse than dense.
        better: the rounds in which the ticket is shown to be better than every control that must be beaten.
        equalled: the rounds in which each of these controls is shown to be less than the margin worse than the ticket.
        wins: of each control, the rounds in which the ticket is shown to be better.
        close: of each control, the rounds in which it is shown to be less than the margin worse than the ticket.
        round: the round that the words look at: the last winning one, else the last matching, else that with the
            largest mean gain over dense; None where nothing can be compared.
        seeds: the smallest number of pairs behind the headline; of dense and ticket in any round where it claims
            nothing.
        look: which look at the study this is.
        collapses: of each arm, how many trainings failed or ended far from the others.
        forecast: the chances that the next look shows a winning ticket (a matching one, where no control was trained
            that must be beaten), by how many seeds it adds; empty where that is shown already, or nothing can be said.
    """

    winning: Sequence[int]
    ahead: Sequence[int]
    matching: Sequence[int]
    below: Sequence[int]
    better: Sequence[int]
    equalled: Sequence[int]
    wins: Mapping[str, Sequence[int]]
    close: Mapping[str, Sequence[int]]
    round: int | None
    seeds: int
    look: int
    collapses: Mapping[str, Collapse]
    forecast: Sequence[Chance]

    @property
    def seeds_added(self) -> int | None:
        """How many more seeds make it likely (80 %) that the next look shows a winning ticket; None if unknown."""
        return next((c.added for c in self.forecast if c.chance >= LIKELY and c.known), None)


def outcome_of(claims: Claims) -> Outcome:
    """What the claims of a study come to."""
    ahead = bool(claims.ahead.shown.any())
    shown = claims.ahead.shown if ahead else claims.matching.shown
    behind = [DENSE, *claims.required] if ahead else [DENSE]
    seeds = claims.pairs(shown, behind) or int(claims.gains[DENSE].seeds.max(initial=0))
    done = claims.waiting or ahead or (not claims.required and claims.matching.shown.any())
    looked_at = _of(claims, shown) or _largest_gain(claims)
    return Outcome(
        winning=_of(claims, claims.winning),
        ahead=_of(claims, claims.ahead.shown),
        matching=_of(claims, claims.matching.shown),
        below=_of(claims, claims.below.shown),
        better=_of(claims, claims.better.shown),
        equalled=_of(claims, claims.equalled.shown),
        wins={name: _of(claims, claim.shown) for name, claim in claims.wins.items()},
        close={name: _of(claims, claim.shown) for name, claim in claims.close.items()},
        round=looked_at[-1] if looked_at else None,
        seeds=seeds,
        look=claims.look,
        collapses=claims.collapses,
        forecast=() if done else forecast(claims),
    )


def _of(claims: Claims, shown: np.ndarray) -> list[int]:
    return [number for number, there in zip(claims.rounds, shown, strict=True) if there]


def _largest_gain(claims: Claims) -> list[int]:
    means = claims.gains[DENSE].mean
    there = ~np.isnan(means)
    return [claims.rounds[int(np.where(there, means, -np.inf).argmax())]] if there.any() else []
