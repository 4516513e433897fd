"""Where the settings of two fits differ, and which differences matter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

_USERS = ("hyperparameters", "data")  # sections whose names are the user's
# the other names are ours, Lightning's or torch's: a run that was begun by an earlier version may lack some of them
_GROWS = re.compile(r"|(optimizers|lr_schedulers)\[\d+\]")
_ABSENT_IS_NONE = ("dynamic", "branch")
# 1.0 means all, 1 means one
_SHARES_OR_COUNTS = {
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "overfit_batches",
    "val_check_interval",
}
# what earlier versions wrote in place of a path or a time
_UNRECORDED = re.compile(r"(pathlib|datetime|pandas\._libs\.tslibs\.timestamps)\.")
_PATH = re.compile(r"/|~|[A-Za-z]:\\")
_TIME = re.compile(
    r"(19|20)\d\d[-_./]?(0[1-9]|1[0-2])[-_./]?[0-3]\d[T _-]*[0-2]\d[-:_.h]?[0-5]\d"
    r"([-:_.m]?[0-5]\d([.,]\d+)?)?(Z|[+-]\d\d:?\d\d)?"
    r"|[A-Z][a-z][a-z]\d\d_\d\d-\d\d-\d\d"  # as SummaryWriter names folders
)


@dataclass(frozen=True)
class Difference:
    """A setting that is another one now.

    Args:
        name: of the setting, such as "optimizers[0].lr".
        before: its value in the run, None for none.
        now: its value in this fit.
        matters: whether it can change what is trained; not where both are paths or points in time, nor where a
            hyperparameter is not saved any more.
    """

    name: str
    before: object
    now: object
    matters: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {_short(self.before)} in the run, {_short(self.now)} now"


def differences(before: object, now: object, name: str = "", matters: bool = True) -> Iterator[Difference]:
    """The settings in which a fit differs from a run, in order.

    Args:
        before: settings as `run.json` holds them.
        now: those of this fit, as plain data.
    """
    name, before, now = _by_their_names(name, before, now)
    old, new = before or now, now or before  # nothing and an empty one are alike
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _in_mappings(old if before else {}, new if now else {}, name, matters)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _in_lists(old if before else [], new if now else [], name, matters)
    elif before != now or (name in _SHARES_OR_COUNTS and isinstance(before, float) != isinstance(now, float)):
        beside = _same_but_for_when_or_where(before, now)
        yield Difference(name, before, now, matters and not beside)


def _in_mappings(
    before: Mapping[str, object], now: Mapping[str, object], name: str, matters: bool
) -> Iterator[Difference]:
    for key in {**before, **now}:
        recorded = key in before or key in _ABSENT_IS_NONE
        if before and not recorded and _GROWS.fullmatch(name):
            continue
        yield from differences(
            before.get(key),
            now.get(key),
            f"{name}.{key}" if name else key,
            matters and not (name in _USERS and key not in now),
        )


def _in_lists(before: list[object], now: list[object], name: str, matters: bool) -> Iterator[Difference]:
    """One by one where the items have parts, or are paths or times; else as a whole."""
    pairs = list(zip_longest(before, now))
    parts = any(isinstance(v, (Mapping, list)) for pair in pairs for v in pair)
    if parts or any(_same_but_for_when_or_where(*pair) for pair in pairs):
        for index, (old, new) in enumerate(pairs):
            yield from differences(old, new, f"{name}[{index}]", matters)
    elif before != now:
        yield Difference(name, before, now, matters)


def _by_their_names(name: str, before: object, now: object) -> tuple[str, object, object]:
    """Things that have a name, by it alone where the other side has no more: none of it, or what an earlier version
    wrote.
    """
    if isinstance(now, Mapping) and "name" in now:
        if before is None:
            return f"{name}.name", None, now["name"]
        if isinstance(before, str):
            return name, before, now["name"]
    if now is None and isinstance(before, Mapping) and "name" in before:
        return f"{name}.name", before["name"], None
    return name, before, now


def _same_but_for_when_or_where(before: object, now: object) -> bool:
    """Whether values that differ are paths, or are the same text but for a time of a day in it."""
    if not isinstance(before, str) or not isinstance(now, str) or before == now:
        return False
    if _UNRECORDED.match(before) or (_PATH.match(before) and _PATH.match(now)):
        return True
    return _TIME.sub("", before) == _TIME.sub("", now)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:150]} ... {text[-45:]}"
