"""How much worse than dense is still as good: in units of the metric, or as a share of dense's error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lottery.foundations.statistics.paired import Array
from lottery.text.numbers import percent

if TYPE_CHECKING:
    from lottery.studies.evidence.metric_text import MetricText

USUAL = 0.01
"""One percentage point of accuracy."""


@dataclass(frozen=True)
class Margin:
    """A margin.

    Args:
        amount: in units of the metric, or a share of dense's error.
        relative: whether it is a share of dense's error: of 1 - accuracy, or of a metric of which less is better.

    Example:
        >>> Margin.read("10%"), Margin.read(0.005)
        (Margin(amount=0.1, relative=True), Margin(amount=0.005, relative=False))
    """

    amount: float
    relative: bool = False

    @classmethod
    def read(cls, given: float | str) -> Margin:
        """A margin from a number, or from text such as "0.01" or "10%".

        Raises:
            ValueError: it is no number, or not above 0.
        """
        text = str(given).strip()
        relative = text.endswith("%")
        try:
            amount = float(text.removesuffix("%")) / (100 if relative else 1)
        except ValueError:
            amount = math.nan
        if not 0 < amount < math.inf:
            raise ValueError(
                f"margin={given!r} must be a number above 0, in units of the metric, or a share of dense's error such"
                " as 10%: no number of seeds shows a difference to be nothing"
            )
        return cls(amount, relative)

    def unit(self, dense: Array, in_percent: bool, lower_is_better: bool) -> Array:
        """What the amount is a number of, seed by seed; 0 where dense failed.

        Args:
            dense: the values of dense by seed; NaN without any.
            in_percent: whether they are accuracies between 0 and 1.
            lower_is_better: whether the metric is an error itself.

        Raises:
            ValueError: a share of the error is asked for of a metric that has none.
        """
        if not self.relative:
            return np.ones_like(dense)
        if not (in_percent or lower_is_better):
            raise ValueError(
                f"margin={percent(self.amount)!r}: the metric is neither an accuracy between 0 and 1 nor one of which"
                " less is better, so it has no error to take a share of; give a number in its own units"
            )
        errors = dense if lower_is_better else 1 - dense
        return np.where(np.isfinite(errors), errors, 0.0)

    def text(self, how: MetricText, amount: float | None = None) -> str:
        """The margin in words, or another amount of the same kind."""
        amount = self.amount if amount is None else amount
        return f"{percent(amount)} of dense's error" if self.relative else how.size(amount)
