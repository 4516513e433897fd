"""Methods of moving masks by name."""

from __future__ import annotations

from collections.abc import Mapping

from lottery.foundations import registry
from lottery.pruning.dynamic.method import Method

_METHODS = ("begin", "due", "move")

_methods: registry.Registry[Method] = registry.Registry(
    argument="dynamic",
    kind="dynamic method",
    plural="methods",
    accepts=lambda piece: all(callable(getattr(piece, m, None)) for m in _METHODS),
    otherwise=f"an object with {', '.join(_METHODS)}",
)

available = _methods.available
register = _methods.register


def resolve(method: str | Mapping[str, object] | Method) -> Method:
    """A method from its name, from its name and settings, or as it is.

    Args:
        method: "rigl", {"name": "rigl", "density": 0.05}, or any object with the methods of `Method`.

    Raises:
        ValueError: an unknown name or setting; the message lists what is close, or all.
        TypeError: it is none of these.

    Example:
        >>> resolve({"name": "rigl", "density": 0.05}).density
        0.05
    """
    return _methods.resolve(method)


def name_of(method: Method) -> str:
    """The name of a method; of a user's own, that of its class."""
    return _methods.find(method) or type(method).__qualname__


def described(method: Method) -> dict[str, object]:
    """A method as plain data: its name and settings. A user's own is told from others by these alone."""
    return registry.described(name_of(method), method)
