"""What the runs of an arm found, in words and numbers."""

from __future__ import annotations

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

_ROUNDING = 1e-6
"""Relative: metrics are averages in single precision."""


@dataclass(frozen=True)
class Card:
    """A number that stands out."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Estimate:
    """A mean over runs and the 95 % interval of that mean; of one run its value."""

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
        """The first round, the best ticket, the sparsest that is as good as the first, and the last if that is not."""
        if self.metric is None or not self.rounds:
            return []
        name = self.metric.name
        cards = []
        dense, best, sparsest = self._values(0), self.best, self.sparsest
        if dense is not None:
            cards.append(Card(self._first, self._text(dense.mean), self._with(dense)))
        if best is not None and (value := self._values(best)) is not None:
            note = f"{name} of round {best}, {self._density(best)} of the weights"
            cards.append(Card("best ticket", self._text(value.mean), note))
        if sparsest is not None and (value := self._values(sparsest)) is not None:
            note = f"of the weights still, round {sparsest}: {name} {self._text(value.mean)}"
            label = f"as good as {self._first}"
            cards.append(Card(label, self._density(sparsest), note))
        last = self.rounds[-1]
        if last not in (0, sparsest) and (value := self._values(last)) is not None:
            note = f"of the weights, round {last}: {name} {self._text(value.mean)}"
            cards.append(Card("last round", self._density(last), note))
        return cards

    def sentences(self) -> list[str]:
        """What can be said truly of the best and the sparsest ticket, and how sure it is."""
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
            found += [self._of_the_best(), self._of_the_sparsest(dense)]
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

    @cached_property
    def sparsest(self) -> int | None:
        """The last round whose mean is as good as that of the first, or better."""
        dense = self._values(0) if self.rounds else None
        if dense is None or self.metric is None or self.metric.chosen_by is None:
            return None
        good = [
            number
            for number in self.rounds[1:]
            if (value := self._values(number)) is not None
            and self.metric.sign * (value.mean - dense.mean) >= -_ROUNDING * abs(dense.mean)
        ]
        return max(good, default=None)

    def _of_the_best(self) -> str:
        assert self.metric is not None
        if self.best is None:
            return f"No pruned round has a finite {self.metric.chosen_by}."
        value = self._values(self.best)
        if value is None:
            return f"Round {self.best} has no finite {self.metric.name}."
        change = f"{self._change(self.best)} against {self._first}"
        return (
            f"Best ticket by {self.metric.chosen_by}: round {self.best}, with {self._density(self.best)} of the"
            f" weights: {self._full(value)}; {change}{self._verdict(self.best)}."
        )

    def _of_the_sparsest(self, dense: Estimate) -> str:
        as_good = f"as good as {self._first} ({self._text(dense.mean)}) or better"
        if self.sparsest is None:
            return f"No pruned round is {as_good}."
        value = self._values(self.sparsest)
        assert value is not None
        return (
            f"Sparsest round that is {as_good}: round {self.sparsest}, with {self._density(self.sparsest)} of the"
            f" weights: {self._full(value)}."
        )

    def _how_sure(self) -> str:
        runs = len(self.summaries)
        if runs == 1:
            return "One run cannot tell a gain from noise: report several, with other seeds, together."
        return (
            f"Numbers are means over {runs} runs with 95 % intervals by Student's t. A round picked from many because"
            " it looks best tends to look better than it is."
        )

    def _verdict(self, number: int) -> str:
        change = self._difference(number)
        if change is None or change.runs < 2 or self.metric is None:
            return ""
        low, high = sorted((self.metric.sign * change.low, self.metric.sign * change.high))
        if low > 0:
            return ", better than chance alone would explain had the round been picked beforehand"
        return ", worse" if high < 0 else f", which {change.runs} runs cannot tell from zero"

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
        if value.runs < 2:
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
        return f"{mean}{unit}" + (f" ({low} to {high})" if change.runs > 1 else "")

    def _full(self, value: Estimate) -> str:
        assert self.metric is not None
        text = f"{self.metric.name} {self._text(value.mean)}"
        return text + (f" ({self._interval(value)})" if value.runs > 1 else "")

    def _with(self, value: Estimate) -> str:
        assert self.metric is not None
        if value.runs < 2:
            return f"{self.metric.name} of round 0"
        return f"{self.metric.name}, mean of {value.runs} runs, {self._interval(value)}"


def _estimate(values: Sequence[Any]) -> Estimate | None:

    if not values:
        return None
    return Estimate(*mean_interval(values), runs=len(values))
