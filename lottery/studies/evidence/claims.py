"""What a study claims of its tickets: differences paired over seeds, tested, round by round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from lottery.foundations.statistics.family import intersection
from lottery.foundations.statistics.looks import share
from lottery.foundations.statistics.paired import Array, Paired
from lottery.studies.controls import RulesOut
from lottery.studies.evidence.collapse import Collapse, collapse_of
from lottery.studies.evidence.decision import ordered, p_values, primary, secondary
from lottery.studies.evidence.gains import Gains
from lottery.studies.evidence.grid import DENSE, TICKET
from lottery.studies.evidence.speed import speed

if TYPE_CHECKING:
    import pandas

Label = Literal["wins", "matching", "below", "open"]

WORD: frozenset[RulesOut] = frozenset(("weights", "masks"))
"""What must be ruled out for a ticket to be called winning."""


@dataclass(frozen=True, eq=False)
class Claim:
    """One claim, round by round.

    Args:
        p: p values; NaN where fewer than three pairs are there to test with.
        adjusted: corrected for the other claims that are made with it, and for other looks at the study.
        shown: where the claim can be made: where that is at most the level.
        size: how many tests were made together.
    """

    p: Array
    adjusted: Array
    shown: np.ndarray
    size: int


class Claims(Gains):
    """The claims of an `Evidence`, which says what they mean.

    Its arguments and errors are those of `Evidence`.
    """

    def _p(self, other: str, bound: float | Array = 0.0, *, below: bool = False) -> Array:
        """P values that the gain is above a bound, or below it."""
        gains = self.gains[other]
        if self.waiting:
            return np.full(len(self.rounds), np.nan)
        if below:
            return p_values(-gains.differences, self.stages, -np.asarray(bound), gains.rounding)
        return p_values(gains.differences, self.stages, bound, gains.rounding)

    def p_of_stage(self, other: str, bound: Array, stage: np.ndarray) -> Array:
        """P values that the gain is above a bound, by the seeds of one look alone."""
        gains = self.gains[other]
        return Paired(np.asarray(gains.differences - bound)[:, stage], gains.rounding).p_above()

    # the claim of the headline, and matching

    @cached_property
    def _asked(self) -> np.ndarray:
        """The rounds in which every control that must be beaten was trained."""
        there = [self.grid.has(name) for name in self.required if self.grid.has(name).any()]
        return np.logical_and.reduce(there) if there else np.ones(len(self.rounds), dtype=bool)

    @cached_property
    def _to_dense(self) -> Array:
        return self._p(DENSE, -self.margin.amount * self.unit)

    def _of_all(self, p: Sequence[Array], adjust: Callable[[Sequence[Array]], Array]) -> Claim:
        """A claim about all controls that must be beaten together; none without any."""
        whole, adjusted = np.full((2, len(self.rounds)), np.nan)
        asked = self._asked & bool(self.required)
        if asked.any():
            whole, adjusted[asked] = intersection(p), adjust([each[asked] for each in p])
        return Claim(whole, adjusted, adjusted <= self.level, int(asked.sum()))

    @cached_property
    def ahead(self) -> Claim:
        """That the ticket is matching and better than every control that must be beaten."""
        better = [self._p(name) for name in self.required]
        return self._of_all([self._to_dense, *better], lambda p: primary(p[0], p[1:], self.look))

    @property
    def enough(self) -> bool:
        """Whether the controls rule out enough for a ticket to be called winning."""
        return set(self.required.values()) >= WORD

    @property
    def winning(self) -> np.ndarray:
        """In which rounds the ticket is shown to win: it is ahead, of enough controls."""
        return self.ahead.shown & self.enough

    @cached_property
    def matching(self) -> Claim:
        """That the ticket is no more than the margin worse than dense; in order, from dense downwards."""
        adjusted = ordered(self._to_dense, self.look)
        return Claim(self._to_dense, adjusted, adjusted <= self.level, len(self.rounds))

    def largest_loss(self, place: int) -> float | None:
        """By how much a round is at most worse than dense, as the test of matching has it; None without a spread.

        It is the smallest margin, as an amount of the same kind, with which the round would match by itself.
        """
        from scipy import optimize  # type: ignore[import-untyped]

        gains = self.gains[DENSE]
        if not gains.spread[place] > 0 or np.isnan(self.matching.p[place]):
            return None
        level = share(self.look) * self.level
        unit = float(self.unit[self.unit > 0].mean())
        far = (abs(gains.mean[place]) + 1e4 * gains.error[place]) / unit

        def excess(amount: float) -> float:
            return float(self._p(DENSE, -amount * self.unit)[place]) - level

        if excess(far) > 0:
            return None
        return float(optimize.brentq(excess, -far, far))

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

    # other claims, each kind a family of its own

    @cached_property
    def below(self) -> Claim:
        """That the ticket is more than the margin worse than dense."""
        return self._family({DENSE: self._p(DENSE, -self.margin.amount * self.unit, below=True)})[DENSE]

    @cached_property
    def worse(self) -> Claim:
        """That the ticket is worse than dense, by however little."""
        return self._family({DENSE: self._p(DENSE, below=True)})[DENSE]

    @cached_property
    def wins(self) -> dict[str, Claim]:
        """That the ticket is better than each control."""
        return self._family({name: self._p(name) for name in self.controls})

    @cached_property
    def close(self) -> dict[str, Claim]:
        """That each control is less than the margin worse than the ticket."""
        bound = self.margin.amount * self.unit
        return self._family({name: self._p(name, bound, below=True) for name in self.controls})

    @cached_property
    def better(self) -> Claim:
        """That the ticket is better than every control that must be beaten."""
        p = [self._p(name) for name in self.required]
        return self._of_all(p, lambda p: secondary(intersection(p), self.look))

    @cached_property
    def equalled(self) -> Claim:
        """That every control that must be beaten is less than the margin worse; in order, from dense downwards."""
        bound = self.margin.amount * self.unit
        p = [self._p(name, bound, below=True) for name in self.required]
        return self._of_all(p, lambda p: ordered(intersection(p), self.look))

    def _family(self, p: Mapping[str, Array]) -> dict[str, Claim]:
        """Claims of a kind, with a chance of at most the level for one or more false ones among all of them."""
        if not p:
            return {}
        asked = {name: np.ones(len(self.rounds), bool) if name == DENSE else self.grid.has(name) for name in p}
        members = np.array(list(asked.values()))
        raw = np.array(list(p.values()))
        adjusted = np.full(raw.shape, np.nan)
        adjusted[members] = secondary(raw[members], self.look)
        return {
            name: Claim(raw[i], adjusted[i], adjusted[i] <= self.level, int(members.sum())) for i, name in enumerate(p)
        }

    # what else is known

    @cached_property
    def collapses(self) -> dict[str, Collapse]:
        """Of each arm, how many trainings failed or ended far from the others."""
        found = {}
        for arm in (DENSE, TICKET, *self.controls):
            values = self.outcomes(arm)[:1] if arm == DENSE else self.outcomes(arm)
            one = collapse_of(values, self.margin_size, self.level)
            if one is not None:
                found[arm] = one
        return found

    def speed(self, level: float | None = None) -> pandas.DataFrame:
        """The ticket's steps to a common level, relative to dense's and each control's: `evidence.speed.speed`."""
        return speed(self.grid, self.margin_size, self.level if level is None else level)
