"""How fast an arm learns: steps until it reaches dense's level, relative to dense."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lottery.foundations.statistics.paired import Paired
from lottery.studies.evidence.grid import DENSE, TICKET, Grid

if TYPE_CHECKING:
    import pandas


def speed(grid: Grid, level: float = 0.05) -> pandas.DataFrame:
    """Steps until validation first reached the dense run's best value of the same seed, as a ratio to dense's own
    steps.

    Counted from the start of training, so an arm that starts from a rewind point has that point's steps counted too.

    Args:
        grid: the points of a study.
        level: 1 - level is that of the intervals.

    Returns:
        Index arm and round; density; seeds, those trained; reached, how many of them got there; ratio, the geometric
        mean over those that did, with the ends low and high of its interval by Student's t on logarithms. Below 1 is
        faster than dense. Where `reached` is less than `seeds` the slow ones are left out, which flatters the ratio.

    Source: early stopping as a measure of learning speed, Frankle & Carbin, "The Lottery Ticket Hypothesis", ICLR 2019,
    section 2.
    """
    import pandas

    dense = grid.of(DENSE, "step")
    frames = []
    for arm in (TICKET, *grid.controls):
        reached = grid.of(arm, "reached")
        # before the first step is as fast as in one, for a ratio to exist
        ratios = Paired(np.log(np.maximum(reached, 1)) - np.log(np.maximum(dense, 1)))
        low, high = ratios.interval(level)
        columns = {
            "arm": arm,
            "round": grid.rounds,
            "density": grid.densities,
            "seeds": np.isfinite(grid.of(arm, "density") + dense).sum(1),
            "reached": ratios.seeds,
            "ratio": np.exp(ratios.mean),
            "low": np.exp(low),
            "high": np.exp(high),
        }
        frames.append(pandas.DataFrame(columns)[grid.has(arm)])
    return pandas.concat(frames).set_index(["arm", "round"])
