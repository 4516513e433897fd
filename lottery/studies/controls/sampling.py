"""Random masks with as many weights as the ticket: its own masks shuffled, or drawn at densities of their own.

With one seed, the mask of a layer with fewer weights is nested in that with more, and "random" has the masks of
"shuffle": arms and rounds differ in what is asked, and not in luck.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lottery.masks.inspection import fan_in
from lottery.masks.masks import Masks
from lottery.pruning.scopes import erdos_renyi
from lottery.studies.controls.registry import register
from lottery.studies.controls.starting import check_fresh
from lottery.studies.controls.states import State, generator, origin, with_masks
from lottery.tickets.ticket import Ticket


@register("shuffle", rules_out="masks")
def shuffle(ticket: Ticket, seed: int = 0) -> Ticket:
    """Mask shuffled within each layer, start weights as they were: do the layers' densities say it all?

    Raises:
        ValueError: the start weights of what is pruned were not kept.

    Source: "randomly shuffling", Frankle et al., "Pruning Neural Networks at Initialization: Why Are We Missing the
    Mark?", ICLR 2021, section 5.

    Example:
        >>> ticket = Ticket(Masks({"w": torch.tensor([[True, False], [True, False]])}), {})
        >>> shuffle(ticket, seed=1).masks["w"].sum()
        tensor(2)
    """
    masks = _drawn(ticket.masks, _kept(ticket.masks), seed)
    return with_masks(ticket, masks, "shuffle", seed)


@register("shuffle-fan-in", rules_out="masks")
def shuffle_fan_in(ticket: Ticket, seed: int = 0) -> Ticket:
    """Mask shuffled within each unit's row, start weights as they were: do the units' fan-ins say it all?

    A unit is an index of a parameter's first dimension; it keeps as many weights as it had. Parameters of one dimension
    stay as they are.

    Raises:
        ValueError: the start weights of what is pruned were not kept.

    Source: as `shuffle`, within units.
    """
    masks = {
        name: _draw(mask.shape, fan_in(mask), generator(seed, "rows", name)) for name, mask in ticket.masks.items()
    }
    return with_masks(ticket, Masks(masks), "shuffle-fan-in", seed)


@register("random", start="initial", rules_out="masks")
def random(ticket: Ticket, seed: int = 0, *, fresh: State) -> Ticket:
    """Random mask at the ticket's layer densities, fresh weights: is it more than a sparse network of that shape?

    Args:
        ticket: the ticket.
        seed: of the mask.
        fresh: a state dict of a newly initialised module.

    Raises:
        ValueError: `fresh` is of another architecture, or has the ticket's own weights.

    Source: "randomly sampled", Frankle & Carbin, "The Lottery Ticket Hypothesis", ICLR 2019, figure 1.
    """
    return _random(ticket, _kept(ticket.masks), "random", seed, fresh)


@register("random-erk", start="initial", rules_out="masks")
def random_erk(ticket: Ticket, seed: int = 0, *, fresh: State) -> Ticket:
    """Random mask at Erdős–Rényi-kernel densities, fresh weights: does a good rule for densities do as well?

    As many weights in all as the ticket has. Parameters of one dimension, which have no such density, keep their count.

    Args:
        ticket: the ticket.
        seed: of the mask.
        fresh: a state dict of a newly initialised module.

    Raises:
        ValueError: `fresh` is of another architecture, or has the ticket's own weights.

    Source: Evci et al., "Rigging the Lottery", ICML 2020, section 3; as a control: Liu et al., "The Unreasonable
    Effectiveness of Random Pruning", ICLR 2022.
    """
    masks, counts = ticket.masks, _kept(ticket.masks)
    shapes = {n: m.shape for n, m in masks.items() if m.ndim > 1 and m.numel()}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    kept = sum(counts[name] for name in shapes)
    if kept:
        density = erdos_renyi(shapes, kept / sum(sizes.values()))
        counts |= _apportioned({n: density[n] * sizes[n] for n in sizes}, sizes, kept)
    return _random(ticket, counts, "random-erk", seed, fresh)


@register("random-uniform", start="initial", rules_out="masks")
def random_uniform(ticket: Ticket, seed: int = 0, *, fresh: State) -> Ticket:
    """Random mask at one density for all layers, fresh weights: do the layers' densities matter?

    As many weights in all as the ticket has. A layer of few weights may lose them all.

    Args:
        ticket: the ticket.
        seed: of the mask.
        fresh: a state dict of a newly initialised module.

    Raises:
        ValueError: `fresh` is of another architecture, or has the ticket's own weights.

    Source: Evci et al., "Rigging the Lottery", ICML 2020, section 3 (uniform).
    """
    masks = ticket.masks
    sizes = {name: mask.numel() for name, mask in masks.items()}
    wanted = {name: masks.density * size for name, size in sizes.items()}
    counts = _apportioned(wanted, sizes, masks.kept)
    return _random(ticket, counts, "random-uniform", seed, fresh)


def _random(ticket: Ticket, counts: Mapping[str, int], control: str, seed: int, fresh: State) -> Ticket:
    check_fresh(ticket, fresh)
    masks = _drawn(ticket.masks, counts, seed)
    return Ticket(masks, fresh, origin(ticket, control, seed))


def _kept(masks: Masks) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks.items()}


def _drawn(masks: Masks, counts: Mapping[str, int], seed: int) -> Masks:
    """Masks of the same shapes with `counts` weights each."""
    return Masks(
        {
            name: _draw(mask.shape, torch.tensor([counts[name]]), generator(seed, "mask", name))
            for name, mask in masks.items()
        }
    )


def _draw(shape: torch.Size, counts: Tensor, stream: torch.Generator) -> Tensor:
    """A random mask whose weights, cut into as many rows as there are counts, keep so many of each row."""
    rows = len(counts)
    values = torch.rand(rows, math.prod(shape) // max(1, rows), generator=stream, dtype=torch.float64)
    order = values.argsort(dim=1, stable=True)
    return (order < counts[:, None]).reshape(shape)


def _apportioned(wanted: Mapping[str, float], sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Whole numbers near `wanted`, none above its size, that sum to `total`: the largest remainders are rounded up."""
    counts = {name: min(sizes[name], math.floor(w)) for name, w in wanted.items()}
    room = [name for name in counts if counts[name] < sizes[name]]
    # neither the order of parameters nor the last digit decides between equal remainders
    room.sort(key=lambda name: (round(counts[name] - wanted[name], 9), name))
    for name in room[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
