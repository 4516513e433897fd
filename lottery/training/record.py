"""What one round showed: metrics before training, over time, at the best step and at the end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lottery.masks.masks import Masks
from lottery.pruning.dynamic import Move
from lottery.pruning.graph.paths import ConnectivitySummary
from lottery.runs.metric import Metric, Metrics, Mode
from lottery.runs.schema import Retried, RoundSummary


@dataclass
class Record:
    """The evidence of one round, gathered while it trains.

    Args:
        monitor: the metric by which the best step is chosen, None to choose none.
        mode: "min" or "max".
        start: metrics before any training.
        history: one row per epoch and per validation: step, epoch and the metrics logged since the row before.
        best_test: test metrics at the best step so far, where tests are asked for.
        seconds: time spent training.
        since: the first row that counts for the best step: those before it were of denser masks.
    """

    monitor: str | None = None
    mode: Mode = "max"
    start: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best_test: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    since: int = 0

    def add(self, step: int, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Add a row; whether it is now the best one."""
        self.history.append({"step": step, "epoch": epoch, **metrics})
        return self.best() is self.history[-1]

    def start_over(self) -> None:
        """The network has become sparser: what was best before is not comparable."""
        self.since, self.best_test = len(self.history), {}

    def best(self) -> dict[str, float] | None:
        """The first row with the best finite value of the monitored metric, of those that count."""
        if self.monitor is None:
            return None
        sign = 1 if self.mode == "max" else -1
        rows = [row for row in self.history[self.since :] if math.isfinite(row.get(self.monitor, math.nan))]
        return max(rows, key=lambda row: sign * row[self.monitor or ""], default=None)

    def state(self) -> dict[str, Any]:
        """Everything here, as plain containers; `Record(**state)` makes it again."""
        return asdict(self)

    def summary(
        self,
        number: int,
        masks: Masks,
        *,
        steps: int,
        epochs: int,
        test_last: Metrics,
        logged_steps: int,
        connectivity: ConnectivitySummary,
        moves: Iterable[Move] = (),
        metric: Metric | None = None,
        retried: Retried | None = None,
    ) -> RoundSummary:
        """The finished round in numbers; `metric` is that of the first round, None in the first."""
        last: dict[str, float] = {}
        for row in self.history:
            last.update(row)
        found = RoundSummary(
            round=number,
            density=masks.density,
            kept=masks.kept,
            prunable=masks.total,
            densities=masks.densities(),
            steps=steps,
            epochs=epochs,
            monitor=self.monitor,
            mode=self.mode,
            start=_numbers(self.start),
            best=_numbers(self.best() or {}),
            last=_numbers({k: v for k, v in last.items() if k not in ("step", "epoch")}),
            test_best=_numbers(self.best_test),
            test_last=_numbers(test_last),
            seconds=math.floor(self.seconds * 1000) / 1000,
            logged_steps=logged_steps,
            connectivity=connectivity,
            moves=tuple(moves),
            retried=retried,
        )
        return found.with_metric(metric)


def _numbers(row: Metrics) -> Metrics:
    """JSON has no NaN or infinity: they become None."""
    return {name: value if value is not None and math.isfinite(value) else None for name, value in row.items()}
