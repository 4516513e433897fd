"""Which number of a round says most."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Metrics = Mapping[str, int | float | None]
"""Name to value; None for one that was not finite."""

Mode = Literal["min", "max"]
"""Which values of a metric are better."""

Part = Literal["start", "best", "last", "test_best", "test_last"]
"""Where in the summary of a round metrics are."""


@dataclass(frozen=True)
class Metric:
    """One number in the summaries of a run.

    Args:
        part: where in a summary.
        name: its name there.
        chosen_by: the monitored metric, None where nothing is monitored: then no value is better than another.
        lower_is_better: whether a smaller value of the two is the better one.
    """

    part: Part
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


def decide(
    monitor: str | None,
    mode: Mode,
    *,
    last: Metrics,
    test_best: Metrics,
    test_last: Metrics,
) -> Metric | None:
    """The metric that says most, `Run.metric`: the test counterpart of the monitored one at the best step, the
    monitored one itself, or the first that was logged; None without any.

    Example:
        >>> decide("val_acc", "max", last={}, test_best={"test_acc": 0.8}, test_last={})
        Metric(part='test_best', name='test_acc', chosen_by='val_acc', lower_is_better=False)
    """
    if monitor is not None:
        counterpart = name_in_tests(monitor)
        if counterpart in test_best:
            return Metric("test_best", counterpart, monitor, mode == "min")
        return Metric("best", monitor, monitor, mode == "min")
    for name in last:
        return Metric("last", name)
    for name in test_last:
        return Metric("test_last", name)
    return None


def name_in_tests(monitor: str) -> str:
    """What a monitored metric is called in a test.

    Example:
        >>> name_in_tests("val_acc"), name_in_tests("acc/validation"), name_in_tests("eval_acc")
        ('test_acc', 'acc/test', 'eval_acc')
    """
    return re.sub(r"(?<![a-z])val(id(ation)?)?(?![a-z])", "test", monitor)
