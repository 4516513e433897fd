"""A verdict in words: nothing is said that a test or an interval does not carry."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lottery.foundations.statistics.looks import share
from lottery.foundations.statistics.paired import FEWEST
from lottery.studies.evidence.claims import Claims
from lottery.studies.evidence.collapse import MARGINS, SPREADS, Collapse
from lottery.studies.evidence.forecast import Chance
from lottery.studies.evidence.grid import DENSE
from lottery.studies.evidence.headline import where_text
from lottery.studies.evidence.outcome import Outcome
from lottery.text.numbers import percent
from lottery.text.wording import listed


def body(claims: Claims, outcome: Outcome) -> Iterator[str]:
    """The sentences after the headline."""
    if outcome.round is not None:
        place = claims.rounds.index(outcome.round)
        tested = outcome.seeds >= FEWEST and not claims.waiting
        if tested:
            yield from _expected(claims, outcome)
        yield _measured(claims)
        if tested:
            yield _how_sure(claims)
        if tested:
            yield _matching(claims, outcome)
            yield from (_control(claims, outcome, name, place) for name in claims.controls)
        yield _largest(claims)
        yield from _speed(claims, outcome.round)
        yield _collapsed(claims, outcome)
        if tested:
            yield from _wide(claims)
    yield from claims.notes
    if claims.missing:
        yield f"Not trained: {'; '.join(claims.missing)}. The pairs that are there are compared."


def _measured(claims: Claims) -> str:
    step = "at each training's step of best validation"
    if claims.tested:
        return f"Measured: {claims.metric} {step}, in pairs of equal seeds. Every claim is about these test images."
    return (
        f"Measured: {claims.metric} {step}, in pairs of equal seeds. There is no test metric: validation data chose the"
        " step and measured it, which flatters all arms, and every claim is about these images."
    )


def _how_sure(claims: Claims) -> str:
    whole = len(claims.looks) == 1
    spends = percent(share(claims.look))
    look = f"This is look {claims.look} at the study, which spends {spends} of the level of {percent(claims.level)}"
    rest = "; later looks, at more seeds, have the rest" if whole else ", and joins the seeds that each look added"
    winning = f"That a round wins is one claim, by Holm over {claims.ahead.size} rounds; that it matches"
    first = winning if claims.required else "That a round matches"
    return (
        f"{look}{rest}. {first} is a claim of its own, tested in order from dense downwards. Each other kind of claim"
        " is a family by Holm at half of the level. Tests are one-sided paired t tests; intervals are two-sided,"
        f" {percent(1 - claims.level)}, and hold for all rounds at once."
    )


def _matching(claims: Claims, outcome: Outcome) -> str:
    """The rounds that match, how much worse they may be, and what is known of where it stops."""
    margin = claims.margin.text(claims.text)
    if not outcome.matching:
        found = "Matching, as a claim of its own: shown in no round"
    else:
        last = claims.rounds.index(outcome.matching[-1])
        found = (
            f"Matching, as a claim of its own: {where_text(claims, outcome.matching)}. At {_round(claims, last)} it is"
            f" {_bound(claims, last)}"
        )
        if claims.worse.shown[last]:
            found += "; it is worse than dense, within the margin"
    following = next((place for place, there in enumerate(claims.matching.shown) if not there), None)
    if following is None:
        return f"{found}. It has not stopped by the last round."
    gain = _gain(claims, DENSE, following)
    found = f"{found}. {_round(claims, following).capitalize()} is not shown to match, {gain}"
    if not outcome.below:
        return f"{found}. No round is shown to be more than {margin} worse, so where it stops is open."
    first = claims.rounds.index(outcome.below[0])
    if first == following:
        return f"{found}; it is shown to be more than {margin} worse."
    gain = _gain(claims, DENSE, first)
    return f"{found}; {_round(claims, first)} is the first shown to be more than {margin} worse, {gain}."


def _bound(claims: Claims, place: int) -> str:
    """By how much the ticket is at most worse than dense, beside the mean."""
    gain = _gain(claims, DENSE, place)
    worst = claims.largest_loss(place)
    if worst is None:
        return gain
    if worst < 0:
        return f"at least {claims.margin.text(claims.text, -worst)} better than dense, {gain}"
    return f"at most {claims.margin.text(claims.text, worst)} worse than dense, {gain}"


def _control(claims: Claims, outcome: Outcome, name: str, place: int) -> str:
    """In which rounds the ticket beats a control, by how much, and where the control does as well."""
    wins, close = outcome.wins[name], outcome.close[name]
    where = where_text(claims, wins) or "shown in no round"
    if wins and claims.rounds[place] not in wins:
        place = claims.rounds.index(wins[-1])
    kind = "" if name in claims.required else ", which informs"
    found = f"Better than {name}{kind}: {where}"
    if claims.gains[name].seeds[place]:
        found += f"; in round {claims.rounds[place]}, {_gain(claims, name, place)}"
    if close:
        found += (
            f"; {name} does as well, less than {claims.margin.text(claims.text)} worse, in {where_text(claims, close)}"
        )
    return f"{found}."


def _largest(claims: Claims) -> str:
    """The largest gain over dense, whose interval must hold for all rounds that it was picked from."""
    means = claims.gains[DENSE].mean
    best = int(np.where(np.isnan(means), -np.inf, means).argmax())
    among = int((claims.gains[DENSE].seeds > 0).sum())
    picked = f", picked from {among} rounds, so the mean flatters" if among > 1 else ""
    return f"Largest mean gain over dense: {_round(claims, best)}, {_gain(claims, DENSE, best)}{picked}."


def _speed(claims: Claims, number: int) -> Iterator[str]:
    table = claims.speed(claims.level / len(claims.rounds)).reset_index()
    rows = table[table["round"] == number].to_dict("records")
    if not rows:
        return
    parts = []
    for row in rows:
        there = np.isfinite(row["low"])
        interval = f" ({row['low']:.2f} to {row['high']:.2f})" if there else ""
        parts.append(f"{row['ratio']:.2f} of {row['other']}'s{interval}")
    yield f"Steps to a margin below what both reach, in round {number}: {listed(parts)}."


def _collapsed(claims: Claims, outcome: Outcome) -> str:
    """How many trainings collapsed, and how many seeds might without having been seen."""
    hit = [_hit(name, found, claims.level) for name, found in outcome.collapses.items() if found.collapsed]
    none = [name for name, found in outcome.collapses.items() if not found.collapsed]
    seeds = max(found.seeds for found in outcome.collapses.values())
    rule = f"failed, or more than {SPREADS} spreads and {MARGINS} margins below the median of arm and round"
    if not hit:
        high = percent(max(outcome.collapses[name].high for name in none))
        return (
            f"No training collapsed ({rule}); {seeds} seed{'s' * (seeds > 1)} cannot exclude that in up to {high} of"
            " seeds one does."
        )
    return f"Collapsed ({rule}): {'; '.join(hit)}{'; of ' + listed(none) + ' none' if none else ''}."


def _hit(name: str, found: Collapse, level: float) -> str:
    return (
        f"{found.collapsed} of {found.trainings} trainings of {name}, in {found.seeds_hit} of {found.seeds} seeds"
        f" ({percent(1 - level)} interval {percent(found.low)} to {percent(found.high)})"
    )


def _wide(claims: Claims) -> Iterator[str]:
    low, high = claims.interval(DENSE, at_once=False)
    half = (high - low) / 2
    wide = half > claims.margin_size
    if wide.any():
        widest = claims.text.size(float(np.nanmax(half)))
        yield (
            f"The interval to dense, of a round by itself, is wider than the margin to either side in {wide.sum()} of"
            f" {len(wide)} rounds (by up to {widest}): there neither matching nor its absence is easily shown."
        )


def _expected(claims: Claims, outcome: Outcome) -> Iterator[str]:
    """What more seeds would show, where the headline claims no winning ticket."""
    if outcome.ahead or (not claims.required and outcome.matching):
        return
    what = "a winning ticket" if claims.enough else "a ticket that matches and is better than that"
    if not claims.required:
        what = "a matching ticket"
    if not outcome.forecast:
        yield f"What more seeds would show cannot be said: it needs {FEWEST} pairs that differ, and no failed training."
        return
    likely = next((c for c in outcome.forecast if c.added == outcome.seeds_added), None)
    few, many = outcome.forecast[2], outcome.forecast[-1]
    if likely is not None:
        yield f"With {likely.added} more seeds the next look would show {what} with {_chance(likely)}."
    elif many.high < 0.5:
        yield f"Even with {many.added} more seeds the next look would show {what} with {_chance(many)} only."
    else:
        yield (
            f"How many seeds would show {what} cannot be said yet: with {few.added} more it is {_chance(few)}, with"
            f" {many.added} more {_chance(many)}."
        )


def _chance(one: Chance) -> str:
    return (
        f"a chance of {percent(round(one.chance, 2))} ({percent(round(one.low, 2))} to {percent(round(one.high, 2))})"
    )


def _round(claims: Claims, place: int) -> str:
    return f"round {claims.rounds[place]} ({percent(claims.grid.densities[place])})"


def _gain(claims: Claims, other: str, place: int) -> str:
    """The mean gain with its interval, which holds for all rounds at once."""
    gains = claims.gains[other]
    mean, seeds = gains.mean[place], int(gains.seeds[place])
    if not np.isfinite(mean):
        lost = int(np.isinf(gains.differences[place]).sum())
        return f"as in {lost} of {seeds} pairs a training failed"
    if seeds > 1 and gains.spread[place] == 0:
        same = abs(mean) <= np.broadcast_to(gains.rounding, gains.mean.shape)[place]
        return "identical in every seed" if same else f"gain {claims.text.change(mean)} in every seed"
    low, high = claims.interval(other, at_once=True)
    return f"mean gain {claims.text.change(mean, low[place], high[place])}"
