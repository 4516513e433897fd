"""What a structure is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from lottery.masks.masks import Masks
from lottery.pruning.structures.groups import Groups, Pool, Reduce, check_reduce, prune_groups


class Structure(Protocol):
    """Anything that makes the next masks from scores."""

    def next_masks(
        self,
        scores: Mapping[str, Tensor],
        masks: Masks,
        pools: Sequence[Pool],
        *,
        allow_empty: bool = False,
        module: nn.Module | None = None,
        example_input: Any = None,
    ) -> Masks:
        """The masks after one pruning: nested in `masks`.

        Args:
            scores: parameter name to tensor of the parameter's shape; high = keep.
            masks: what they pruned stays pruned.
            pools: names of parameters, and the fraction of what survives there that goes.
            allow_empty: a parameter may lose its last weight.
            module: the module, for structures that look at how its layers follow each other.
            example_input: what the module's `forward` takes: a tensor, a tuple, or a mapping by name; for the same
                structures.
        """
        ...


@dataclass(frozen=True)
class Grouped(ABC):
    """A structure that removes whole groups of weights; a user's own needs no more than `groups`.

    Args:
        reduce: a group's score is the "sum", the "mean" or the "l2" norm of the scores of its surviving weights.

    Raises:
        ValueError: `reduce` is none of these.

    Example:
        >>> import torch
        >>> class Rows(Grouped):
        ...     def groups(self, masks, module=None, example_input=None):
        ...         return Groups.consecutive(
        ...             {n: torch.arange(len(m)).reshape(-1, 1) for n, m in masks.items()}
        ...         )
        >>> w = torch.tensor([[1.0, 5.0], [2.0, 3.0]])
        >>> Rows().next_masks({"w": w}, Masks.ones({"w": w}), [(["w"], 0.5)])["w"].tolist()
        [[True, True], [False, False]]
    """

    reduce: Reduce = field(default="sum", kw_only=True)

    def __post_init__(self) -> None:
        check_reduce(self.reduce)

    @abstractmethod
    def groups(self, masks: Masks, module: nn.Module | None = None, example_input: Any = None) -> Groups:
        """Which weights go together."""

    def next_masks(
        self,
        scores: Mapping[str, Tensor],
        masks: Masks,
        pools: Sequence[Pool],
        *,
        allow_empty: bool = False,
        module: nn.Module | None = None,
        example_input: object = None,
    ) -> Masks:
        """The masks after one pruning, as `prune_groups` does it."""
        return prune_groups(
            scores, masks, self.groups(masks, module, example_input), pools, reduce=self.reduce, allow_empty=allow_empty
        )
