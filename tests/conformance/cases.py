"""Which values meet: every value beside the base of the others, and every pair of values of two axes at least once."""

from __future__ import annotations

import itertools
import zlib
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
        gives = frozenset().union(*(v.gives for v in values)) | GIVEN
        lacks = frozenset().union(*(v.lacks for v in values))
        return all(v.needs <= gives and not v.needs & lacks for v in values)

    @property
    def missing(self) -> str | None:
        """A package that it needs and that is not installed."""
        return next((v.package for v in self.values if not v.installed), None)

    def __str__(self) -> str:
        names = zip(AXES, self, strict=False)
        return " + ".join(name for axis, name in names if name != axis.base) or "base"


def rows() -> list[Case]:
    """Every value of every axis beside the base of the others."""
    cases = {
        Case(**{field: name})  # type: ignore[arg-type]
        for axis, field in zip(AXES, Case._fields, strict=False)
        for name in axis
    }
    return sorted((case for case in cases if case.possible), key=str)


def pairs(count: int) -> list[Case]:
    """Pairs of values of two axes beside the base of the others, in an order that is always the same."""
    found = []
    for (i, one), (j, other) in itertools.combinations(enumerate(AXES), 2):
        fields = Case._fields
        for a, b in itertools.product(one.values(), other.values()):
            if a.refused or b.refused or a.gap or b.gap:
                continue
            if one.base == a.name or other.base == b.name:
                continue
            found.append(Case(**{fields[i]: a.name, fields[j]: b.name}))  # type: ignore[arg-type]
    possible = (case for case in found if case.possible)
    return sorted(possible, key=lambda case: zlib.crc32(str(case).encode()))[:count]
