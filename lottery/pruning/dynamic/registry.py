"""Methods of moving masks by name."""

from __future__ import annotations

from collections.abc import Mapping

from lottery.foundations import registry
from lottery.pruning.dynamic.moment import Moving

_METHODS = ("begin", "due", "move")

_ways: registry.Registry[Moving] = registry.Registry(
    argument="moving",
    kind="way of moving",
    plural="ways",
    accepts=lambda piece: all(callable(getattr(piece, m, None)) for m in _METHODS),
    otherwise=f"an object with {', '.join(_METHODS)}",
)

available = _ways.available
register = _ways.register


def resolve(moving: str | Mapping[str, object] | Moving) -> Moving:
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
    return _ways.resolve(moving)


def name_of(moving: Moving) -> str:
    """The name of a method; of a user's own, that of its class."""
    return _ways.find(moving) or type(moving).__qualname__


def described(moving: Moving) -> dict[str, object]:
    """A method as plain data: its name and settings. A user's own is told from others by these alone."""
    return registry.described(name_of(moving), moving)
