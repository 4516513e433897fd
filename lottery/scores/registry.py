"""Scores by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, TypeVar, cast

from torch import Tensor

from lottery.scores.context import NEEDS, Context

Score = Callable[[Context], Mapping[str, Tensor]]
T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry:
    """A score that has a name: a function of a `Context`, or a class whose instances are such functions."""

    name: str
    score: Callable[..., Any]
    needs: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (self.score.__doc__ or "").strip().split("\n")[0]


_entries: dict[str, Entry] = {}


def register(name: str, *needs: str) -> Callable[[T], T]:
    """Decorator: give a score its name.

    Args:
        name: what YAML and the command line call it.
        needs: the optional fields of `Context` that it cannot do without, such as "batches".

    Raises:
        ValueError: another score has the name, or a need is no optional field of `Context`.
    """
    if unknown := set(needs) - NEEDS.keys():
        raise ValueError(
            f"the score {name!r} cannot need {sorted(unknown)}; it can need {', '.join(NEEDS)}"
        )

    def decorate(score: T) -> T:
        known = _entries.get(name)
        if known and _home(known.score) != _home(score):
            raise ValueError(
                f"there is a score {name!r} already, in {_home(known.score)[0]}"
            )
        _entries[name] = Entry(name, score, needs)
        return score

    return decorate


def resolve(score: str | Mapping[str, Any] | Score) -> Score:
    """A score from its name, from its name and settings, or as it is.

    Args:
        score: "snip", {"name": "snip", "batches": 4}, or any callable that takes a `Context`.

    Raises:
        ValueError: an unknown name or setting; the message lists what is close, or all.
        TypeError: it is none of these.

    Example:
        >>> resolve({"name": "snip", "batches": 4})
        Snip(batches=4)
    """
    if isinstance(score, str):
        return resolve({"name": score})
    if isinstance(score, Mapping):
        settings = dict(score)
        return _build(_entry(settings.pop("name", None)), settings)
    if isinstance(score, type) and callable(score):
        return score()
    if callable(score):
        return score
    raise TypeError(
        f"score={score!r}: give a name ({', '.join(available())}), a mapping with a name and settings, or a function of a"
        " Context"
    )


def available() -> dict[str, str]:
    """Every name with one line about it, in alphabetical order."""
    return {name: _entries[name].summary for name in sorted(_entries)}


def name_of(score: Score) -> str:
    """The name of a score; of a user's own, that of its function or class."""
    entry = _find(score)
    return entry.name if entry else getattr(score, "__name__", type(score).__name__)


def needs_of(score: Score) -> tuple[str, ...]:
    """The fields of `Context` that a score cannot do without."""
    entry = _find(score)
    return entry.needs if entry else ()


def _home(score: Any) -> tuple[str, str]:
    """Where a score is defined: what is defined there again, as in a notebook, takes the place of the old."""
    return score.__module__, score.__qualname__


def _find(score: Score) -> Entry | None:
    for entry in _entries.values():
        if entry.score is score or entry.score is type(score):
            return entry
    return None


def _entry(name: Any) -> Entry:
    if name not in _entries:
        close = get_close_matches(str(name), _entries)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(
            f"there is no score {name!r}. {hint}The scores are {', '.join(available())}."
        )
    return _entries[name]


def _build(entry: Entry, settings: dict[str, Any]) -> Score:
    """An instance with these settings, or the function, which has none."""
    configurable = isinstance(entry.score, type)
    known = [f.name for f in fields(cast(Any, entry.score))] if configurable else []
    if unknown := settings.keys() - set(known):
        raise ValueError(
            f"the score {entry.name!r} has no setting {', '.join(sorted(unknown))}; it has {', '.join(known) or 'none'}"
        )
    return entry.score(**settings) if configurable else entry.score
