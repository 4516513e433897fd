"""Methods of moving masks by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from lottery.moving.moment import Moving

T = TypeVar("T", bound=type)

_METHODS = ("begin", "due", "move")
_classes: dict[str, type] = {}


def register(name: str) -> Callable[[T], T]:
    """Decorator: give a method, a dataclass, its name.

    Raises:
        ValueError: another method has the name.
    """

    def decorate(method: T) -> T:
        known = _classes.get(name, method)
        if _home(known) != _home(method):
            raise ValueError(
                f"there is a way of moving {name!r} already, in {known.__module__}"
            )
        _classes[name] = method
        return method

    return decorate


def resolve(moving: str | Mapping[str, Any] | Moving) -> Moving:
    """A method from its name, from its name and settings, or as it is.

    Args:
        moving: "rigl", {"name": "rigl", "density": 0.05}, or any object with the methods of `Moving`.

    Raises:
        ValueError: an unknown name or setting; the message lists what is close, or all.
        TypeError: it is none of these.

    Example:
        >>> resolve({"name": "rigl", "density": 0.05}).density
        0.05
    """
    if isinstance(moving, str):
        return resolve({"name": moving})
    if isinstance(moving, Mapping):
        settings = dict(moving)
        return _build(settings.pop("name", None), settings)
    if isinstance(moving, type):
        return resolve(moving())
    if all(callable(getattr(moving, name, None)) for name in _METHODS):
        return moving
    raise TypeError(
        f"moving={moving!r}: give a name ({', '.join(available())}), a mapping with a name and settings, or an object with"
        f" {', '.join(_METHODS)}"
    )


def available() -> dict[str, str]:
    """Every name with one line about it, in alphabetical order."""
    return {
        name: (_classes[name].__doc__ or "").strip().split("\n")[0]
        for name in sorted(_classes)
    }


def name_of(moving: Moving) -> str:
    """The name of a method; of a user's own, that of its class."""
    names = (name for name, known in _classes.items() if known is type(moving))
    return next(names, type(moving).__qualname__)


def described(moving: Moving) -> dict[str, Any]:
    """A method as plain data: its name and settings. A user's own is told from others by these alone."""
    settings: dict[str, Any] = (
        {f.name: getattr(moving, f.name) for f in dataclasses.fields(moving)}
        if dataclasses.is_dataclass(moving)
        else {}
    )
    plain = {
        name: getattr(value, "__qualname__", value) for name, value in settings.items()
    }
    return {"name": name_of(moving), **plain}


def _home(method: type) -> tuple[str, str]:
    """Where a method is defined: what is defined there again, as in a notebook, takes the place of the old."""
    return method.__module__, method.__qualname__


def _build(name: Any, settings: dict[str, Any]) -> Moving:
    if name not in _classes:
        close = get_close_matches(str(name), _classes)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(
            f"there is no way of moving {name!r}. {hint}The ways are {', '.join(available())}."
        )
    known = [f.name for f in dataclasses.fields(_classes[name])]
    if unknown := settings.keys() - set(known):
        raise ValueError(
            f"moving={name!r} has no setting {', '.join(sorted(unknown))}; it has {', '.join(known) or 'none'}"
        )
    return _classes[name](**settings)
