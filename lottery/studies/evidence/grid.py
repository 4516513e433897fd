"""The points of a study, checked and laid out as rounds x seeds, so that arms can be paired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lottery.foundations.statistics.paired import Array

if TYPE_CHECKING:
    import pandas

DENSE = "dense"
TICKET = "ticket"
Progress = Sequence[tuple[float, float]]
"""The steps at which validation was better than ever before, and how good it was there; more is better."""

_COLUMNS = ("arm", "seed", "round", "density", "value")
_TOLERANCE = 0.02


@dataclass(frozen=True)
class Missing:
    """Seeds of which an arm has no training in a round (None: in any)."""

    arm: str
    round: int | None
    seeds: tuple[int, ...]

    def __str__(self) -> str:
        which = "seed" if len(self.seeds) == 1 else "seeds"
        where = "" if not self.round else f" round {self.round}"
        return f"{self.arm}{where}: {which} {', '.join(map(str, self.seeds))}"


class Grid:
    """One finished training per arm, seed and round.

    Args:
        points: columns arm, seed, round, density and value, which is not finite where a training failed; where they are
            known, `progress` (see `speed`) and `budget`, the Trainer's limit. Dense is the arm "dense" at round 0.
        planned: controls that were to be trained, also where nothing of them is there.

    Raises:
        ValueError: a column is missing, a training occurs twice, round 0 is not dense's alone, or an arm has another
            density (by more than 2 %) or another budget than the ticket of its round and seed. Steps are not compared:
            early stopping makes them differ.
    """

    def __init__(self, points: pandas.DataFrame, planned: Sequence[str] = ()) -> None:
        missing = [name for name in _COLUMNS if name not in points]
        if missing:
            raise ValueError(f"points lack {missing}; Study.points() has {', '.join(_COLUMNS)}")
        self.points = points.astype({"arm": str, "seed": int, "round": int})
        self._check_places()
        arms = self.points["arm"].unique()
        arms = dict.fromkeys([*planned, *map(str, arms)])
        self.controls = [arm for arm in arms if arm not in (DENSE, TICKET)]
        self.seeds = sorted(map(int, self.points["seed"].unique()))
        self.rounds = sorted(int(r) for r in self.points["round"].unique() if r > 0)
        for arm in self.controls:
            self._check_equal(arm, "density", tolerance=_TOLERANCE)
            self._check_equal(arm, "budget")
        self._check_equal(TICKET, "budget", to=DENSE)

    def of(self, arm: str, column: str) -> Array:
        """A column of an arm, rounds x seeds; NaN where there is none. Dense is repeated for every round."""
        rows = self.points[self.points["arm"] == arm]
        seeds = np.searchsorted(self.seeds, rows["seed"])
        rounds = np.searchsorted(self.rounds, rows["round"])
        found = np.full((len(self.rounds), len(self.seeds)), np.nan)
        every = slice(None) if arm == DENSE else rounds
        found[every, seeds] = rows[column].to_numpy(dtype=float)
        return found

    def outcomes(self, arm: str, sign: int = 1) -> Array:
        """The values of an arm, rounds x seeds, times `sign`: -inf where a training failed, NaN without any."""
        values, trained = sign * self.of(arm, "value"), ~np.isnan(self.of(arm, "density"))
        return np.where(trained & ~np.isfinite(values), -np.inf, np.where(trained, values, np.nan))

    def progress(self, arm: str) -> dict[tuple[int, int], Progress]:
        """The progress of each training of an arm, by round and seed; none where it is not known."""
        rows = self.points[self.points["arm"] == arm]
        if "progress" not in rows:
            return {}
        return {(r, s): p for r, s, p in zip(rows["round"], rows["seed"], rows["progress"], strict=True)}

    def has(self, arm: str) -> NDArray[np.bool_]:
        """In which rounds any seed of an arm was trained."""
        return np.asarray(np.isfinite(self.of(arm, "density")).any(axis=1))

    @cached_property
    def densities(self) -> Array:
        """The density of each round: the mean over all trainings, which differ by rounding."""
        means = self.points.groupby("round")["density"].mean()
        return means.reindex(self.rounds).to_numpy(dtype=float)

    @cached_property
    def missing(self) -> list[Missing]:
        """The trainings that are absent, which keeps seeds from being paired."""
        return list(self._missing())

    def _missing(self) -> Iterator[Missing]:
        for arm in (DENSE, TICKET, *self.controls):
            there = ~np.isnan(self.of(arm, "density"))
            rounds = self.rounds[:1] if arm == DENSE else self.rounds
            trained = self.has(arm) | (arm == TICKET)
            if arm in self.controls and not trained.any():
                yield Missing(arm, None, tuple(self.seeds))
            for place, number in enumerate(rounds):
                absent = np.flatnonzero(~there[place])
                if (trained[place] or arm == DENSE) and absent.size:
                    seeds = tuple(self.seeds[i] for i in absent)
                    yield Missing(arm, 0 if arm == DENSE else number, seeds)

    def _check_places(self) -> None:
        places = ["arm", "seed", "round"]
        twice = self.points[self.points.duplicated(places)]
        if len(twice):
            arm, seed, number = twice.iloc[0][places]
            raise ValueError(f"{arm}, seed {seed}, round {number} occurs twice in the points; give each training once")
        dense = self.points["arm"] == DENSE
        wrong = self.points[dense != (self.points["round"] == 0)]
        if len(wrong):
            arm, seed, number = wrong.iloc[0][places]
            raise ValueError(
                f"{arm}, seed {seed} has a point in round {number}; round 0 is dense's, and dense has no other"
            )

    def _check_equal(self, arm: str, column: str, tolerance: float = 0.0, to: str = TICKET) -> None:
        """What must be equal for a difference to mean what it says."""
        if column not in self.points:
            return
        mine, its = self.of(arm, column), self.of(to, column)
        wrong = np.argwhere(np.abs(mine - its) > tolerance * its)
        for place, seed in wrong[:1]:
            raise ValueError(
                f"{arm} has {column} {mine[place, seed]:.6g} in round {self.rounds[place]}, seed {self.seeds[seed]},"
                f" where {to} has {its[place, seed]:.6g}: what differs between them would not be the ticket alone;"
                f" train {arm} anew with the same"
            )
