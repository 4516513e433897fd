"""What a study found, as text in tables: for the terminal and for reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lottery.foundations.statistics.intervals import mean_interval
from lottery.text.numbers import percent
from lottery.text.tables import TextTable

if TYPE_CHECKING:
    import pandas

    from lottery.studies.evidence import Evidence

SHOWN = "*"
"""After a gain that a test shows."""


def overview_table(evidence: Evidence) -> TextTable:
    """What is said of each round: the gain over dense, the label, and the gain over each control."""
    names = [f"vs {name}" for name in evidence.controls]
    header = ["round", "density", "ticket", "vs dense", "says", *names]
    rows = [
        [
            f"{number}",
            percent(row["density"]),
            value_text(evidence, row["ticket"]),
            _gain(evidence, row["gain"]),
            row["label"],
            *(
                _gain(evidence, row[f"{name} gain"]) + (SHOWN if row[f"{name} wins"] else "")
                for name in evidence.controls
            ),
        ]
        for number, row in evidence.table().iterrows()
    ]
    unit = ", in points" if evidence.text.in_percent else ""
    caption = (
        f"Means of {evidence.metric}; vs: how much better the ticket is{unit}; {SHOWN} shown to be better than that"
        " control."
    )
    return TextTable(header, rows, caption)


def dense_table(evidence: Evidence) -> TextTable:
    """The ticket against dense, a row per round."""
    size = evidence.margin.text(evidence.text)
    caption = (
        f"Matching: shown to be no more than {size} worse than dense (p, adjusted for the order of rounds). Below:"
        f" shown to be more than that worse. {_of_intervals(evidence)}"
    )
    below = dict(zip(evidence.rounds, evidence.below.shown, strict=True))
    table = evidence.table().rename(columns={"dense": "other"})
    claims = {number: (_shown(row["matching"]), _shown(below[number])) for number, row in table.iterrows()}
    return _against(evidence, table, "dense", ("matching", "below"), claims, caption)


def comparison_table(evidence: Evidence, control: str) -> TextTable:
    """The ticket against one control, a row per round in which it was trained."""
    size = evidence.margin.text(evidence.text)
    caption = (
        "Better: the ticket is shown to be better (p, corrected by Holm). Close: the control is shown to be less than"
        f" {size} worse than the ticket. {_of_intervals(evidence)}"
    )
    table = evidence.comparison(control).rename(columns={"control": "other"})
    claims = {number: (_shown(row["wins"]), _shown(row["close"])) for number, row in table.iterrows()}
    return _against(evidence, table, control, ("better", "close"), claims, caption)


def _against(
    evidence: Evidence,
    table: pandas.DataFrame,
    name: str,
    claimed: tuple[str, str],
    claims: Mapping[Any, tuple[str, str]],
    caption: str,
) -> TextTable:
    header = ["round", "density", "seeds", name, "ticket", "gain", "interval", "p"]
    rows = [
        [
            f"{number}",
            percent(row["density"]),
            f"{row['seeds']}",
            value_text(evidence, row["other"]),
            value_text(evidence, row["ticket"]),
            _gain(evidence, row["gain"]),
            _interval(evidence, row["low"], row["high"]),
            p_text(row["p_adjusted"]),
            *claims[number],
        ]
        for number, row in table.iterrows()
    ]
    return TextTable([*header, *claimed], rows, caption)


def _of_intervals(evidence: Evidence) -> str:
    unit = "in points" if evidence.text.in_percent else f"of {evidence.metric}"
    return f"Gains are {unit}, with {percent(1 - evidence.level)} intervals each for itself."


def speed_table(evidence: Evidence) -> TextTable:
    """The ticket's steps to a common level, relative to dense's and each control's, by round."""
    found = evidence.speed().reset_index()
    others = list(dict.fromkeys(found["other"]))
    cells = {(row["other"], row["round"]): _ratio(row) for row in found.to_dict("records")}
    densities = dict(zip(evidence.rounds, evidence.grid.densities, strict=True))
    rows = [
        [f"{number}", percent(density), *(cells.get((other, number), "-") for other in others)]
        for number, density in densities.items()
    ]
    caption = (
        "The ticket's steps to a margin below what both trainings of a pair reach, relative to the other's: geometric"
        f" means with {percent(1 - evidence.level)} intervals each for itself; below 1 the ticket is faster."
    )
    return TextTable(["round", "density", *(f"vs {other}" for other in others)], rows, caption)


def barrier_table(barriers: pandas.DataFrame) -> TextTable:
    """Error barriers, a row per round; of `Study.barriers`."""

    rows = []
    for number, found in barriers.groupby("round"):
        mean, low, high = (100 * v for v in mean_interval(found["height"]))
        rows.append(
            [
                f"{number}",
                percent(found["density"].mean()),
                f"{mean:.2f} %",
                f"{low:.2f} to {high:.2f} %".replace("-", "−") if math.isfinite(low) else "-",
                f"{found['stable'].sum()} of {len(found)}",
            ]
        )
    header = ["round", "density", "barrier", "interval", "stable"]
    return TextTable(header, rows, "Stable: seeds with a barrier below 2 %.")


def value_text(evidence: Evidence, value: float) -> str:
    """A value of the metric; a dash where there is none."""
    if not math.isfinite(value):
        return "-"
    return f"{100 * value:.2f} %" if evidence.text.in_percent else f"{value:.4g}"


def p_text(p: float) -> str:
    """A p value as papers write it.

    Example:
        >>> p_text(0.0123), p_text(0.0001), p_text(float("nan"))
        ('0.012', '<0.001', '-')
    """
    if not math.isfinite(p):
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _gain(evidence: Evidence, gain: float) -> str:
    if not math.isfinite(gain):
        return ""
    return evidence.text.change(gain).removesuffix(" points")


def _interval(evidence: Evidence, low: float, high: float) -> str:
    if not math.isfinite(low):
        return "-"
    return f"{_gain(evidence, low)} to {_gain(evidence, high)}"


def _shown(shown: Any) -> str:
    return "shown" if shown else "-"


def _ratio(row: Mapping[Any, Any]) -> str:
    if not math.isfinite(row["ratio"]):
        return "-"
    there = math.isfinite(row["low"])
    return f"{row['ratio']:.2f}" + (f" ({row['low']:.2f} to {row['high']:.2f})" if there else "")
