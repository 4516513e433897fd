"""A verdict in one line: the one claim that a study makes at its level."""

from __future__ import annotations

from collections.abc import Sequence

from lottery.foundations.statistics.paired import FEWEST
from lottery.studies.evidence.claims import Claims
from lottery.studies.evidence.metric_text import rounds_text
from lottery.studies.evidence.outcome import Outcome
from lottery.text.wording import listed

_LACKING = {
    "weights": "a control of fresh weights under its masks, such as reinit",
    "masks": "a control of random masks, such as random",
}


def headline(claims: Claims, outcome: Outcome) -> str:
    """The verdict in one line, for a terminal."""
    if outcome.seeds == 0:
        return "Nothing to compare yet: no seed has finished both dense and a pruned round."
    if claims.waiting:
        return f"Nothing is claimed yet: {claims.waiting}."
    if outcome.seeds < FEWEST:
        seeds = "One seed" if outcome.seeds == 1 else f"{outcome.seeds} seeds"
        return f"{seeds} cannot tell a ticket from luck, so nothing is claimed: three are the fewest, five are usual."
    said = _said(claims, outcome)
    ticket = outcome.collapses["ticket"]
    failing = ""
    if ticket.collapsed:
        failing = f" But {ticket.collapsed} of its {ticket.trainings} trainings collapsed."
    return f"{said}{failing}"


def _said(claims: Claims, outcome: Outcome) -> str:
    within = f"within {claims.margin.text(claims.text)} of dense"
    if claims.margin.relative:
        within = f"no more than {claims.margin.text(claims.text)} worse than dense"
    over, beaten = f"over {outcome.seeds} seeds", listed(list(claims.required))
    if outcome.winning:
        where = where_text(claims, outcome.winning)
        return f"A winning ticket in {where}: {within} and better than {beaten}, {over}."
    if not outcome.matching:
        return f"No {'winning' if claims.required else 'matching'} ticket is shown, {over}: {within} in no round."
    where = where_text(claims, outcome.matching)
    if not claims.required:
        return (
            f"A matching ticket in {where}: {within}, {over}. Whether it is a winning one needs {_lacking(claims)} to"
            " tell."
        )
    if outcome.ahead:
        where = where_text(claims, outcome.ahead)
        return (
            f"A matching ticket in {where}: {within} and better than {beaten}, {over}. To call it winning needs"
            f" {_lacking(claims)}."
        )
    if outcome.equalled and not outcome.better:
        alike = where_text(claims, outcome.equalled)
        does = "does" if len(claims.required) == 1 else "do"
        known = "" if len(outcome.equalled) == len(claims.rounds) else " is shown"
        return (
            f"No winning ticket{known}, {over}: {beaten} {does} as well, less than {claims.margin.text(claims.text)}"
            f" worse than the ticket in {alike}, which is {within} in {where}."
        )
    better = where_text(claims, outcome.better) or "no round"
    each = "" if len(claims.required) == 1 else "all of " if len(claims.required) > 2 else "both "
    return f"No winning ticket is shown, {over}: {within} in {where}, better than {each}{beaten} in {better}."


def _lacking(claims: Claims) -> str:
    there = set(claims.required.values())
    return listed([text for kind, text in _LACKING.items() if kind not in there])


def where_text(claims: Claims, rounds: Sequence[int]) -> str:
    """Rounds with their densities; nothing for none."""
    densities = dict(zip(claims.rounds, claims.grid.densities, strict=True))
    return rounds_text(rounds, densities) if rounds else ""
