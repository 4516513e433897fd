"""No structure: each weight for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from lottery.masks.masks import Masks
from lottery.masks.selection import smallest
from lottery.pruning.structures.groups import Pool
from lottery.pruning.structures.registry import register
from lottery.pruning.ties import note_choice


@register("element")
@dataclass(frozen=True)
class Element:
    """Each weight for itself: exactly ``round(amount * surviving)`` of each pool go, ties by position.

    Source: LeCun, Denker & Solla, "Optimal Brain Damage", NeurIPS 1989.

    Example:
        >>> import torch
        >>> w = torch.tensor([4.0, 1.0, 3.0, 2.0])
        >>> Element().next_masks({"w": w}, Masks.ones({"w": w}), [(["w"], 0.5)])["w"].tolist()
        [True, False, True, False]
    """

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
        """The masks after one pruning. A parameter may lose its last weight, for the caller to refuse."""
        following = dict(masks)
        for names, amount in pools:
            pool = [masks[name] for name in names]
            surviving = sum(int(mask.sum()) for mask in pool)
            count = round(amount * surviving)
            gone = smallest([scores[name] for name in names], count, pool)
            following.update({name: masks[name] & ~marks for name, marks in zip(names, gone, strict=True)})
            note_choice(scores, {name: masks[name] for name in names}, following)
        return Masks(following)
