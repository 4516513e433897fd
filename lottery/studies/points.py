"""What evidence takes of one training."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lottery.runs.metric import Metric
from lottery.runs.run import Run
from lottery.runs.schema import Row


def point(run: Run, number: int, metric: Metric, level: float | None) -> dict[str, float | int]:
    """The numbers of one training, as `Study.points` has them.

    Args:
        run: the run that it is in.
        number: its round there.
        metric: what arms are compared by.
        level: the dense network's best validation value of the same seed.
    """
    summary, settings = run.summary(number), run.info.settings
    value, step = summary.value(metric), summary.best.get("step")
    epochs, steps = settings.max_epochs, settings.max_steps
    return {
        "density": summary.density,
        "value": math.nan if value is None else value,
        "step": math.nan if step is None else step,
        "reached": _reached(run.records(number), metric, level),
        "steps": summary.steps,
        "budget": steps if steps and steps > 0 else (-1 if epochs is None else epochs),
        "seconds": summary.seconds,
    }


def _reached(records: Sequence[Row], metric: Metric, level: float | None) -> float:
    """The first step at which validation was as good as `level`."""
    if level is None:
        return math.nan
    sign, name = metric.sign, metric.chosen_by or ""
    reached = (row["step"] for row in records if row.get(name) is not None and sign * row[name] >= sign * level)
    return next(reached, math.nan)
