"""The number of a round that says most, and the round that looks best."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Metric:
    """One number in the summaries of a run.

    Args:
        part: where in a summary: "test_best", "best", "last" or "test_last".
        name: its name there.
        chosen_by: the monitored metric, None where nothing is monitored: then no value is better than another.
        lower_is_better: whether a smaller value of the two is the better one.
    """

    part: str
    name: str
    chosen_by: str | None = None
    lower_is_better: bool = False

    @property
    def column(self) -> str:
        """Its column in `Run.table`, where a test metric of the monitored one's name is marked."""
        tested = self.part.startswith("test_") and self.name == self.chosen_by
        return f"{self.part.removeprefix('test_')}_{self.name}{' (test)' if tested else ''}"

    @property
    def sign(self) -> int:
        return -1 if self.lower_is_better else 1

    def of(self, summary: Summary) -> float | None:
        """The value in a round; None where it was not logged, or was not finite."""
        return summary[self.part].get(self.name)


def metric_of(summaries: Sequence[Summary]) -> Metric | None:
    """The metric that says most, `Run.metric`: the test counterpart of the monitored one at the best step, the
    monitored one itself, or the first that was logged; None without any.

    Example:
        >>> round = {"monitor": "val_acc", "mode": "max", "best": {"val_acc": 0.9}, "test_best": {"test_acc": 0.8}}
        >>> metric_of([round])
        Metric(part='test_best', name='test_acc', chosen_by='val_acc', lower_is_better=False)
    """
    if not summaries:
        return None
    first = summaries[0]
    monitor = first["monitor"]
    if monitor is not None:
        counterpart = name_in_tests(monitor)
        lower = first["mode"] == "min"
        if counterpart in first["test_best"]:
            return Metric("test_best", counterpart, monitor, lower)
        return Metric("best", monitor, monitor, lower)
    for part in ("last", "test_last"):
        for name in first[part]:
            return Metric(part, name)
    return None


def name_in_tests(monitor: str) -> str:
    """What a monitored metric is called in a test.

    Example:
        >>> name_in_tests("val_acc"), name_in_tests("acc/validation"), name_in_tests("eval_acc")
        ('test_acc', 'acc/test', 'eval_acc')
    """
    return re.sub(r"(?<![a-z])val(id(ation)?)?(?![a-z])", "test", monitor)


def best_ticket(summaries: Sequence[Summary], metric: Metric | None) -> Summary | None:
    """The round after the first whose monitored metric is best; of equal ones the densest. None without any."""
    if metric is None or metric.chosen_by is None:
        return None

    def value(summary: Summary) -> float:
        found = summary["best"].get(metric.chosen_by)
        return -math.inf if found is None else metric.sign * found

    pruned = [s for s in summaries[1:] if value(s) > -math.inf]
    return max(pruned, key=value, default=None)
