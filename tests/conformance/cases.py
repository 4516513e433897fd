"""Which values meet: every value beside the base of the others, and every two values of two axes at least once."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import conformance.packages  # noqa: F401 (registers its modules)
from conformance.axis import Axis, Value
from conformance.callbacks import CALLBACKS
from conformance.loaders import LOADERS
from conformance.modules import MODULES
from conformance.optimizers import OPTIMIZERS
from conformance.rewinds import REWINDS
from conformance.settings import SETTINGS

AXES: tuple[Axis, ...] = (MODULES, OPTIMIZERS, CALLBACKS, LOADERS, SETTINGS, REWINDS)

# what every value gives to those beside it, unless it says that it lacks it
GIVEN = frozenset(
    [
        "optimizer",
        "automatic",
        "validation",
        "length",
        "every-epoch",
        "unwrap",
        "tensors",
        "doubles",
        "autocast",
        "matrices",
        "averaging",
        "decay",
        "epochs",
        "loadable",
        "many-batches",
        "sized",
        "unaccumulated",
        "one-pass",
        "unfrozen",
        "loss",
        "clipping",
        "reals",
    ]
)
KILLS = (
    ("on_train_batch_start", 2),  # in the first epoch
    ("on_train_epoch_start", 1),  # between epochs
    ("on_train_start", 1),  # between rounds
    ("on_train_batch_start", 6),
)


class Case(NamedTuple):
    """One value of each axis; a name left out is the axis's base."""

    module: str = MODULES.base
    optimizer: str = OPTIMIZERS.base
    callback: str = CALLBACKS.base
    loader: str = LOADERS.base
    settings: str = SETTINGS.base
    rewind: str = REWINDS.base
    rounds: int = 2
    kills: tuple[tuple[str, int], ...] = KILLS

    @property
    def values(self) -> tuple[Value, ...]:
        return tuple(axis[name] for axis, name in zip(AXES, self, strict=False))

    @property
    def possible(self) -> bool:
        """Whether its values get along without LotteryTicket."""
        values = self.values
        gives = GIVEN.union(*(v.gives for v in values))
        lacks = frozenset().union(*(v.lacks for v in values))
        return all(v.needs <= gives and not v.needs & lacks for v in values)

    @property
    def missing(self) -> str | None:
        """A package that it needs and that is not installed."""
        return next((v.package for v in self.values if not v.installed), None)

    def __str__(self) -> str:
        names = zip(AXES, self, strict=False)
        return " + ".join(name for axis, name in names if name != axis.base) or "base"


def alone(field: str, name: str) -> Case:
    """A value beside the base of the other axes; where it needs one of another, beside the first that gives it."""
    base = Case(**{field: name})  # type: ignore[arg-type]
    others = (
        base._replace(**{other: value})
        for axis, other in zip(AXES, Case._fields, strict=False)
        if other != field
        for value in axis
    )
    return next(case for case in (base, *others) if case.possible)


def rows() -> list[Case]:
    """Every value of every axis beside the base of the others."""
    cases = {alone(field, name) for axis, field in zip(AXES, Case._fields, strict=False) for name in axis}
    return sorted(cases, key=str)


Chosen = tuple[int, str]  # an axis by its place, and one of its values


def cover() -> Iterator[Case]:
    """Cases in which every two values of two axes meet that can, as few as a greedy search finds; always the same.

    Values that are refused, have a gap, or come from a large package are tried alone only. A case has one round of
    pruning and two kills.
    """
    values = [[v.name for v in axis.values() if not (v.refused or v.gap or v.heavy)] for axis in AXES]
    left = {
        ((i, a), (j, b))
        for i, j in itertools.combinations(range(len(AXES)), 2)
        for a, b in itertools.product(values[i], values[j])
    }
    kills = itertools.cycle((KILLS[0], later) for later in KILLS[1:])
    for pair in sorted(left, key=lambda pair: zlib.crc32(str(pair).encode())):
        if pair not in left:
            continue
        chosen = dict(pair)
        for axis, names in enumerate(values):
            if axis not in chosen:
                fitting = [n for n in names if _may_agree({**chosen, axis: n})]
                if not fitting:
                    break
                chosen[axis] = max(fitting, key=lambda name: len(left & _meetings(chosen, (axis, name))))
        case = Case(*(chosen.get(axis, "") for axis in range(len(AXES))))
        if len(chosen) == len(AXES) and case.possible:
            left -= set(itertools.combinations(sorted(chosen.items()), 2))
            yield case._replace(rounds=1, kills=next(kills))
        left.discard(pair)  # where these two can't meet


def _meetings(chosen: dict[int, str], value: Chosen) -> set[tuple[Chosen, Chosen]]:
    return {tuple(sorted((other, value))) for other in chosen.items()}  # type: ignore[misc]


def _may_agree(chosen: dict[int, str]) -> bool:
    """Whether values get along so far: what they need may still be given by an axis that is open."""
    values = [AXES[axis][name] for axis, name in chosen.items()]
    open_ = [axis for i, axis in enumerate(AXES) if i not in chosen]
    lacks = frozenset().union(*(v.lacks for v in values))
    given = GIVEN.union(*(v.gives for v in values))
    given = given.union(*(v.gives for axis in open_ for v in axis.values()))
    return all(v.needs <= given and not v.needs & lacks for v in values)
