"""What a study shows, settled: the rounds of each claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lottery.foundations.statistics.family import Claim
from lottery.foundations.statistics.paired import Paired, seeds_for
from lottery.studies.evidence.claims import Claims
from lottery.studies.evidence.grid import DENSE


@dataclass(frozen=True)
class Outcome:
    """The rounds of each claim, and how many seeds would tell more.

    Args:
        winning: whether any round is shown to be a winning ticket.
        first_winning, last_winning: the first and the last such round; None without any.
        first_matching, last_matching: the first and the last round shown to match dense.
        first_below: the first round shown to be more than the margin worse than dense.
        first_win: of each control, the first round in which the ticket is shown to be better.
        close: of each control, the rounds in which it is shown to be less than the margin worse than the ticket.
        round: the round that the words look at: the last winning one, else the last matching, else that with the
            largest mean gain over dense; None where nothing can be compared.
        seeds: the most pairs of dense and ticket in any round.
        seeds_needed: how many seeds would show some round to be a winning ticket (to be matching, where no control was
            trained that must be beaten) with a power of 80 %, if means and spreads stay as they are; `seeds` where it
            is shown already; None where 50 would not do, or fewer than two seeds leave the spread unknown.
        nearest: the round that `seeds_needed` is for.
        open: the rounds that are neither shown to match dense nor to be below, with the seeds that would settle each;
            None as above.
    """

    winning: bool
    first_winning: int | None
    last_winning: int | None
    first_matching: int | None
    last_matching: int | None
    first_below: int | None
    first_win: Mapping[str, int | None]
    close: Mapping[str, tuple[int, ...]]
    round: int | None
    seeds: int
    seeds_needed: int | None
    nearest: int | None
    open: Mapping[int, int | None]


def outcome_of(claims: Claims) -> Outcome:
    """What the claims of a study come to."""
    rounds = claims.rounds
    winning, matching = _of(rounds, claims.winning), claims.matching.shown
    matched, below = _of(rounds, matching), _of(rounds, claims.below.shown)
    seeds = int(claims.gains[DENSE].seeds.max(initial=0))
    number = (winning or matched or _largest_gain(claims))[-1:]
    needed, nearest = _seeds_needed(claims)
    return Outcome(
        winning=bool(winning),
        first_winning=_first(winning),
        last_winning=_last(winning),
        first_matching=_first(matched),
        last_matching=_last(matched),
        first_below=_first(below),
        first_win={n: _first(_of(rounds, c.shown)) for n, c in claims.wins.items()},
        close={n: tuple(_of(rounds, c.shown)) for n, c in claims.close.items()},
        round=_last(number),
        seeds=seeds,
        seeds_needed=needed,
        nearest=nearest,
        open=_open(claims),
    )


def _of(rounds: list[int], shown: np.ndarray) -> list[int]:
    return [number for number, there in zip(rounds, shown, strict=True) if there]


def _first(rounds: list[int]) -> int | None:
    return rounds[0] if rounds else None


def _last(rounds: list[int]) -> int | None:
    return rounds[-1] if rounds else None


def _largest_gain(claims: Claims) -> list[int]:
    means = claims.gains[DENSE].mean
    return [] if np.isnan(means).all() else [claims.rounds[int(np.nanargmax(means))]]


def _seeds_needed(claims: Claims) -> tuple[int | None, int | None]:
    """How many seeds would show a round to be what it may be, and which round; the first of equal ones."""
    needed = [(claims.gains[DENSE], -claims.margin, claims.matching)]
    for name in claims.must_beat:
        needed.append((claims.gains[name], 0.0, claims.wins[name]))
    best: tuple[int | None, int | None] = None, None
    for place, number in enumerate(claims.rounds):
        needs = [_needed(*claim, place) for claim in needed]
        known = [need for need in needs if need is not None]
        if len(known) == len(needs) and (best[0] is None or max(known) < best[0]):
            best = max(known), number
    return best


def _open(claims: Claims) -> dict[int, int | None]:
    """The rounds that match dense or not, nobody knows, and how many seeds would tell."""
    gains, bound = claims.gains[DENSE], -claims.margin
    other_way = Paired(-gains.differences, gains.rounding)
    found = {}
    for place, number in enumerate(claims.rounds):
        if not (claims.matching.shown[place] or claims.below.shown[place]):
            above = _needed(gains, bound, claims.matching, place)
            below = _needed(other_way, -bound, claims.below, place)
            found[number] = above or below  # the mean lies on one side
    return found


def _needed(gains: Paired, bound: float, claim: Claim, place: int) -> int | None:
    if claim.shown[place]:
        return int(gains.seeds[place])
    effect, spread = gains.mean[place] - bound, gains.spread[place]
    return seeds_for(float(effect), float(spread), claim.next_level)
