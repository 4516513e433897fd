"""How much goes each round and from where: a pure function from scores and masks to the next masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from lottery.masks import Masks
from lottery.prunable import matching
from lottery.selection import smallest


@dataclass(frozen=True)
class Pruning:
    """What is pruned after each round.

    Exactly ``round(amount * surviving)`` weights of each pool go, those of the smallest magnitude, ties by position.
    A pool is all prunable weights (scope "global") or one parameter (scope "layerwise").

    Args:
        amount: fraction of the surviving weights to remove each round, in (0, 1).
        scope: "global" compares magnitudes over all layers, "layerwise" within each.
        groups: glob pattern to amount, for parameters with a rate of their own. A parameter belongs to the first
            pattern that matches it; the others share `amount`. Frankle & Carbin (2019, appendix G) prune the output
            layer of LeNet at half the rate: ``Pruning(0.2, scope="layerwise", groups={"fc3.weight": 0.1})``.
        densities: instead of `amount`, the density of rounds 1, 2, ...: falling values in (0, 1).
        include: glob patterns of the parameters to prune; default as in `prunable_parameters`.
        exclude: glob patterns of parameters to leave alone.
        allow_empty: go on when a parameter loses its last weight; otherwise that stops the run.

    Raises:
        ValueError: an amount or density is outside (0, 1), densities do not fall, or densities and groups are mixed.

    Example:
        >>> masks = Masks({"w": torch.tensor([True, True, True, True])})
        >>> Pruning(0.5).next_masks({"w": torch.tensor([4.0, 1.0, 3.0, 2.0])}, masks, round=1)["w"].tolist()
        [True, False, True, False]

    Source: iterative magnitude pruning, Frankle & Carbin, "The Lottery Ticket Hypothesis", ICLR 2019, section 2;
    Han et al., "Learning both Weights and Connections", NeurIPS 2015.
    """

    amount: float = 0.2
    scope: Literal["global", "layerwise"] = "global"
    groups: Mapping[str, float] = field(default_factory=dict)
    densities: Sequence[float] | None = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    allow_empty: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", dict(self.groups))
        object.__setattr__(self, "include", _patterns("include", self.include))
        object.__setattr__(self, "exclude", _patterns("exclude", self.exclude))
        _check_fraction("amount", self.amount)
        for pattern, amount in self.groups.items():
            _check_fraction(f"groups[{pattern!r}]", amount)
        if self.scope not in ("global", "layerwise"):
            raise ValueError(
                f"scope={self.scope!r}; the scopes are 'global' and 'layerwise'"
            )
        if self.densities is not None:
            if isinstance(self.densities, (int, float)):
                raise ValueError(
                    f"densities={self.densities!r} must be a list: the density of each round"
                )
            object.__setattr__(self, "densities", tuple(self.densities))
            for density in self.densities:
                _check_fraction("densities", density)
            if list(self.densities) != sorted(set(self.densities), reverse=True):
                raise ValueError(
                    f"densities={list(self.densities)} must fall from round to round"
                )
            if self.groups:
                raise ValueError(
                    "densities and groups cannot be combined: give amounts, or one density per round"
                )

    @classmethod
    def of(
        cls, value: float | Sequence[float] | Mapping[str, Any] | Pruning
    ) -> Pruning:
        """A fraction, a list of densities or a mapping of arguments, as a `Pruning`."""
        if isinstance(value, Pruning):
            return value
        if isinstance(value, Mapping):
            return cls(**value)
        if isinstance(value, Sequence) and not isinstance(value, str):
            return cls(densities=value)
        return cls(amount=value)

    def pools(self, names: Sequence[str]) -> list[tuple[list[str], float]]:
        """The parameters compared with each other, and the amount of each such pool.

        Raises:
            ValueError: a pattern of `groups` matches nothing.
        """
        amounts = dict.fromkeys(names, self.amount)
        members: dict[str, list[str]] = {"": list(names)}
        for pattern in reversed(list(self.groups)):
            found = matching(pattern, names, what="groups")
            amounts.update(dict.fromkeys(found, self.groups[pattern]))
            members = {
                key: [n for n in group if n not in found]
                for key, group in members.items()
            }
            members[pattern] = found
        if self.scope == "layerwise":
            return [([name], amounts[name]) for name in names]
        return [(group, amounts[group[0]]) for group in members.values() if group]

    def next_masks(
        self, scores: Mapping[str, Tensor], masks: Masks, round: int
    ) -> Masks:
        """The masks of `round`, from the scores of the trained weights and the masks they were trained under.

        Args:
            scores: parameter name to tensor of the parameter's shape; high = keep.
            masks: the masks of round - 1. What they pruned stays pruned.
            round: 1, 2, ...; it picks from `densities`.

        Raises:
            ValueError: a score is NaN or infinite, or a parameter would lose its last weight.
        """
        for name in masks:
            if not torch.isfinite(scores[name][masks[name]]).all():
                raise ValueError(
                    f"{name} has NaN or infinite values at the end of round {round - 1}, so its weights cannot be"
                    " ranked. What is finished is stored. Lower the learning rate or clip gradients, in a new dirpath."
                )
        target = None if self.densities is None else self.densities[round - 1]
        following: dict[str, Tensor] = {}
        for names, amount in self.pools(list(masks)):
            following.update(_prune_pool(names, amount, target, scores, masks))
        if not self.allow_empty:
            for name, mask in following.items():
                if not mask.any():
                    raise ValueError(
                        f"pruning for round {round} would remove the last weights of {name}, which cuts the network"
                        " there (layer collapse). The rounds so far are stored. Stop at fewer rounds, use"
                        " scope='layerwise', exclude the layer, or set allow_empty=True."
                    )
        return Masks({name: following[name] for name in masks})


def _prune_pool(
    names: list[str],
    amount: float,
    density: float | None,
    scores: Mapping[str, Tensor],
    masks: Masks,
) -> dict[str, Tensor]:
    surviving = sum(int(masks[name].sum()) for name in names)
    if density is None:
        remove = round(amount * surviving)
    else:
        prunable = sum(masks[name].numel() for name in names)
        remove = max(0, surviving - round(density * prunable))
    removed = smallest(
        [scores[name] for name in names], remove, [masks[name] for name in names]
    )
    return {
        name: masks[name] & ~gone for name, gone in zip(names, removed, strict=True)
    }


def _patterns(what: str, patterns: Sequence[str] | str) -> tuple[str, ...]:
    patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern:
            raise ValueError(
                f"{what} has an empty pattern; write a glob such as 'fc*.weight'"
            )
    return patterns


def _check_fraction(name: str, value: Any) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 0 < value < 1
    ):
        raise ValueError(
            f"{name}={value!r} must be a fraction between 0 and 1, both excluded"
        )
