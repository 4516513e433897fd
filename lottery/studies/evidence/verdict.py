"""What a study shows, settled: the rounds of each claim, and the words for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lottery.studies.evidence import sentences
from lottery.studies.evidence.family import Claim
from lottery.studies.evidence.grid import DENSE
from lottery.studies.evidence.paired import Paired, seeds_for

if TYPE_CHECKING:
    from lottery.studies.evidence.evidence import Evidence


@dataclass(frozen=True)
class Verdict:
    """The answer to: is it a winning ticket? `str` gives it in words.

    Args:
        winning: whether any round is shown to be a winning ticket.
        first_winning, last_winning: the first and the last such round; None without any.
        first_matching, last_matching: the first and the last round shown to match dense.
        first_below: the first round shown to be more than the margin worse than dense.
        first_win: of each control, the first round in which the ticket is shown to be better.
        close: of each control, the rounds in which it is shown to be less than the margin worse than the ticket.
        round: the round that the words look at: the last winning one, else the last matching, else that with the largest
            mean gain over dense; None where nothing can be compared.
        seeds: the most pairs of dense and ticket in any round.
        seeds_needed: how many seeds would show some round to be a winning ticket (to be matching, where no control was
            trained that must be beaten) with a power of 80 %, if means and spreads stay as they are; `seeds` where it is
            shown already; None where 50 would not do, or fewer than two seeds leave the spread unknown.
        nearest: the round that `seeds_needed` is for.
        open: the rounds that are neither shown to match dense nor to be below, with the seeds that would settle each; None
            as above.
        headline: one line.
        sentences: the rest, with its numbers.
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
    headline: str
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join((self.headline, *self.sentences))


def verdict_on(evidence: Evidence) -> Verdict:
    """The verdict on the trainings of a study."""
    rounds = evidence.rounds
    winning, matching = _of(rounds, evidence.winning), evidence.matching.shown
    matched, below = _of(rounds, matching), _of(rounds, evidence.below.shown)
    seeds = int(evidence.gains[DENSE].seeds.max(initial=0))
    round = (winning or matched or _largest_gain(evidence))[-1:]
    needed, nearest = _seeds_needed(evidence)
    found = Verdict(
        winning=bool(winning),
        first_winning=_first(winning),
        last_winning=_last(winning),
        first_matching=_first(matched),
        last_matching=_last(matched),
        first_below=_first(below),
        first_win={n: _first(_of(rounds, c.shown)) for n, c in evidence.wins.items()},
        close={n: tuple(_of(rounds, c.shown)) for n, c in evidence.close.items()},
        round=_last(round),
        seeds=seeds,
        seeds_needed=needed,
        nearest=nearest,
        open=_open(evidence),
        headline="",
        sentences=(),
    )
    return replace(
        found,
        headline=sentences.headline(evidence, found),
        sentences=tuple(sentences.body(evidence, found)),
    )


def _of(rounds: list[int], shown: np.ndarray) -> list[int]:
    return [round for round, there in zip(rounds, shown, strict=True) if there]


def _first(rounds: list[int]) -> int | None:
    return rounds[0] if rounds else None


def _last(rounds: list[int]) -> int | None:
    return rounds[-1] if rounds else None


def _largest_gain(evidence: Evidence) -> list[int]:
    means = evidence.gains[DENSE].mean
    return [] if np.isnan(means).all() else [evidence.rounds[int(np.nanargmax(means))]]


def _seeds_needed(evidence: Evidence) -> tuple[int | None, int | None]:
    """How many seeds would show a round to be what it may be, and which round; the first of equal ones."""
    claims = [(evidence.gains[DENSE], -evidence.margin, evidence.matching)]
    for name in evidence.must_beat:
        claims.append((evidence.gains[name], 0.0, evidence.wins[name]))
    best: tuple[int | None, int | None] = None, None
    for place, round in enumerate(evidence.rounds):
        needs = [_needed(*claim, place) for claim in claims]
        known = [need for need in needs if need is not None]
        if len(known) == len(needs) and (best[0] is None or max(known) < best[0]):
            best = max(known), round
    return best


def _open(evidence: Evidence) -> dict[int, int | None]:
    """The rounds that match dense or not, nobody knows, and how many seeds would tell."""
    gains, bound = evidence.gains[DENSE], -evidence.margin
    other_way = Paired(-gains.differences, gains.rounding)
    found = {}
    for place, round in enumerate(evidence.rounds):
        if not (evidence.matching.shown[place] or evidence.below.shown[place]):
            above = _needed(gains, bound, evidence.matching, place)
            below = _needed(other_way, -bound, evidence.below, place)
            found[round] = above or below  # the mean lies on one side
    return found


def _needed(gains: Paired, bound: float, claim: Claim, place: int) -> int | None:
    if claim.shown[place]:
        return int(gains.seeds[place])
    effect, spread = gains.mean[place] - bound, gains.spread[place]
    return seeds_for(float(effect), float(spread), claim.next_level)
