"""What the runs of an arm found, in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lottery.foundations.statistics.intervals import mean_interval
from lottery.runs.metric import Metric
from lottery.runs.round_table import round_table
from lottery.runs.schema import RoundSummary
from lottery.text.numbers import percent, true_minus
from lottery.text.tables import TextTable


@dataclass(frozen=True)
class Card:
    """A number that stands out."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Estimate:
    """A mean over runs and the 95 % interval of that mean; NaN where there is no spread to tell it by."""

    mean: float
    low: float
    high: float
    runs: int


class Findings:
    """What the finished rounds of some runs of one arm say.

    Args:
        runs: the summaries of the rounds of each run. Runs without any are left out.
    """

    def __init__(self, runs: Sequence[Sequence[RoundSummary]]) -> None:
        self.summaries = [list(summaries) for summaries in runs if summaries]
        self.metric = self.summaries[0][0].metric if self.summaries else None

    @cached_property
    def rounds(self) -> list[int]:
        """The rounds that every run has finished."""
        return list(range(min(map(len, self.summaries), default=0)))

    def cards(self) -> list[Card]:
        """The first round, the one that validation prefers, and the last."""
        if self.metric is None or not self.rounds:
            return []
        name = self.metric.name
        cards = []
        dense, best, last = self._values(0), self.best, self.rounds[-1]
        if dense is not None:
            cards.append(Card(self._first, self._text(dense.mean), self._with(dense)))
        if best is not None and (value := self._values(best)) is not None:
            note = f"{name} of round {best}, {self._density(best)} of the weights"
            cards.append(Card("best by validation", self._text(value.mean), note))
        if last not in (0, best) and (value := self._values(last)) is not None:
            note = f"of the weights, round {last}: {name} {self._text(value.mean)}"
            cards.append(Card("last round", self._density(last), note))
        return cards

    def sentences(self) -> list[str]:
        """What was measured. Nothing is claimed: that needs pairs of seeds and controls, which a study has."""
        if not self.rounds:
            return ["No round is finished yet, so there is nothing to compare."]
        if self.metric is None:
            return ["No metric was logged, so no round is better than another."]
        dense = self._values(0)
        if dense is None:
            return [f"Round 0 has no finite {self.metric.name} to compare with."]
        found = [f"{self._first.capitalize()}: {self._full(dense)}."]
        if len(self.rounds) == 1:
            return [*found, "No pruned round is finished yet."]
        if self.metric.chosen_by is None:
            found.append(
                f"No metric was monitored, so no round is called the best; {self.metric.name} is that of the last step."
                " LotteryTicket(monitor=...) sets one."
            )
        else:
            found.append(self._of_the_best())
            if self.metric.part == "best":
                found.append(
                    f"{self.metric.name} both chose the best step and round and measures them, which flatters;"
                    " LotteryTicket(test_each_round=True) measures each round on the test data."
                )
        return [*found, self._how_sure()]

    def table(self) -> TextTable:
        """The rounds of one run, or means and intervals over several."""
        if len(self.summaries) < 2 or self.metric is None:
            return round_table(self.summaries[0] if self.summaries else [])
        rows = []
        for number in range(max(map(len, self.summaries))):
            value = self._values(number)
            cells = ["-", "-", "0"]
            if value is not None:
                cells = [self._text(value.mean), self._interval(value), str(value.runs)]
            there = next(s[number] for s in self.summaries if number < len(s))
            density, kept = percent(there.density), f"{there.kept:,}"
            change = "-" if number == 0 else self._change(number)
            rows.append([str(number), density, kept, *cells, change])
        header = ["round", "density", "weights", f"mean {self.metric.name}"]
        against = f"against {self._first}"
        return TextTable(
            [*header, "95 % interval", "runs", against],
            rows,
            f"intervals by Student's t over the runs; {against}: mean difference within a run, with its 95 % interval",
        )

    @cached_property
    def best(self) -> int | None:
        """The round after the first whose monitored metric is best on average."""
        metric = self.metric
        if metric is None or metric.chosen_by is None:
            return None
        chosen = Metric("best", metric.chosen_by)
        means = {
            number: metric.sign * value.mean
            for number in self.rounds[1:]
            if (value := self._values(number, chosen)) is not None
        }
        return max(means, key=lambda number: means[number], default=None)

    def _of_the_best(self) -> str:
        assert self.metric is not None
        if self.best is None:
            return f"No pruned round has a finite {self.metric.chosen_by}."
        value = self._values(self.best)
        if value is None:
            return f"Round {self.best} has no finite {self.metric.name}."
        change = f"{self._change(self.best)} against {self._first}"
        return (
            f"Best by {self.metric.chosen_by}, and so likelier to look better than it is: round {self.best}, with"
            f" {self._density(self.best)} of the weights: {self._full(value)}; {change}."
        )

    def _how_sure(self) -> str:
        runs = len(self.summaries)
        means = f"Numbers are means over {runs} runs with 95 % intervals by Student's t, each for itself. "
        return (
            f"{means if runs > 1 else ''}Whether a round is as good as {self._first}, or better than chance, this page"
            " does not say: lottery study does, with controls and seeds in pairs."
        )

    # numbers

    def _values(self, number: int, metric: Metric | None = None) -> Estimate | None:
        metric = metric or self.metric
        assert metric is not None
        found = [s[number].value(metric) for s in self.summaries if number < len(s)]
        return _estimate([value for value in found if value is not None])

    def _difference(self, number: int) -> Estimate | None:
        """From the first round to this one, within each run."""
        assert self.metric is not None
        pairs = [(s[0].value(self.metric), s[number].value(self.metric)) for s in self.summaries if number < len(s)]
        return _estimate([b - a for a, b in pairs if a is not None and b is not None])

    @cached_property
    def _first(self) -> str:
        """What round 0 is: dense, unless the runs started from a ticket."""
        return "dense" if self.summaries[0][0].density == 1 else "round 0"

    def _density(self, number: int) -> str:
        return percent(self.summaries[0][number].density)

    # words

    @cached_property
    def _in_percent(self) -> bool:
        import pandas

        from lottery.text.wording import in_percent

        assert self.metric is not None
        found = [s.value(self.metric) for run in self.summaries for s in run]
        values = pandas.Series([v for v in found if v is not None], dtype=float)
        return in_percent(self.metric.name, values)

    def _text(self, value: float) -> str:
        return f"{100 * value:.2f} %" if self._in_percent else f"{value:.4g}"

    def _interval(self, value: Estimate) -> str:
        if math.isnan(value.low):
            return "-"
        if self._in_percent:
            return f"{100 * value.low:.2f} to {100 * value.high:.2f} %"
        return f"{value.low:.4g} to {value.high:.4g}"

    def _change(self, number: int) -> str:
        change = self._difference(number)
        if change is None:
            return "-"
        factor, unit = (100, " points") if self._in_percent else (1, "")
        form = "+.2f" if self._in_percent else "+.3g"
        mean, low, high = (true_minus(f"{factor * v:{form}}") for v in (change.mean, change.low, change.high))
        return f"{mean}{unit}" + (f" ({low} to {high})" if math.isfinite(change.low) else "")

    def _full(self, value: Estimate) -> str:
        assert self.metric is not None
        text = f"{self.metric.name} {self._text(value.mean)}"
        return text + (f" ({self._interval(value)})" if math.isfinite(value.low) else "")

    def _with(self, value: Estimate) -> str:
        assert self.metric is not None
        if value.runs < 2:
            return f"{self.metric.name} of round 0"
        return f"{self.metric.name}, mean of {value.runs} runs" + f", {self._interval(value)}" * math.isfinite(
            value.low
        )


def _estimate(values: Sequence[Any]) -> Estimate | None:
    if not values:
        return None
    return Estimate(*mean_interval(values), runs=len(values))
