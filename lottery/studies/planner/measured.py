"""What a study has measured, as far as a plan needs it: values over epochs, rounds and densities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas

    from lottery.runs.run import Run
    from lottery.runs.schema import RoundSummary

_COLUMNS = ("round", "density", "epoch", "value", "spread")


@dataclass(frozen=True, eq=False)
class Measured:
    """What a plan is made from.

    Args:
        curves: validation of the ticket arm over time, means over seeds: columns round (0 is dense), density, epoch (1
            is the first), value and spread, the standard deviation over seeds (NaN of one seed).
        seconds_per_epoch: what an epoch of one training takes.
        one_shot: density to the best validation value of a ticket pruned to it in one round; empty where no one-shot
            arm was trained.
        metric: what the values are.
        lower_is_better: whether a smaller value is the better one.

    Raises:
        ValueError: a column is missing, or no pruned round was measured.
    """

    curves: pandas.DataFrame
    seconds_per_epoch: float
    one_shot: Mapping[float, float] = field(default_factory=dict)
    metric: str = "val_acc"
    lower_is_better: bool = False

    def __post_init__(self) -> None:
        missing = [name for name in _COLUMNS if name not in self.curves]
        if missing:
            raise ValueError(f"curves lack {missing}; they have {list(self.curves)}")
        if self.curves["round"].nunique() < 2:
            raise ValueError("curves hold no pruned round beside dense; measure at least one round more")

    @classmethod
    def of_runs(cls, runs: Sequence[Run], one_shot: Sequence[Run] = ()) -> Measured:
        """From finished runs.

        Args:
            runs: those of the tickets, which differ by their seeds alone.
            one_shot: one-shot tickets: the last round of each counts, seeds of one density are averaged.

        Raises:
            ValueError: the runs monitor no metric.
        """
        import pandas

        summaries = [run.summary(number) for run in runs for number in run.rounds]
        metric = summaries[0].monitor if summaries else None
        if metric is None:
            raise ValueError(
                "nothing was monitored in these runs, so no epoch is better than another; LotteryTicket(monitor=...)"
            )
        histories = [run.history() for run in runs]
        best = "min" if summaries[0].mode == "min" else "max"
        epochs = [h.dropna(subset=[metric]).groupby(["round", "epoch"], as_index=False) for h in histories]
        rows = pandas.concat([e.agg({"density": "mean", metric: best}) for e in epochs])
        curves = rows.groupby(["round", "epoch"], as_index=False).agg(
            density=("density", "mean"), value=(metric, "mean"), spread=(metric, "std")
        )
        seconds = sum(s.seconds for s in summaries)
        return cls(
            curves,
            seconds / sum(s.epochs for s in summaries),
            _by_density([run.summary(run.rounds[-1]) for run in one_shot], metric),
            metric,
            best == "min",
        )

    @property
    def sign(self) -> int:
        return -1 if self.lower_is_better else 1

    @cached_property
    def epochs(self) -> int:
        """The epochs of a round, of the longest."""
        return int(self.curves["epoch"].max())

    @cached_property
    def rounds(self) -> pandas.DataFrame:
        """Density by round (the index), and `spread`, that at the round's last epoch."""
        last = self.curves.sort_values("epoch").groupby("round")
        return last.agg(density=("density", "mean"), spread=("spread", "last"))

    def rounds_to(self, density: float) -> int:
        """The measured round nearest to a density, counted in factors; 1 or more."""
        away = np.abs(np.log(self.rounds["density"]) - math.log(density))
        return max(1, int(away.idxmin()))

    def value(self, density: float, epochs: int) -> float:
        """The best validation value within so many epochs, between the measured densities on a logarithmic scale.

        NaN where nothing was validated that early. Beyond what was measured it stays what it was there.
        """
        early = self.curves[self.curves["epoch"] <= epochs]
        by_round = (self.sign * early["value"]).groupby(early["round"]).max()
        found = by_round.reindex(self.rounds.index).to_numpy()
        return self.sign * _between(self.rounds["density"].to_numpy(), found, density)

    def value_in_one_round(self, density: float) -> float:
        """That of a one-shot ticket at full length; NaN where none was measured."""
        densities = np.array(list(self.one_shot), dtype=float)
        values = np.array(list(self.one_shot.values()), dtype=float)
        return _between(densities, values, density) if len(values) else math.nan


def _by_density(summaries: Sequence[RoundSummary], metric: str) -> dict[float, float]:
    """The mean best value at each density, rounded so that seeds agree."""
    found: dict[float, list[float]] = {}
    for summary in summaries:
        value = summary.best[metric]
        found.setdefault(round(summary.density, 4), []).append(math.nan if value is None else value)
    return {density: float(np.mean(values)) for density, values in found.items()}


def _between(densities: np.ndarray, values: np.ndarray, density: float) -> float:
    """Linear in the logarithm of density; outside, the value at the edge."""
    order = np.argsort(densities)
    found = np.interp(math.log(density), np.log(densities[order]), values[order])
    return float(found)
