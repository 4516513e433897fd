"""Structures by name."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lottery.foundations.registry import Registry
from lottery.pruning.structures.structure import Structure

_structures: Registry[Structure] = Registry(
    argument="structure",
    kind="structure",
    plural="structures",
    accepts=lambda piece: callable(getattr(piece, "next_masks", None)),
    otherwise="an object with next_masks",
)

available = _structures.available
register = _structures.register


def resolve(structure: str | Mapping[str, object] | Structure) -> Structure:
    """A structure from its name, from its name and settings, or as it is.

    Args:
        structure: "channel", {"name": "block", "shape": [4, 4]}, "2:4" for {"name": "n:m", "n": 2, "m": 4}, or any
            object with a `next_masks` like that of `Structure`.

    Raises:
        ValueError: an unknown name or setting; the message lists what is close, or all.
        TypeError: it is none of these.

    Example:
        >>> resolve("2:4")
        NofM(n=2, m=4)
    """
    if isinstance(structure, int):
        raise ValueError(  # noqa: TRY004 (a setting of the user's, as the others)
            f"structure={structure!r} is a number. In YAML, N:M needs quotes: structure: '2:4'"
        )
    if isinstance(structure, str) and re.fullmatch(r"\d+:\d+", structure):
        n, m = map(int, structure.split(":"))
        structure = {"name": "n:m", "n": n, "m": m}
    return _structures.resolve(structure)


def name_of(structure: Structure) -> str:
    """The name of a structure, the first of several; of a user's own, that of its class."""
    return _structures.find(structure) or type(structure).__name__
