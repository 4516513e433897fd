"""What more seeds would show: the chance of it, by what is known of means and spreads so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lottery.foundations.statistics.looks import combined
from lottery.foundations.statistics.paired import FEWEST, Array
from lottery.studies.evidence.decision import ordered, primary
from lottery.studies.evidence.grid import DENSE

if TYPE_CHECKING:
    from lottery.studies.evidence.claims import Claims

MOST = 45
"""More seeds than these are not proposed."""
LIKELY = 0.8
UNKNOWN = 0.5
_ADDED = (3, 4, 5, 6, 8, 10, 15, 20, 30, MOST)
_TRUTHS, _FUTURES = 300, 10


@dataclass(frozen=True)
class Chance:
    """How likely it is that a study shows something once it has more seeds.

    Args:
        added: how many more.
        chance: averaged over what the truth may be.
        low, high: what it is in the middle four fifths of these truths.
    """

    added: int
    chance: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether the range is narrow enough to say anything."""
        return self.high - self.low <= UNKNOWN


def chances(
    means: Array,
    spreads: Array,
    pairs: Array,
    before: Sequence[Array],
    level: float,
    margin: float,
    look: int,
    added: Sequence[int] = _ADDED,
) -> list[Chance]:
    """The chances that the next look shows a winning ticket in some round.

    The truth is drawn from what the seeds so far say of it (the posterior of mean and spread where nothing was known
    before), then the next look at a study of that truth is drawn and judged as it will be. The ticket's part is in the
    differences to all arms, and dense's in those of all rounds: half of the variance each.

    Args:
        means: of the gains so far, 1 + controls x rounds; dense first. More than the controls that must be beaten are
            not there; without any, the chance is that of a round that matches.
        spreads: the standard deviations of these gains.
        pairs: how many pairs they are of, three or more.
        before: the p values of each look's seeds so far, each as `means`; against -margin for dense, 0 for controls.
        level: of the study.
        margin: in units of the metric.
        look: the next look's number.
        added: how many seeds it adds.

    Source: O'Hagan, Stevens & Campbell, "Assurance in clinical trial design", Pharmaceutical Statistics 2005.
    """
    from scipy import special  # type: ignore[import-untyped]

    generator = np.random.default_rng(0)
    degrees = pairs - 1
    size = (_TRUTHS, 1, *means.shape)
    sigma = spreads * np.sqrt(degrees / generator.chisquare(np.broadcast_to(degrees, size)))
    truth = means + sigma / np.sqrt(pairs) * _shared(generator, size)
    truth[:, :, 0] += margin
    future = (_TRUTHS, _FUTURES, *means.shape)
    found = []
    for number in added:
        seen = truth + sigma / np.sqrt(number) * _shared(generator, future)
        error = sigma * np.sqrt(generator.chisquare(number - 1, future) / (number - 1) / number)
        p = special.stdtr(number - 1, -seen / error)
        whole = combined([*(np.broadcast_to(stage, future) for stage in before), p])
        matching, *better = np.moveaxis(whole, 2, 0)
        shown = (primary(matching, better, look) if better else ordered(matching, look)) <= level
        power = shown.any(-1).mean(1)
        low, high = np.quantile(power, [0.1, 0.9])
        chance = float(power.mean())
        found.append(Chance(number, chance, min(float(low), chance), max(float(high), chance)))
    return found


def _shared(generator: np.random.Generator, size: tuple[int, ...]) -> Array:
    """Standard normal numbers, ... x arms x rounds, half of whose variance arms share, and rounds that of dense."""
    *first, arms, rounds = size
    ticket = generator.standard_normal((*first, 1, rounds))
    dense = generator.standard_normal((*first, 1, 1)) + np.zeros((*first, 1, rounds))
    others = generator.standard_normal((*first, arms - 1, rounds))
    return np.asarray((ticket + np.concatenate([dense, others], axis=-2)) / np.sqrt(2))


def forecast(claims: Claims) -> list[Chance]:
    """What more seeds would show; empty where too little is known: fewer than three pairs, or no spread, in all rounds.

    Rounds in which a training failed, or of which too little is known, are taken to show nothing.
    """
    arms = [DENSE, *claims.required]
    gains = [claims.gains[arm] for arm in arms]
    known = np.logical_and.reduce([(g.seeds >= FEWEST) & (g.spread > 0) for g in gains])
    if not known.any():
        return []
    bounds = [-claims.margin.amount * claims.unit, *(np.zeros(len(claims.unit)) for _ in claims.required)]
    before = [
        np.array([claims.p_of_stage(arm, bound, stage) for arm, bound in zip(arms, bounds, strict=True)])[:, known]
        for stage in claims.stages
    ]
    means, spreads, pairs = (np.array([getattr(g, name)[known] for g in gains]) for name in ("mean", "spread", "seeds"))
    return chances(means, spreads, pairs, before, claims.level, claims.margin_size, claims.look + 1)
