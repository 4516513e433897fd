"""A verdict in words: nothing is said that a test or an interval does not carry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from lottery.studies.evidence.grid import DENSE
from lottery.studies.evidence.paired import MOST_SEEDS
from lottery.studies.evidence.words import rounds_text
from lottery.text.numbers import percent
from lottery.text.wording import listed

if TYPE_CHECKING:
    from lottery.studies.evidence.evidence import Evidence
    from lottery.studies.evidence.verdict import Verdict


def headline(evidence: Evidence, verdict: Verdict) -> str:
    """The verdict in one line, for a terminal."""
    if verdict.seeds == 0:
        return "Nothing to compare yet: no seed has finished both dense and a pruned round."
    if verdict.seeds == 1:
        return "One seed cannot tell a ticket from luck, so nothing is claimed; five seeds are usual."
    within = f"within {evidence.words.size(evidence.margin)} of dense"
    over = f"over {verdict.seeds} seeds"
    matching, beaten = evidence.matching.shown, evidence.must_beat
    if verdict.winning:
        where = _rounds(evidence, evidence.winning)
        return f"A winning ticket in {where}: {within} and better than {listed(beaten)}, {over}."
    if not matching.any():
        worse = int(evidence.below.shown.sum()) or "none"
        return (
            f"No winning ticket is shown: no round is shown to be {within}, {over}; {worse} of {len(matching)} shown to be"
            " worse than that."
        )
    where = _rounds(evidence, matching)
    if not beaten:
        return (
            f"A matching ticket in {where}: {within}, {over}. Whether it is a winning one needs controls to tell, such as"
            " reinit."
        )
    better = [
        f"better than {name} in {_rounds(evidence, evidence.wins[name].shown) or 'no round'}"
        for name in beaten
    ]
    return f"No winning ticket is shown, {over}: {within} in {where}, {listed(better)}, but never all of it in one round."


def body(evidence: Evidence, verdict: Verdict) -> Iterator[str]:
    """The sentences after the headline."""
    if verdict.round is not None:
        place = evidence.rounds.index(verdict.round)
        if verdict.seeds > 1:
            yield from _needed(evidence, verdict)
        yield _measured(evidence, verdict.seeds)
        if verdict.seeds > 1:
            yield _matching(evidence)
            yield from (_control(evidence, name, place) for name in evidence.controls)
        yield _largest(evidence)
        yield _speed(evidence, verdict.round)
        if verdict.seeds > 1:
            yield from _wide(evidence)
            yield from _open(evidence, verdict)
    if evidence.missing:
        yield (
            f"Missing, or without a finite value: {'; '.join(evidence.missing)}. Pairs that exist are used; if what is"
            " missing failed because it trained badly, the rest flatters that arm."
        )


def _measured(evidence: Evidence, seeds: int) -> str:
    pairs = "one seed" if seeds == 1 else f"pairs of equal seeds ({seeds})"
    return (
        f"Measured: {evidence.metric} at each training's step of best validation, in {pairs}. Matching is no more than"
        f" {evidence.words.size(evidence.margin)} worse than dense. Claims are one-sided paired t tests, each kind corrected by Holm"
        f" over its rounds and controls at {percent(evidence.level)}; intervals are {percent(1 - evidence.level)}, two-sided."
    )


def _matching(evidence: Evidence) -> str:
    """The rounds that match, and what is known of where it stops."""
    shown, below = evidence.matching.shown, np.flatnonzero(evidence.below.shown)
    found = f"Matching (Holm over {evidence.matching.size}): {_rounds(evidence, shown) or 'shown in no round'}"
    margin = evidence.words.size(evidence.margin)
    if below.size:
        change = _gain(evidence, DENSE, below[0])
        worse = f"{_round(evidence, below[0])} is the first shown to be more than {margin} worse: {change}"
    else:
        worse = f"no round is shown to be more than {margin} worse"
    if not shown.any():
        return f"{found}; {worse}."
    last = np.flatnonzero(shown)[-1]
    change = f"{_gain(evidence, DENSE, last)} against dense"
    if last == len(shown) - 1:
        return f"{found}. It has not stopped by the last round, {change}."
    end = "" if below.size else ", so where it stops is open"
    return f"{found}. The last is {_round(evidence, last)}, {change}; {worse}{end}."


def _control(evidence: Evidence, name: str, place: int) -> str:
    """In which rounds the ticket beats a control, by how much, and where the control comes close."""
    claim, close = evidence.wins[name], evidence.close[name].shown
    where = _rounds(evidence, claim.shown) or "shown in no round"
    if claim.shown.any() and not claim.shown[place]:
        place = int(np.flatnonzero(claim.shown)[-1])
    found = f"Better than {name} (Holm over {claim.size}): {where}"
    if evidence.gains[name].seeds[place]:
        found += (
            f"; in round {evidence.rounds[place]} by {_gain(evidence, name, place)}"
        )
    if close.any():
        margin = evidence.words.size(evidence.margin)
        found += f"; it comes close, shown to be less than {margin} worse than the ticket, in {_rounds(evidence, close)}"
    return f"{found}."


def _largest(evidence: Evidence) -> str:
    """The largest gain over dense, whose interval must hold for all rounds that it was picked from."""
    gains = evidence.gains[DENSE]
    tested = int((gains.seeds > 0).sum())
    best = int(np.nanargmax(gains.mean))
    low, high = gains.interval(evidence.level / tested)
    change = evidence.words.change(gains.mean[best], low[best], high[best])
    note = ""
    if tested > 1 and np.isfinite(low[best]):
        note = f"; picked from {tested} rounds, so this interval is wide enough to hold for all at once"
    return f"Largest mean gain over dense: {_round(evidence, best)}, {change}{note}."


def _speed(evidence: Evidence, round: int) -> str:
    table = evidence.speed().reset_index()
    table = table[table["round"] == round].set_index("arm")
    parts = []
    for arm, row in table.to_dict("index").items():
        of = f"{row['reached']} of {row['seeds']} seeds"
        if 2 * row["reached"] < max(1, row["seeds"]):  # a mean of the few fast ones
            parts.append(f"{arm} got there in {of}")
            continue
        there = np.isfinite(row["low"])
        interval = f" ({row['low']:.2f} to {row['high']:.2f})" if there else ""
        parts.append(f"{arm} {row['ratio']:.2f}{interval}, {of}")
    return (
        f"Steps to dense's best validation value in round {round}, as a ratio to dense's own, of the seeds that got there:"
        f" {'; '.join(parts)}."
    )


def _wide(evidence: Evidence) -> Iterator[str]:
    low, high = evidence.gains[DENSE].interval(evidence.level)
    half = (high - low) / 2
    wide = half > evidence.margin
    if wide.any():
        widest = evidence.words.size(float(np.nanmax(half)))
        yield (
            f"The interval to dense is wider than the margin to either side in {wide.sum()} of {len(wide)} rounds (by up to"
            f" {widest}): there neither matching nor its absence is easily shown."
        )


def _needed(evidence: Evidence, verdict: Verdict) -> Iterator[str]:
    """How many seeds would show what is not shown in any round."""
    if verdict.winning or (
        not evidence.must_beat and verdict.last_matching is not None
    ):
        return
    what = "a winning ticket" if evidence.must_beat else "matching"
    if verdict.seeds_needed is None or verdict.nearest is None:
        yield f"Not even {MOST_SEEDS} seeds would show any round to be {what}, if means and spreads stay as they are."
        return
    yield (
        f"Too few seeds to show {what}, if there is one: about {verdict.seeds_needed} would show"
        f" {_round(evidence, evidence.rounds.index(verdict.nearest))} to be it (power 80 %), if means and spreads stay as they are,"
        f" which {verdict.seeds} seeds tell only roughly."
    )


def _open(evidence: Evidence, verdict: Verdict) -> Iterator[str]:
    """Which rounds the seeds leave undecided, and how many would decide."""
    if not verdict.open:
        return
    places = np.isin(evidence.rounds, list(verdict.open))
    known = [(need, round) for round, need in verdict.open.items() if need is not None]
    many = len(verdict.open) > 1
    found = f"Undecided: whether {_rounds(evidence, places)} {'match' if many else 'matches'} dense"
    if not known:
        yield f"{found}; {MOST_SEEDS} seeds would not settle {'any of them' if many else 'it'}."
        return
    need, round = min(known)
    if not many:
        yield f"{found}; about {need} seeds would settle it."
        return
    every = (
        f"about {max(known)[0]} all of them"
        if len(known) == len(verdict.open)
        else f"{MOST_SEEDS} not all of them"
    )
    yield f"{found}; about {need} seeds would settle {_round(evidence, evidence.rounds.index(round))}, {every}."


def _rounds(evidence: Evidence, shown: np.ndarray) -> str:
    densities = dict(zip(evidence.rounds, evidence.grid.densities, strict=True))
    chosen = [r for r, there in zip(evidence.rounds, shown, strict=True) if there]
    return rounds_text(chosen, densities) if chosen else ""


def _round(evidence: Evidence, place: int) -> str:
    density = percent(evidence.grid.densities[place])
    return f"round {evidence.rounds[place]} ({density})"


def _gain(evidence: Evidence, other: str, place: int) -> str:
    gains = evidence.gains[other]
    low, high = gains.interval(evidence.level)
    return evidence.words.change(gains.mean[place], low[place], high[place])
