"""What equal scores leave to position: counted where the choice is made, said where masks come of it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from lottery.masks.masks import Masks
from lottery.masks.selection import by_position
from lottery.text.numbers import percent

_WORTH_A_WORD = 0.01  # of the mask: a few equal scores are chance

_OTHER_SCORE = (
    "Weights that no gradient or path reaches score zero, as those before a layer that starts at zero. Take another"
    " score or other weights, or exclude the layer."
)

_counts: ContextVar[Counter[str] | None] = ContextVar("counts", default=None)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How many weights of each parameter stay for their position alone, as choices note it while the block runs.

    Example:
        >>> with counted() as counts:
        ...     note_choice({"w": torch.zeros(3)}, {"w": torch.ones(3).bool()}, {"w": torch.arange(3) > 0})
        >>> dict(counts)
        {'w': 2}
    """
    counts: Counter[str] = Counter()
    token = _counts.set(counts)
    try:
        yield counts
    finally:
        _counts.reset(token)


def note(counts: Mapping[str, int]) -> None:
    """Note how many weights of each parameter stay for their position alone."""
    heard = _counts.get()
    if heard is not None:
        heard.update(counts)


def note_choice(scores: Mapping[str, Tensor], before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    """Note what equal scores left to position in a choice among all weights of `before`, of which `after` stay."""
    found = by_position([scores[name] for name in before], list(before.values()), [after[name] for name in before])
    note(dict(zip(before, found, strict=True)))


def note_choices(name: str, scores: Tensor, before: Tensor, after: Tensor, dim: int) -> None:
    """The same for many choices of one parameter, each among the weights that differ in `dim` alone."""
    worst = scores.masked_fill(~(before & ~after), -torch.inf).amax(dim, keepdim=True)
    note({name: int(((scores == worst) & after).sum())})


def say_gone(what: str, scores: Mapping[str, Tensor], before: Masks, after: Masks, of: str) -> None:
    """Warn of parameters that lose all they had, all of it at one score: what is scored does not see them.

    Args:
        what: whose scores these are.
        scores: by parameter.
        before: what there was.
        after: what stays.
        of: what the masks are of.
    """
    gone = [name for name, mask in before.items() if mask.any() and not after[name].any()]
    unseen = [name for name in gone if len(scores[name].cpu()[before[name]].unique()) == 1 < before[name].sum()]
    if unseen:
        warnings.warn(
            f"{what} is equal for all weights of {', '.join(unseen)}, and the mask of {of} keeps none of them. A score"
            " does not see layers that take no part in what it looks at, as those that only the training step uses, or"
            " only training mode. Exclude them to keep them.",
            stacklevel=3,
        )


@dataclass(frozen=True, order=True)
class Tied:
    """How much of a mask position alone decided.

    Args:
        share: of the weights that stay.
        names: the parameters that they are in.
    """

    share: float = 0.0
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, counts: Mapping[str, int], masks: Masks) -> Tied:
        """What `counted` found in the choice of these masks."""
        names = tuple(name for name in masks if counts.get(name))
        return cls(sum(counts[name] for name in names) / max(1, masks.kept), names)

    def say(self, what: str, of: str, advice: str = _OTHER_SCORE) -> bool:
        """Warn where that is more than chance would leave to it; whether it is.

        Args:
            what: whose values were equal.
            of: what the mask is of.
            advice: why that may be, and what can be done.
        """
        if self.share <= _WORTH_A_WORD:
            return False
        warnings.warn(
            f"{what} is equal for many weights: position alone decided {percent(self.share)} of the mask of {of}, in"
            f" {', '.join(self.names)}. {advice}",
            stacklevel=3,
        )
        return True
