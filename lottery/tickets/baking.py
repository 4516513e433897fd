"""Pruning made permanent: zeros in the weights of a plain module, and back from these zeros to masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from torch import Tensor, nn

from lottery.foundations.names import parameters_of
from lottery.masks.masks import Masks
from lottery.masks.prunable import prunable_parameters

M = TypeVar("M", bound=nn.Module)


def bake(module: M, masks: Mapping[str, Tensor]) -> M:
    """Set the pruned weights of a module to zero, in place and for good; returns the module.

    The module stays what it is: its class, its parameters and the keys of its state dict. It computes the same as
    inside ``ticket.masked(module)``, bit for bit. Training it further moves the zeros too; to train a ticket, use
    ``LotteryTicket(ticket=...)``.

    Args:
        module: any module, also one compiled by `torch.compile`.
        masks: parameter name to boolean tensor of its shape, True = kept.

    Raises:
        ValueError: the masks do not fit, or they leave nothing of a unit under weight norm. Nothing was changed then.

    Example:
        >>> import torch
        >>> net = nn.Linear(2, 2, bias=False)
        >>> net = bake(net, {"weight": torch.eye(2, dtype=torch.bool)})
        >>> int((net.weight == 0).sum())
        2
    """
    masks = Masks(masks)
    parameters = parameters_of(module)
    masks.check(parameters)
    if undefined := list(_without_direction(masks, parameters)):
        raise ValueError(
            f"weight norm divides by the length of a unit's weights, and nothing is left of: {', '.join(undefined)}."
            " Their output would be NaN. Keep a weight of each, or take the weight norm away before pruning:"
            " torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
        )
    masks.apply(parameters)
    return module


def baked_masks(module: nn.Module, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Masks:
    """Masks of a module's prunable weights that are not zero.

    Those of a baked module are the masks that were baked into it, less any kept weight that happens to be zero.

    Args:
        module: any module.
        include: glob patterns of parameters to take; see `prunable_parameters`.
        exclude: glob patterns of those to leave out.

    Raises:
        ValueError: a pattern matches nothing, or nothing is prunable.

    Example:
        >>> import torch
        >>> net = bake(nn.Linear(2, 2), {"weight": torch.eye(2, dtype=torch.bool)})
        >>> baked_masks(net)["weight"].tolist()
        [[True, False], [False, True]]
    """
    parameters = prunable_parameters(module, include, exclude)
    return Masks({name: p.detach() != 0 for name, p in parameters.items()})


def _without_direction(masks: Masks, parameters: Mapping[str, Tensor]) -> Iterator[str]:
    """The units under weight norm that no weight is left of, in words."""
    for name, mask in masks.items():
        for direction, magnitude in ((".original1", ".original0"), ("_v", "_g")):
            sizes = parameters.get(f"{name.removesuffix(direction)}{magnitude}")
            if not name.endswith(direction) or sizes is None:
                continue
            axes = [axis for axis in range(mask.ndim) if sizes.ndim == 0 or sizes.shape[axis] == 1]
            empty = int((~mask.any(dim=axes)).sum()) if axes else 0
            if empty:
                yield f"{empty} units of {name}"
