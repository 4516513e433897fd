"""How much goes from where: which weights compete with each other, and how many of them a round leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from torch import Tensor

from lottery.masks.masks import Masks
from lottery.masks.prunable import matching
from lottery.pruning.scopes import erdos_renyi

LayerScope = Literal["global", "layerwise", "uniform", "erdos-renyi", "erk"]
Scope = Literal[LayerScope, "rows"]
_BY_AMOUNT = ("global", "layerwise", "rows")  # scopes that do not say themselves how much goes from each layer


@dataclass(frozen=True)
class Amounts:
    """Amount, scope, groups and densities, as `lottery.Pruning` describes them.

    Raises:
        ValueError: an amount or density is outside (0, 1), densities do not fall, or arguments exclude each other.

    Example:
        >>> import torch
        >>> masks = Masks.ones({"a": torch.zeros(4), "b": torch.zeros(6)})
        >>> Amounts(0.5).pools(masks, number=1), Amounts(0.5, "layerwise").pools(masks, number=1)
        ([(['a', 'b'], 5)], [(['a'], 2), (['b'], 3)])
    """

    amount: float | None = None
    scope: Scope = "global"
    groups: Mapping[str, float] = field(default_factory=dict)
    densities: Sequence[float] | Mapping[str, Sequence[float]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", dict(self.groups))
        object.__setattr__(self, "densities", _densities(self.densities))
        if self.amount is not None and self.densities is not None:
            raise ValueError(
                f"amount={self.amount!r} and densities both say how much goes: give one of them. None takes an amount"
                " back (null in a recipe and on the command line)."
            )
        if self.amount is None:
            object.__setattr__(self, "amount", 0.2)
        check_fraction("amount", self.amount)
        for pattern, amount in self.groups.items():
            check_fraction(f"groups[{pattern!r}]", amount)
        check_choice("scope", self.scope, get_args(Scope))
        if self.densities is not None and self.groups:
            raise ValueError("densities and groups cannot be combined: give amounts, or densities by pattern")
        if self.groups and self.scope not in _BY_AMOUNT:
            raise ValueError(f"groups give amounts to layers, and so does scope={self.scope!r}: use one of them")
        if isinstance(self.densities, Mapping) and self.scope not in ("layerwise", "rows"):
            raise ValueError(f"densities by pattern are per layer: use scope='layerwise', not {self.scope!r}")

    def of_each(self, names: Sequence[str]) -> dict[str, float] | None:
        """The amount for each parameter; None where densities say how much goes, or the scope does.

        Raises:
            ValueError: a pattern of `groups` matches nothing.
        """
        if self.densities is not None or self.scope not in _BY_AMOUNT:
            return None
        return {n: a for group, a in self._by_amount(names) for n in group}

    @property
    def _amount(self) -> float:
        assert self.amount is not None
        return self.amount

    @property
    def rounds(self) -> int | None:
        """The number of rounds that `densities` are for, or None."""
        if isinstance(self.densities, Mapping):
            return min(map(len, self.densities.values()))
        return None if self.densities is None else len(self.densities)

    def pools(self, masks: Masks, number: int) -> list[tuple[list[str], int]]:
        """The parameters that compete with each other, and how many weights of each such pool `round` leaves.

        Args:
            masks: the masks of round - 1.
            number: 1, 2, ...; it picks from `densities`.

        Raises:
            ValueError: a pattern matches nothing, or a pattern is missing for a parameter.
        """
        if self.scope == "rows":
            return [([name], int(left.sum())) for name, left in self.rows(masks, number).items()]
        names = list(masks)
        kept = {name: int(mask.sum()) for name, mask in masks.items()}
        sizes = {name: mask.numel() for name, mask in masks.items()}
        if isinstance(self.densities, Mapping):
            density = self._density_of_each(names, number)
            return [([n], _at_most(kept[n], density[n] * sizes[n])) for n in names]
        if self.densities is not None:
            target = self.densities[number - 1]
            if self.scope == "layerwise":
                return [([n], _at_most(kept[n], target * sizes[n])) for n in names]
            whole = _at_most(masks.kept, target * masks.total)
        else:
            pools = self._by_amount(names)
            if self.scope in ("global", "layerwise"):
                alive = [sum(kept[n] for n in group) for group, _ in pools]
                return [(group, _without(amount, count)) for (group, amount), count in zip(pools, alive, strict=True)]
            whole = _without(self._amount, masks.kept)
        if self.scope == "global":
            return [(names, whole)]
        density = self._density_by_scope(masks, whole / max(1, masks.total))
        return [([n], _at_most(kept[n], density[n] * sizes[n])) for n in names]

    def rows(self, masks: Masks, number: int) -> dict[str, Tensor]:
        """How many weights of each output row `round` leaves, each parameter's of shape (out,); for scope="rows".

        Args:
            masks: the masks of round - 1.
            number: 1, 2, ...; it picks from `densities`.

        Raises:
            ValueError: a parameter has no rows, a pattern matches nothing, or is missing for a parameter.

        Example:
            >>> import torch
            >>> Amounts(0.5, "rows").rows(Masks.ones({"a": torch.zeros(2, 6)}), number=1)
            {'a': tensor([3, 3])}
        """
        for name, mask in masks.items():
            if mask.ndim < 2:
                raise ValueError(f"{name} has shape {tuple(mask.shape)}; scope='rows' needs (out, in, *kernel)")
        kept = {name: mask.flatten(1).sum(1) for name, mask in masks.items()}
        if self.densities is None:
            of_each = self.of_each(list(masks)) or {}
            return {name: count - (of_each[name] * count.double()).round().long() for name, count in kept.items()}
        density = (
            self._density_of_each(list(masks), number)
            if isinstance(self.densities, Mapping)
            else dict.fromkeys(masks, self.densities[number - 1])
        )
        return {n: count.clamp(max=round(density[n] * masks[n][0].numel())) for n, count in kept.items()}

    def _by_amount(self, names: Sequence[str]) -> list[tuple[list[str], float]]:
        amounts: dict[str, float] = dict.fromkeys(names, self._amount)
        members: dict[str, list[str]] = {"": list(names)}
        for pattern in reversed(list(self.groups)):
            found = matching(pattern, names, what="groups")
            amounts.update(dict.fromkeys(found, self.groups[pattern]))
            members = {key: [n for n in group if n not in found] for key, group in members.items()}
            members[pattern] = found
        if self.scope in ("layerwise", "rows"):
            return [([name], amounts[name]) for name in names]
        return [(group, amounts[group[0]]) for group in members.values() if group]

    def _density_of_each(self, names: Sequence[str], number: int) -> dict[str, float]:
        assert isinstance(self.densities, Mapping)
        found: dict[str, float] = {}
        for pattern, densities in self.densities.items():
            for name in matching(pattern, names, what="densities"):
                found.setdefault(name, densities[number - 1])
        if missing := [name for name in names if name not in found]:
            raise ValueError(
                f"densities has no pattern for {missing}; add one, such as '*', or exclude these parameters"
            )
        return found

    def _density_by_scope(self, masks: Masks, density: float) -> dict[str, float]:
        if self.scope == "uniform" or density == 0:
            return dict.fromkeys(masks, density)
        shapes = {name: mask.shape for name, mask in masks.items()}
        return erdos_renyi(shapes, density, kernel=self.scope == "erk")


def _without(amount: float, count: int) -> int:
    return count - round(amount * count)


def _at_most(kept: int, wanted: float) -> int:
    return min(kept, round(wanted))


def _densities(densities: object) -> tuple[float, ...] | dict[str, tuple[float, ...]] | None:
    if densities is None:
        return None
    if densities in ([], (), {}):
        raise ValueError(f"densities={densities!r} is empty: give one for each round")
    if isinstance(densities, Mapping):
        return {pattern: _falling(values) for pattern, values in densities.items()}
    return _falling(densities)


def _falling(densities: object) -> tuple[float, ...]:
    if not isinstance(densities, Sequence) or isinstance(densities, str):
        raise ValueError(  # noqa: TRY004 (a value of the user's, as the others)
            f"densities={densities!r} must be a list: the density of each round"
        )
    for density in densities:
        check_fraction("densities", density)
    if list(densities) != sorted(set(densities), reverse=True):
        raise ValueError(f"densities={list(densities)} must fall from round to round")
    return tuple(densities)


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r}; choose from {', '.join(map(repr, choices))}")


def check_fraction(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise ValueError(f"{name}={value!r} must be a fraction between 0 and 1, both excluded")
