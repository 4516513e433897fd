"""What a study claims of its tickets: differences paired over seeds, tested, round by round."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from lottery.foundations.statistics.family import Claim, family
from lottery.foundations.statistics.paired import Array, Paired
from lottery.studies.evidence.grid import DENSE, TICKET, Grid
from lottery.studies.evidence.metric_text import MetricText
from lottery.studies.evidence.speed import speed

if TYPE_CHECKING:
    import pandas

Label = Literal["wins", "matching", "below", "open"]

MARGIN = 0.01
"""One percentage point of accuracy."""

_ROUNDING = 1e-6
"""Relative: metrics are averages in single precision."""


class Claims:
    """The numbers of an `Evidence`, which says what they mean.

    Its arguments and errors are those of `Evidence`.
    """

    def __init__(
        self,
        points: pandas.DataFrame,
        margin: float | None = None,
        level: float = 0.05,
        lower_is_better: bool = False,
        metric: str = "test_acc",
        must_beat: str | Sequence[str] = ("reinit", "random*"),
        planned: Sequence[str] = (),
    ) -> None:
        self.grid = Grid(points, planned)
        self.metric = metric
        self.lower_is_better = lower_is_better
        self.text = MetricText.of(metric, self.grid.points["value"])
        if margin is None:
            if lower_is_better or not self.text.in_percent:
                raise ValueError(
                    f"no margin is known for {metric}: say how much worse than dense is still as good, with"
                    f" margin=... in units of {metric} (accuracies have {MARGIN})"
                )
            margin = MARGIN
        if not 0 < margin < float("inf"):
            raise ValueError(f"margin={margin!r} must be more than 0")
        if not 0 < level < 0.5:
            raise ValueError(f"level={level!r} must be between 0 and 0.5; 0.05 is usual")
        self.margin, self.level = margin, level
        patterns = (must_beat,) if isinstance(must_beat, str) else must_beat
        self.must_beat = [name for name in self.controls if any(fnmatch(name, pattern) for pattern in patterns)]

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
        """The trainings that are absent or without a finite value, such as "reinit round 7: seeds 2, 3"."""
        return [str(missing) for missing in self.grid.missing]

    # differences and claims, by round

    @cached_property
    def gains(self) -> dict[str, Paired]:
        """The ticket's gains over dense and over each control: rounds x seeds."""
        sign = -1 if self.lower_is_better else 1
        ticket = sign * self.grid.of(TICKET, "value")
        found = {}
        for arm in (DENSE, *self.controls):
            other = sign * self.grid.of(arm, "value")
            size = np.abs(np.where(np.isfinite(ticket - other), ticket, 0.0))
            found[arm] = Paired(ticket - other, _ROUNDING * size.max(1, initial=0.0))
        return found

    @cached_property
    def matching(self) -> Claim:
        """That the ticket is no more than the margin worse than dense."""
        p = self.gains[DENSE].p_above(-self.margin)
        return self._family({TICKET: p})[TICKET]

    @cached_property
    def below(self) -> Claim:
        """That the ticket is more than the margin worse than dense."""
        p = self.gains[DENSE].p_below(-self.margin)
        return self._family({TICKET: p})[TICKET]

    @cached_property
    def wins(self) -> dict[str, Claim]:
        """That the ticket is better than each control: a family of those to be beaten, and one of the others."""
        p = {name: self.gains[name].p_above(0.0) for name in self.controls}
        required = {name: p[name] for name in self.must_beat}
        others = {name: p[name] for name in self.controls if name not in required}
        return {**self._family(required), **self._family(others)}

    @cached_property
    def close(self) -> dict[str, Claim]:
        """That each control is less than the margin worse than the ticket."""
        p = {name: self.gains[name].p_below(self.margin) for name in self.controls}
        return self._family(p)

    def _family(self, p: dict[str, Array]) -> dict[str, Claim]:
        return family(p, {name: self.grid.has(name) for name in p}, self.level)

    @cached_property
    def winning(self) -> np.ndarray:
        """In which rounds the ticket is matching and better than every control that must be beaten."""
        beaten = [self.wins[name].shown for name in self.must_beat]
        every = [self.matching.shown, *beaten]
        return np.logical_and.reduce(every) & bool(beaten)

    def labels(self) -> dict[int, Label]:
        """Each round in a word: "wins", "matching", "below" or "open"."""
        found: dict[int, Label] = {}
        for place, number in enumerate(self.rounds):
            if self.winning[place]:
                found[number] = "wins"
            elif self.matching.shown[place]:
                found[number] = "matching"
            else:
                found[number] = "below" if self.below.shown[place] else "open"
        return found

    def speed(self) -> pandas.DataFrame:
        """Steps to reach dense's best validation value, relative to dense: `lottery.studies.evidence.speed.speed`."""
        return speed(self.grid, self.level)
