"""Structures by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar

from lottery.structures.structure import Structure

T = TypeVar("T", bound=type)

_classes: dict[str, type] = {}


def register(*names: str) -> Callable[[T], T]:
    """Decorator: give a structure, a dataclass, its names.

    Raises:
        ValueError: another structure has the name.
    """

    def decorate(structure: T) -> T:
        for name in names:
            known = _classes.get(name, structure)
            if _home(known) != _home(structure):
                raise ValueError(
                    f"there is a structure {name!r} already, in {known.__module__}"
                )
            _classes[name] = structure
        return structure

    return decorate


def resolve(structure: str | Mapping[str, Any] | Structure) -> Structure:
    """A structure from its name, from its name and settings, or as it is.

    Args:
        structure: "channel", {"name": "block", "shape": [4, 4]}, "2:4" for {"name": "n:m", "n": 2, "m": 4}, or any object
            with a `next_masks` like that of `Structure`.

    Raises:
        ValueError: an unknown name or setting; the message lists what is close, or all.
        TypeError: it is none of these.

    Example:
        >>> resolve("2:4")
        NofM(n=2, m=4)
    """
    if isinstance(structure, str):
        if pattern := re.fullmatch(r"(\d+):(\d+)", structure):
            n, m = map(int, pattern.groups())
            return resolve({"name": "n:m", "n": n, "m": m})
        return resolve({"name": structure})
    if isinstance(structure, Mapping):
        settings = dict(structure)
        return _build(settings.pop("name", None), settings)
    if isinstance(structure, type):
        return resolve(structure())
    if callable(getattr(structure, "next_masks", None)):
        return structure
    raise TypeError(
        f"structure={structure!r}: give a name ({', '.join(available())}), a mapping with a name and settings, or an"
        " object with next_masks"
    )


def available() -> dict[str, str]:
    """Every name with one line about it, in alphabetical order."""
    return {
        name: (_classes[name].__doc__ or "").strip().split("\n")[0]
        for name in sorted(_classes)
    }


def name_of(structure: Structure) -> str:
    """The name of a structure, the first of several; of a user's own, that of its class."""
    for name, known in _classes.items():
        if known is type(structure):
            return name
    return type(structure).__name__


def _home(structure: type) -> tuple[str, str]:
    """Where a structure is defined: what is defined there again, as in a notebook, takes the place of the old."""
    return structure.__module__, structure.__qualname__


def _build(name: Any, settings: dict[str, Any]) -> Structure:
    if name not in _classes:
        close = get_close_matches(str(name), _classes)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(
            f"there is no structure {name!r}. {hint}The structures are {', '.join(available())}."
        )
    known = [f.name for f in fields(_classes[name])]
    if unknown := settings.keys() - set(known):
        raise ValueError(
            f"the structure {name!r} has no setting {', '.join(sorted(unknown))}; it has {', '.join(known) or 'none'}"
        )
    return _classes[name](**settings)
