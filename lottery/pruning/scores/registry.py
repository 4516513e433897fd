"""Scores by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import Tensor

from lottery.foundations.registry import Registry
from lottery.pruning.scores.context import NEEDS, Context

Score = Callable[[Context], Mapping[str, Tensor]]
T = TypeVar("T", bound=Callable[..., object])

_scores: Registry[Score] = Registry(
    argument="score", kind="score", plural="scores", accepts=callable, otherwise="a function of a Context"
)
_needs: dict[str, tuple[str, ...]] = {}

available = _scores.available


def register(name: str, *needs: str) -> Callable[[T], T]:
    """Decorator: give a score its name.

    Args:
        name: what YAML and the command line call it.
        needs: the optional fields of `Context` that it cannot do without, such as "batches".

    Raises:
        ValueError: another score has the name, or a need is no optional field of `Context`.
    """
    if unknown := set(needs) - NEEDS.keys():
        raise ValueError(f"the score {name!r} cannot need {sorted(unknown)}; it can need {', '.join(NEEDS)}")

    def decorate(score: T) -> T:
        _scores.register(name)(score)
        _needs[name] = needs
        return score

    return decorate


def resolve(score: str | Mapping[str, object] | Score) -> Score:
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
    return _scores.resolve(score)


def name_of(score: Score) -> str:
    """The name of a score; of a user's own, that of its function or class."""
    own = getattr(score, "__name__", type(score).__name__)
    return _scores.find(score) or own


def needs_of(score: Score) -> tuple[str, ...]:
    """The fields of `Context` that a score cannot do without."""
    name = _scores.find(score)
    return _needs[name] if name else ()
