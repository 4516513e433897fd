"""How fast a ticket learns: steps until it reaches a level that another arm reaches too, relative to that arm's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lottery.foundations.statistics.paired import Array, Paired
from lottery.studies.evidence.grid import DENSE, TICKET, Grid, Progress

if TYPE_CHECKING:
    import pandas


def speed(grid: Grid, margin: float, level: float = 0.05) -> pandas.DataFrame:
    """The ticket's steps to a common level, as a ratio to dense's and to each control's.

    The level of a pair of trainings is a margin below the worse one of their two best validation values: both reach it,
    neither is asked for what only the other's luck reached, and it is not where both creep along. Steps are counted
    from the start of training, so an arm that starts from a rewind point has that point's steps counted too.

    Args:
        grid: the points of a study.
        margin: in units of the validation metric.
        level: 1 - level is that of the intervals.

    Returns:
        Index other (dense or a control) and round; density; seeds, the pairs; ratio, the geometric mean, with the ends
        low and high of its interval by Student's t on logarithms. Below 1 the ticket is faster. A training that failed
        never gets there: infinite or 0.

    Source: early stopping as a measure of learning speed, Frankle & Carbin, "The Lottery Ticket Hypothesis", ICLR 2019,
    section 2.
    """
    import pandas

    frames = []
    for other in (DENSE, *grid.controls):
        ratios = Paired(_log_ratios(grid, other, margin))
        low, high = ratios.interval(level)
        columns = {
            "other": other,
            "round": grid.rounds,
            "density": grid.densities,
            "seeds": ratios.seeds,
            "ratio": np.exp(ratios.mean),
            "low": np.exp(low),
            "high": np.exp(high),
        }
        frames.append(pandas.DataFrame(columns)[ratios.seeds > 0])
    return pandas.concat(frames).set_index(["other", "round"])


def _log_ratios(grid: Grid, other: str, margin: float) -> Array:
    """Rounds x seeds; NaN without a pair."""
    found = np.full((len(grid.rounds), len(grid.seeds)), np.nan)
    mine, its = grid.progress(TICKET), grid.progress(other)
    for (number, seed), ticket in mine.items():
        against = its.get((0 if other == DENSE else number, seed))
        if against is None or not (len(ticket) or len(against)):
            continue
        place = grid.rounds.index(number), grid.seeds.index(seed)
        level = min(_best(ticket), _best(against)) - margin
        with np.errstate(divide="ignore"):
            found[place] = np.log(_first(ticket, level)) - np.log(_first(against, level))
    return found


def _best(progress: Progress) -> float:
    """The best value; a training that failed sets no level."""
    return progress[-1][1] if len(progress) else np.inf


def _first(progress: Progress, level: float) -> float:
    """The first step at which validation was as good as a level; one at least, for a ratio to exist."""
    return next((max(step, 1.0) for step, value in progress if value >= level), np.inf)
