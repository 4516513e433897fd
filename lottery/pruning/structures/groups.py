"""Weights that go together, and the choice of which groups go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lottery.masks.masks import Masks
from lottery.masks.selection import smallest
from lottery.pruning.ties import note

Reduce = Literal["sum", "mean", "l2"]
Pool = tuple[Sequence[str], float]


@dataclass(frozen=True, eq=False)
class Groups:
    """Which groups each weight belongs to.

    A weight that belongs to several, as to an output channel by its row and to an input channel by its column, goes
    with the first of them that goes. A group may have weights in several parameters. Its home is the first parameter
    that names it in its first tensor, or else in a later one.

    Args:
        ids: parameter name to int64 tensors that broadcast to the parameter's shape, such as (out, 1) for rows and
            (1, in) for columns. They hold group numbers from 0; -1 is no group. A weight in no group stays.

    Example:
        >>> Groups({"w": (torch.tensor([[0], [1]]),)}).count
        2
    """

    ids: Mapping[str, tuple[Tensor, ...]]

    @classmethod
    def consecutive(cls, ids: Mapping[str, Tensor]) -> Groups:
        """One tensor of numbers from 0 for each parameter, shifted so that no two parameters share a group."""
        shifted, start = {}, 0
        for name, own in ids.items():
            shifted[name] = (own + start,)
            start += int(own.max()) + 1
        return cls(shifted)

    @property
    def count(self) -> int:
        """How many groups there are."""
        return 1 + max((int(t.max()) for own in self.ids.values() for t in own), default=-1)

    def homes(self) -> Tensor:
        """The position in `ids` of each group's home, shape (count,)."""
        order = sorted(
            (depth, position, t) for position, own in enumerate(self.ids.values()) for depth, t in enumerate(own)
        )
        homes = torch.full((self.count + 1,), -1)
        for _, position, t in reversed(order):
            homes[t.flatten()] = position  # -1 writes to the entry that is cut off
        return homes[:-1]


def check_reduce(reduce: str) -> None:
    """Make sure that there is such a way to sum up a group.

    Raises:
        ValueError: there is not.
    """
    if reduce not in get_args(Reduce):
        raise ValueError(f"reduce={reduce!r}; the ways are {', '.join(map(repr, get_args(Reduce)))}")


def prune_groups(
    scores: Mapping[str, Tensor],
    masks: Masks,
    groups: Groups,
    pools: Sequence[Pool],
    *,
    reduce: Reduce = "sum",
    allow_empty: bool = False,
) -> Masks:
    """Remove whole groups: exactly ``round(amount * surviving)`` of each pool, those of the smallest score.

    A group survives while one of its weights does, and its score is that of its surviving weights. Ties go to the
    lowest number. What is counted is groups: groups differ in size, and those that cross share weights, so the fraction
    of weights that goes is near the amount and not equal to it.

    Args:
        scores: parameter name to tensor of the parameter's shape; high = keep.
        masks: what they pruned stays pruned.
        groups: which weights go together.
        pools: names of parameters, and the fraction of their groups that goes. A group counts where it has its home.
        reduce: a group's score is the "sum", the "mean" or the "l2" norm of those of its surviving weights.
        allow_empty: a parameter may lose its last weight. Otherwise its best group, or where groups cross the groups of
            the weight whose worst group is best, stays for the sake of one weight, and others go instead.

    Returns:
        Masks nested in `masks`.

    Raises:
        ValueError: a pool has too few groups that may go, a parameter has no scores, or `reduce` is unknown.

    Example:
        >>> rows = Groups({"w": (torch.tensor([[0], [1]]),)})
        >>> w = torch.tensor([[1.0, 5.0], [2.0, 3.0]])
        >>> prune_groups({"w": w}, Masks.ones({"w": w}), rows, [(["w"], 0.5)])["w"].tolist()
        [[True, True], [False, False]]
    """
    check_reduce(reduce)
    for what, given in (("scores", scores), ("masks", masks)):
        if missing := [name for name in groups.ids if name not in given]:
            raise ValueError(f"there are groups of {missing}, but no {what}")
    worth, sizes = _worth(scores, masks, groups, reduce)
    alive = sizes > 0
    free = alive if allow_empty else alive & ~_needed(worth, masks, groups)
    homes = groups.homes()
    position = {name: i for i, name in enumerate(groups.ids)}
    gone = torch.zeros(len(worth), dtype=torch.bool)
    equal = torch.zeros(len(worth) + 1, dtype=torch.bool)  # number -1 finds the last entry
    for names, amount in pools:
        here = torch.tensor([position[n] for n in names if n in position], dtype=torch.int64)
        pool = torch.isin(homes, here)
        surviving = int((pool & alive).sum())
        count = round(amount * surviving)
        candidates = pool & free
        if count > int(candidates.sum()):
            raise ValueError(
                f"{count} of {surviving} groups of {', '.join(names)} are to go, but only {int(candidates.sum())} can"
                " without emptying a layer. Prune less, exclude the smallest layers, or let layers go empty: Pruning's"
                " collapse='warn', or allow_empty=True here."
            )
        chosen = smallest([worth], count, [candidates])[0]
        gone |= chosen
        if count:
            equal[:-1] |= pool & alive & ~chosen & (worth == worth[chosen].max())
    stays = torch.cat([~gone, gone.new_ones(1)])
    following = dict(masks)
    for name, own in groups.ids.items():
        for ids in own:
            following[name] = following[name] & stays[ids]
        by_position = [equal[ids].expand(masks[name].shape) for ids in own]
        note({name: int((following[name] & torch.stack(by_position).any(0)).sum())})
    return Masks(following)


def _worth(scores: Mapping[str, Tensor], masks: Masks, groups: Groups, reduce: Reduce) -> tuple[Tensor, Tensor]:
    """The score of each group, in double precision, and how many of its weights survive."""
    total = torch.zeros(groups.count + 1, dtype=torch.float64)
    sizes = torch.zeros(groups.count + 1, dtype=torch.int64)
    for name, own in groups.ids.items():
        values = scores[name].detach().cpu().double()
        if reduce == "l2":
            values = values.square()
        for depth, ids in enumerate(own):
            members = masks[name]
            for other in own[:depth]:
                members = members & (ids != other)  # no weight counts twice in a group
            # sums over the broadcast dimensions first: ids are few, weights are many
            part = values.where(members, 0).sum_to_size(ids.shape)
            total.index_add_(0, ids.flatten() + 1, part.flatten())
            count = members.long().sum_to_size(ids.shape)
            sizes.index_add_(0, ids.flatten() + 1, count.flatten())
    total, sizes = total[1:], sizes[1:]
    if reduce == "mean":
        total = total / sizes.clamp(min=1)
    return total.sqrt() if reduce == "l2" else total, sizes


def _needed(worth: Tensor, masks: Masks, groups: Groups) -> Tensor:
    """The groups of one surviving weight of each parameter: that whose worst group is the best."""
    needed = torch.zeros(len(worth) + 1, dtype=torch.bool)
    value = torch.cat([worth, worth.new_full((1,), torch.inf)])
    for name, own in groups.ids.items():
        mask = masks[name]
        if not mask.any():
            continue
        worst = value[own[0]]
        for ids in own[1:]:
            worst = torch.minimum(worst, value[ids])
        # weights along a dimension in which no group ends share their groups
        shared = [d for d, n in enumerate(worst.shape) if n < mask.shape[d]]
        alive = mask.amax(shared, keepdim=True) if shared else mask
        best = worst.masked_fill(~alive, -torch.inf).flatten().argmax()
        for ids in own:
            needed[ids.expand(worst.shape).flatten()[best]] = True
    return needed[:-1]
