"""A verdict in words: nothing is said that a test or an interval does not carry."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lottery.foundations.statistics.paired import MOST_SEEDS
from lottery.studies.evidence.claims import Claims
from lottery.studies.evidence.grid import DENSE
from lottery.studies.evidence.metric_text import rounds_text
from lottery.studies.evidence.outcome import Outcome
from lottery.text.numbers import percent
from lottery.text.wording import listed


def headline(claims: Claims, outcome: Outcome) -> str:
    """The verdict in one line, for a terminal."""
    if outcome.seeds == 0:
        return "Nothing to compare yet: no seed has finished both dense and a pruned round."
    if outcome.seeds == 1:
        return "One seed cannot tell a ticket from luck, so nothing is claimed; five seeds are usual."
    within = f"within {claims.text.size(claims.margin)} of dense"
    over = f"over {outcome.seeds} seeds"
    matching, beaten = claims.matching.shown, claims.must_beat
    if outcome.winning:
        where = _rounds(claims, claims.winning)
        return f"A winning ticket in {where}: {within} and better than {listed(beaten)}, {over}."
    if not matching.any():
        worse = int(claims.below.shown.sum()) or "none"
        return (
            f"No winning ticket is shown: no round is shown to be {within}, {over}; {worse} of {len(matching)} shown to"
            " be worse than that."
        )
    where = _rounds(claims, matching)
    if not beaten:
        return (
            f"A matching ticket in {where}: {within}, {over}. Whether it is a winning one needs controls to tell, such"
            " as reinit."
        )
    better = [f"better than {name} in {_rounds(claims, claims.wins[name].shown) or 'no round'}" for name in beaten]
    return (
        f"No winning ticket is shown, {over}: {within} in {where}, {listed(better)}, but never all of it in one round."
    )


def body(claims: Claims, outcome: Outcome) -> Iterator[str]:
    """The sentences after the headline."""
    if outcome.round is not None:
        place = claims.rounds.index(outcome.round)
        if outcome.seeds > 1:
            yield from _needed(claims, outcome)
        yield _measured(claims, outcome.seeds)
        if outcome.seeds > 1:
            yield _matching(claims)
            yield from (_control(claims, name, place) for name in claims.controls)
        yield _largest(claims)
        yield _speed(claims, outcome.round)
        if outcome.seeds > 1:
            yield from _wide(claims)
            yield from _open(claims, outcome)
    if claims.missing:
        yield (
            f"Missing, or without a finite value: {'; '.join(claims.missing)}. Pairs that exist are used; if what is"
            " missing failed because it trained badly, the rest flatters that arm."
        )


def _measured(claims: Claims, seeds: int) -> str:
    pairs = "one seed" if seeds == 1 else f"pairs of equal seeds ({seeds})"
    return (
        f"Measured: {claims.metric} at each training's step of best validation, in {pairs}. Matching is no more than"
        f" {claims.text.size(claims.margin)} worse than dense. Claims are one-sided paired t tests, each kind"
        f" corrected by Holm over its rounds and controls at {percent(claims.level)}; intervals are"
        f" {percent(1 - claims.level)}, two-sided."
    )


def _matching(claims: Claims) -> str:
    """The rounds that match, and what is known of where it stops."""
    shown, below = claims.matching.shown, np.flatnonzero(claims.below.shown)
    found = f"Matching (Holm over {claims.matching.size}): {_rounds(claims, shown) or 'shown in no round'}"
    margin = claims.text.size(claims.margin)
    if below.size:
        change = _gain(claims, DENSE, below[0])
        worse = f"{_round(claims, below[0])} is the first shown to be more than {margin} worse: {change}"
    else:
        worse = f"no round is shown to be more than {margin} worse"
    if not shown.any():
        return f"{found}; {worse}."
    last = np.flatnonzero(shown)[-1]
    change = f"{_gain(claims, DENSE, last)} against dense"
    if last == len(shown) - 1:
        return f"{found}. It has not stopped by the last round, {change}."
    end = "" if below.size else ", so where it stops is open"
    return f"{found}. The last is {_round(claims, last)}, {change}; {worse}{end}."


def _control(claims: Claims, name: str, place: int) -> str:
    """In which rounds the ticket beats a control, by how much, and where the control comes close."""
    claim, close = claims.wins[name], claims.close[name].shown
    where = _rounds(claims, claim.shown) or "shown in no round"
    if claim.shown.any() and not claim.shown[place]:
        place = int(np.flatnonzero(claim.shown)[-1])
    found = f"Better than {name} (Holm over {claim.size}): {where}"
    if claims.gains[name].seeds[place]:
        found += f"; in round {claims.rounds[place]} by {_gain(claims, name, place)}"
    if close.any():
        margin = claims.text.size(claims.margin)
        found += f"; it comes close, shown to be less than {margin} worse than the ticket, in {_rounds(claims, close)}"
    return f"{found}."


def _largest(claims: Claims) -> str:
    """The largest gain over dense, whose interval must hold for all rounds that it was picked from."""
    gains = claims.gains[DENSE]
    tested = int((gains.seeds > 0).sum())
    best = int(np.nanargmax(gains.mean))
    low, high = gains.interval(claims.level / tested)
    change = claims.text.change(gains.mean[best], low[best], high[best])
    note = ""
    if tested > 1 and np.isfinite(low[best]):
        note = f"; picked from {tested} rounds, so this interval is wide enough to hold for all at once"
    return f"Largest mean gain over dense: {_round(claims, best)}, {change}{note}."


def _speed(claims: Claims, number: int) -> str:
    table = claims.speed().reset_index()
    table = table[table["round"] == number].set_index("arm")
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
        f"Steps to dense's best validation value in round {number}, as a ratio to dense's own, of the seeds that got"
        f" there: {'; '.join(parts)}."
    )


def _wide(claims: Claims) -> Iterator[str]:
    low, high = claims.gains[DENSE].interval(claims.level)
    half = (high - low) / 2
    wide = half > claims.margin
    if wide.any():
        widest = claims.text.size(float(np.nanmax(half)))
        yield (
            f"The interval to dense is wider than the margin to either side in {wide.sum()} of {len(wide)} rounds (by"
            f" up to {widest}): there neither matching nor its absence is easily shown."
        )


def _needed(claims: Claims, outcome: Outcome) -> Iterator[str]:
    """How many seeds would show what is not shown in any round."""
    if outcome.winning or (not claims.must_beat and outcome.last_matching is not None):
        return
    what = "a winning ticket" if claims.must_beat else "matching"
    if outcome.seeds_needed is None or outcome.nearest is None:
        yield f"Not even {MOST_SEEDS} seeds would show any round to be {what}, if means and spreads stay as they are."
        return
    yield (
        f"Too few seeds to show {what}, if there is one: about {outcome.seeds_needed} would show"
        f" {_round(claims, claims.rounds.index(outcome.nearest))} to be it (power 80 %), if means and spreads stay as"
        f" they are, which {outcome.seeds} seeds tell only roughly."
    )


def _open(claims: Claims, outcome: Outcome) -> Iterator[str]:
    """Which rounds the seeds leave undecided, and how many would decide."""
    if not outcome.open:
        return
    places = np.isin(claims.rounds, list(outcome.open))
    known = [(need, number) for number, need in outcome.open.items() if need is not None]
    many = len(outcome.open) > 1
    found = f"Undecided: whether {_rounds(claims, places)} {'match' if many else 'matches'} dense"
    if not known:
        yield f"{found}; {MOST_SEEDS} seeds would not settle {'any of them' if many else 'it'}."
        return
    need, number = min(known)
    if not many:
        yield f"{found}; about {need} seeds would settle it."
        return
    every = f"about {max(known)[0]} all of them" if len(known) == len(outcome.open) else f"{MOST_SEEDS} not all of them"
    yield f"{found}; about {need} seeds would settle {_round(claims, claims.rounds.index(number))}, {every}."


def _rounds(claims: Claims, shown: np.ndarray) -> str:
    densities = dict(zip(claims.rounds, claims.grid.densities, strict=True))
    chosen = [r for r, there in zip(claims.rounds, shown, strict=True) if there]
    return rounds_text(chosen, densities) if chosen else ""


def _round(claims: Claims, place: int) -> str:
    density = percent(claims.grid.densities[place])
    return f"round {claims.rounds[place]} ({density})"


def _gain(claims: Claims, other: str, place: int) -> str:
    gains = claims.gains[other]
    low, high = gains.interval(claims.level)
    return claims.text.change(gains.mean[place], low[place], high[place])
