"""What evidence takes of one training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lottery.runs.metric import Metric
from lottery.runs.run import Run
from lottery.runs.schema import RoundSummary, Row
from lottery.studies.plan import Cell


def point(run: Run, number: int, metric: Metric) -> dict[str, Any]:
    """The numbers of one training, as `Study.points` has them.

    Args:
        run: the run that it is in.
        number: its round there.
        metric: what arms are compared by.
    """
    summary, settings = run.summary(number), run.info.settings
    value, step = summary.value(metric), summary.best.get("step")
    epochs, steps = settings.max_epochs, settings.max_steps
    failed = value is None or _diverged(summary, metric)
    return {
        "density": summary.density,
        "value": math.nan if failed else value,
        "step": math.nan if step is None else step,
        "progress": () if failed else tuple(_progress(run.records(number), metric)),
        "steps": summary.steps,
        "budget": steps if steps and steps > 0 else (-1 if epochs is None else epochs),
        "seconds": summary.seconds,
    }


DIVERGED = "NaN or infinite"
"""What the error says of a training that ended by divergence, whose round is not stored."""


def diverged(
    failed: Mapping[Cell, str], rounds: Sequence[int], there: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The trainings that ended by divergence, as `point` has others: results without a value.

    A ticket's run ends with the round that diverged: neither that nor the rounds after it have a ticket that trains.

    Args:
        failed: the cells that were given up, with their errors.
        rounds: all that are compared.
        there: the other trainings, which know the densities.
    """
    densities = {row["round"]: row["density"] for row in there}
    have = {(row["arm"], row["seed"], row["round"]) for row in there}
    places = [
        (cell.arm if number else "dense", cell.seed, number)
        for cell, error in failed.items()
        if DIVERGED in error
        for number in ((0, *rounds) if cell.round is None else (cell.round,))
    ]
    lost = {"value": math.nan, "step": math.nan, "progress": (), "steps": math.nan, "budget": math.nan}
    return [
        {"arm": arm, "seed": seed, "round": number, "density": densities[number], **lost, "seconds": math.nan}
        for arm, seed, number in places
        if number in densities and (arm, seed, number) not in have and (number or arm == "dense")
    ]


def _diverged(summary: RoundSummary, metric: Metric) -> bool:
    """Whether the monitored metric was not finite at the end."""
    name = metric.chosen_by or ""
    return name in summary.last and summary.last[name] is None


def _progress(records: Sequence[Row], metric: Metric) -> Iterator[tuple[float, float]]:
    """The steps at which validation was better than ever before; more is better."""
    best = -math.inf
    for row in records:
        value = row.get(metric.chosen_by or "")
        if value is not None and metric.sign * value > best:
            best = metric.sign * value
            yield float(row["step"]), best
