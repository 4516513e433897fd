"""Rounds and epochs per round for an epoch budget and a target density, from what a study has measured."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.pruning.amounts import check_fraction
from lottery.studies.planner.candidate import Candidate
from lottery.studies.planner.measured import Measured
from lottery.text.numbers import percent
from lottery.text.wording import duration

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class Plan:
    """Ways to reach a density within a budget, the best first. `plan` makes it; `str` says it in words.

    Args:
        measured: what it was made from.
        budget: epochs in all rounds together, dense included.
        density: the target.
        candidates: every number of rounds and epochs per round that fits, ranked by prediction, of equal ones the
            cheapest first. Those of which nothing measured tells come last, those with the most epochs a round first.
    """

    measured: Measured
    budget: int
    density: float
    candidates: tuple[Candidate, ...]

    @property
    def best(self) -> Candidate:
        return self.candidates[0]

    def table(self) -> pandas.DataFrame:
        """One row per candidate: rounds, epochs, total, amount, predicted, extrapolated."""
        import pandas

        rows = [
            (c.rounds, c.epochs, c.total, c.amount, c.predicted, ", ".join(c.extrapolated)) for c in self.candidates
        ]
        names = ["rounds", "epochs", "total", "amount", "predicted", "extrapolated"]
        return pandas.DataFrame(rows, columns=names)

    def alike(self) -> list[Candidate]:
        """The candidates predicted within the seeds' spread of the best, the cheapest first."""
        best = self.best.predicted
        near = [c for c in self.candidates if abs(c.predicted - best) <= self.spread]
        return sorted(near, key=lambda c: c.total)

    @property
    def spread(self) -> float:
        """The standard deviation over seeds in the measured round nearest to the target."""
        measured = self.measured
        return float(measured.rounds["spread"][measured.rounds_to(self.density)])

    def cost(self, seeds: int = 5, controls: int = 3, compared: int = 6) -> tuple[int, float]:
        """Epochs and seconds of one process to confirm the best by a study.

        Args:
            seeds: of the study.
            controls: how many arms beside the ticket.
            compared: the rounds in which they are trained, or all where these are fewer; six as in `lottery study`.
        """
        best = self.best
        trainings = best.rounds + 1 + controls * min(best.rounds, compared)
        epochs = seeds * best.epochs * trainings
        return epochs, epochs * self.measured.seconds_per_epoch

    def sentences(self, seeds: int = 5, controls: int = 3) -> list[str]:
        """What is proposed, on what grounds, and what it would cost to confirm."""
        return [self._proposal(), *self._unsure(), *self._rounds_or_epochs(), self._confirm(seeds, controls)]

    def _proposal(self) -> str:
        best = self.best
        found = (
            f"{_rounds(best.rounds)} of {best.epochs} epochs after a dense one of as many,"
            f" {percent(best.amount)} of the weights pruned in each, reach {percent(self.density)} with {best.total} of"
            f" {self.budget} epochs"
        )
        if math.isnan(best.predicted):
            return f"{found}: a guess, for nothing measured tells; the most epochs a round were put first."
        whole = self.measured.value(self.density, self.measured.epochs)
        name = self.measured.metric
        return f"{found}: predicted {name} {best.predicted:.4f}, measured at full length {whole:.4f}."

    def _unsure(self) -> list[str]:
        measured, best = self.measured, self.best
        found = []
        if len(alike := self.alike()) > 1:
            cheapest = alike[0]
            found.append(
                f"{len(alike)} candidates lie within the seeds' spread of {self.spread:.4f}; the cheapest takes"
                f" {cheapest.total} epochs ({_rounds(cheapest.rounds)} of {cheapest.epochs})."
            )
        if best.epochs < measured.epochs:
            found.append(
                f"The masks measured come from rounds of {measured.epochs} epochs: what masks of shorter rounds are"
                " worth only a new run can show."
            )
        if best.extrapolated:
            found.append(f"Beyond what was measured: {', '.join(best.extrapolated)}; taken to be as at its edge.")
        if not measured.one_shot:
            rounds = measured.rounds_to(self.density)
            found.append(
                f"What fewer than {rounds} rounds cost is not known, as no one-shot arm was measured: add it with"
                " `lottery study RECIPE --controls one-shot`."
            )
        return found

    def _rounds_or_epochs(self) -> list[str]:
        """Whether fewer rounds or shorter ones cost more at this budget, and what papers say."""
        measured = self.measured
        many, long = measured.rounds_to(self.density), measured.epochs
        by = {(c.rounds, c.epochs): c.predicted for c in self.candidates}
        few, short = self.budget // long - 1, self.budget // (many + 1)
        fewer, shorter = by.get((few, long), math.nan), by.get((many, short), math.nan)
        if few >= many or math.isnan(fewer) or math.isnan(shorter):
            return []
        agrees = measured.sign * (fewer - shorter) >= 0
        said = (
            f"Saving rounds ({few} of {long} epochs: {fewer:.4f}) is predicted to cost"
            f" {'no more' if agrees else 'more'} than saving epochs ({many} of {short}: {shorter:.4f}),"
            f" {'as' if agrees else 'unlike what'} is usually expected. Papers differ: one shot finds larger tickets"
            " than many rounds (Frankle & Carbin 2019, section 2), and rounds can be much shorter if the learning rate"
            " falls with them (Zimmer et al., ICLR 2023)."
        )
        return [said]

    def _confirm(self, seeds: int, controls: int) -> str:
        epochs, seconds = self.cost(seeds, controls)
        return (
            f"To confirm it with {seeds} seeds and {controls} controls: {epochs:,} epochs, about {duration(seconds)} in"
            f" one process: lottery study RECIPE --seeds {seeds} {' '.join(self.best.overrides())} (under"
            " lottery.pruning.amount where the recipe's pruning is a mapping)."
        )

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def __repr__(self) -> str:
        return f"Plan(budget={self.budget}, density={self.density}): {self._proposal()}"

    def _repr_html_(self) -> str:
        return self.table().head(10)._repr_html_()


def plan(measured: Measured, budget: int, density: float) -> Plan:
    """Propose rounds and epochs per round.

    Every n rounds of e epochs with (n + 1) e <= budget is tried, each round pruning 1 - density ** (1 / n) of the
    surviving weights. The prediction is the measured validation value after e epochs at the target density, less what
    fewer rounds cost: nothing for the number of rounds measured, all that separates it from one-shot for one round, and
    between them linear in the logarithm of what a round leaves, log(density) / n. Both costs are taken to add up.

    Args:
        measured: curves of a study's ticket arm, and its one-shot arm if it has one.
        budget: epochs in all rounds together, dense included.
        density: the target, kept / prunable.

    Raises:
        ValueError: the budget holds no pruned round, or a value is out of range.

    Example::

        measured = Measured.of_runs([study.ticket_run(seed) for seed in range(5)])
        found = plan(measured, budget=60, density=0.1)
        print(found)          # the best in words, what is a guess, and what it costs to confirm
        found.table()         # every candidate
        found.best.overrides()  # ['--lottery.rounds', '5', ...]

    Source: iterative and one-shot pruning, Frankle & Carbin, "The Lottery Ticket Hypothesis", ICLR 2019, section 2.
    """
    check_fraction("density", density)
    budget = operator.index(budget)
    if budget < 2:
        raise ValueError(
            f"budget={budget} epochs hold no pruned round: the smallest that works is 2, one epoch dense and one pruned"
        )
    many, long = measured.rounds_to(density), measured.epochs
    lowest = float(measured.rounds["density"].min())
    values = {e: measured.value(density, e) for e in range(1, long + 1)}
    one_shot_there = not measured.one_shot or (min(measured.one_shot) <= density <= max(measured.one_shot))
    cost_of_one_round = values[long] - measured.value_in_one_round(density)

    def candidate(rounds: int, epochs: int) -> Candidate:
        predicted = values[min(epochs, long)]
        if rounds < many:
            predicted -= cost_of_one_round * (1 / rounds - 1 / many) / (1 - 1 / many)
        beyond = {
            f"density below {percent(lowest)}": density < lowest,
            f"more than {long} epochs a round": epochs > long,
            f"more than {many} rounds": rounds > many,
            "one-shot at this density": rounds < many and not one_shot_there,
        }
        extrapolated = tuple(what for what, is_so in beyond.items() if is_so)
        amount = 1 - density ** (1 / rounds)
        return Candidate(rounds, epochs, amount, predicted, extrapolated)

    found = [candidate(rounds, epochs) for epochs in range(1, budget // 2 + 1) for rounds in range(1, budget // epochs)]

    def rank(candidate: Candidate) -> tuple[float, ...]:
        if math.isnan(candidate.predicted):
            return 1, -min(candidate.epochs, long), -candidate.rounds, candidate.total
        return 0, -measured.sign * candidate.predicted, candidate.total

    return Plan(measured, budget, density, tuple(sorted(found, key=rank)))


def _rounds(number: int) -> str:
    return f"{number} round{'' if number == 1 else 's'}"
