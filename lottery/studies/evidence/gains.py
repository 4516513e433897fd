"""What a study has measured: the ticket's gains, paired over seeds, and the looks by which they came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lottery.foundations.statistics.paired import Array, Paired
from lottery.studies.controls import RulesOut, ruled_out_by
from lottery.studies.evidence.grid import DENSE, TICKET, Grid
from lottery.studies.evidence.margin import USUAL, Margin
from lottery.studies.evidence.metric_text import MetricText

if TYPE_CHECKING:
    import pandas

ROUNDING = 1e-6
"""Relative: metrics are averages in single precision."""


class Gains:
    """The numbers that an `Evidence` makes claims about.

    Its arguments and errors are those of `Evidence`.
    """

    def __init__(
        self,
        points: pandas.DataFrame,
        margin: float | str | None = None,
        level: float = 0.05,
        lower_is_better: bool = False,
        metric: str = "test_acc",
        required: Mapping[str, RulesOut] | None = None,
        planned: Sequence[str] = (),
        looks: Sequence[Sequence[int]] = (),
        tested: bool = True,
        waiting: str = "",
        notes: Sequence[str] = (),
    ) -> None:
        self.grid = Grid(points, planned)
        self.metric, self.lower_is_better, self.tested = metric, lower_is_better, tested
        self.waiting, self.notes = waiting, list(notes)
        self.text = MetricText.of(metric, self.grid.points["value"])
        if margin is None:
            if lower_is_better or not self.text.in_percent:
                raise ValueError(
                    f"no margin is known for {metric}: say how much worse than dense is still as good, with"
                    f" margin=... in units of {metric} (accuracies have {USUAL}), or as a share of dense's error, 10%"
                )
            margin = USUAL
        self.margin = Margin.read(margin)
        if not 0 < level < 0.5:
            raise ValueError(f"level={level!r} must be between 0 and 0.5; 0.05 is usual")
        self.level = level
        known = ruled_out_by(self.controls) if required is None else required
        self.required = {name: known[name] for name in self.controls if name in known}
        self.looks = [list(map(int, seeds)) for seeds in looks] or [self.grid.seeds]
        if lost := set(self.grid.seeds).difference(*self.looks):
            raise ValueError(f"looks={self.looks} lack the seeds {sorted(lost)}, of which there are points")

    @property
    def rounds(self) -> list[int]:
        """The pruned rounds of which anything was trained."""
        return self.grid.rounds

    @property
    def controls(self) -> list[str]:
        """The arms besides dense and ticket."""
        return self.grid.controls

    @property
    def missing(self) -> list[str]:
        """The trainings that are absent, such as "reinit round 7: seeds 2, 3"."""
        return [str(missing) for missing in self.grid.missing]

    @property
    def look(self) -> int:
        """Which look at the study this is: 1 for the first."""
        return len(self.looks)

    @cached_property
    def stages(self) -> list[np.ndarray]:
        """The places of the seeds that each look added."""
        places = [np.flatnonzero(np.isin(self.grid.seeds, seeds)) for seeds in self.looks]
        return [stage for stage in places if stage.size] or [np.arange(0)]

    # differences, by round

    def outcomes(self, arm: str) -> Array:
        """The values of an arm, rounds x seeds, more is better; -inf where a training failed, NaN without any."""
        return self.grid.outcomes(arm, -1 if self.lower_is_better else 1)

    @cached_property
    def gains(self) -> dict[str, Paired]:
        """The ticket's gains over dense and over each control: rounds x seeds; see `Paired` for failed trainings."""
        ticket = self.outcomes(TICKET)
        found = {}
        for arm in (DENSE, *self.controls):
            other = self.outcomes(arm)
            with np.errstate(invalid="ignore"):
                both_failed = np.isneginf(ticket) & np.isneginf(other)
                gain = np.where(both_failed, 0.0, ticket - other)  # equally bad
            size = np.abs(np.where(np.isfinite(gain), ticket, 0.0))
            found[arm] = Paired(gain, ROUNDING * size.max(1, initial=0.0))
        return found

    def interval(self, other: str, *, at_once: bool) -> tuple[Array, Array]:
        """The ends of the intervals of the ticket's gain over dense or a control, two-sided.

        Args:
            other: dense or a control.
            at_once: whether they hold for all rounds at once, also for one that was picked by its result; otherwise
                each holds for itself.
        """
        gains = self.gains[other]
        among = int((gains.seeds > 1).sum()) if at_once else 1
        return gains.interval(self.level / max(1, among))

    @cached_property
    def unit(self) -> Array:
        """What the margin's amount is a number of, by seed."""
        rows = self.grid.of(DENSE, "value")
        dense = rows[0] if len(rows) else np.full(len(self.grid.seeds), np.nan)
        return self.margin.unit(dense, self.text.in_percent, self.lower_is_better)

    @cached_property
    def margin_size(self) -> float:
        """The margin in units of the metric: the mean over seeds, of a share of dense's error."""
        known = self.unit[np.isfinite(self.unit) & (self.unit > 0)]
        return self.margin.amount * float(known.mean()) if known.size else self.margin.amount

    def pairs(self, shown: np.ndarray, others: Sequence[str]) -> int:
        """The smallest number of pairs behind a claim about some rounds and arms; 0 without any."""
        return min((int(n) for n in self._pairs(shown, others)), default=0)

    def _pairs(self, shown: np.ndarray, others: Sequence[str]) -> Iterator[int]:
        for name in others:
            yield from self.gains[name].seeds[shown]
