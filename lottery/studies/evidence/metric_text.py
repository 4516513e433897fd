"""How numbers of a study are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lottery.text.numbers import percent, true_minus
from lottery.text.wording import in_percent, listed

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class MetricText:
    """Numbers of one metric as text.

    Args:
        in_percent: whether it is an accuracy between 0 and 1: values in percent, differences in points.

    Example:
        >>> MetricText(True).change(0.0123, 0.002, 0.0226), MetricText(False).change(-0.5)
        ('+1.23 points (+0.20 to +2.26)', '−0.5')
        >>> MetricText(True).size(0.005), MetricText(True).size(0.01)
        ('0.5 points', '1 point')
    """

    in_percent: bool

    @classmethod
    def of(cls, metric: str, values: pandas.Series) -> MetricText:
        """As the name of a metric and its values tell."""
        return cls(in_percent(metric, values))

    def size(self, amount: float) -> str:
        """An amount without a sign, such as a margin."""
        if not self.in_percent:
            return f"{amount:.3g}"
        number = f"{100 * amount:.3g}"
        return f"{number} point{'' if number == '1' else 's'}"

    def change(self, mean: float, low: float = float("nan"), high: float = float("nan")) -> str:
        """A difference, with its interval where there is one."""
        factor, form = (100, "+.2f") if self.in_percent else (1, "+.3g")
        numbers = [true_minus(f"{factor * v:{form}}") for v in (mean, low, high)]
        unit = " points" if self.in_percent else ""
        there = np.isfinite(low)
        return numbers[0] + unit + (f" ({numbers[1]} to {numbers[2]})" if there else "")


def rounds_text(rounds: Sequence[int], densities: Mapping[int, float]) -> str:
    """Rounds as runs of neighbours, with densities.

    Args:
        rounds: some of the rounds of a study, in order.
        densities: those of all its rounds, in order.

    Example:
        >>> rounds_text([2, 4, 5, 6], {2: 0.64, 3: 0.51, 4: 0.41, 5: 0.33, 6: 0.26})
        'round 2 (64 % of the weights) and rounds 4 to 6 (41 % to 26 %)'
    """
    places = list(densities)
    spans: list[list[int]] = []
    for each in rounds:
        if spans and places.index(each) == places.index(spans[-1][-1]) + 1:
            spans[-1].append(each)
        else:
            spans.append([each])
    texts = []
    for number, span in enumerate(spans):
        of = " of the weights" if number == 0 else ""
        first, last = percent(densities[span[0]]), percent(densities[span[-1]])
        if len(span) == 1:
            texts.append(f"round {span[0]} ({first}{of})")
        else:
            texts.append(f"rounds {span[0]} to {span[-1]} ({first} to {last}{of})")
    return listed(texts)
