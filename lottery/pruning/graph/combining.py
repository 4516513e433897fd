"""How functions label what they make of features: by what meets, moves or is brought together in one element."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from lottery.foundations.tensors_in import tensors_in
from lottery.pruning.graph.calls import Use
from lottery.pruning.graph.functions import CHOICES, FACTORS, PER_CHANNEL, POOLS, pads_with_constants
from lottery.pruning.graph.labelling import Labelling, along, nothing
from lottery.pruning.graph.labels import FIXED, NOTHING, bare, ends, lean, pairs, varies
from lottery.pruning.graph.positions import Positions, unit_sizes


def moved(seen: Labelling, use: Use) -> list[Tensor] | None:
    """Elements that change places take their labels along: the function itself moves the labels."""
    seen.label_elements(use)
    if pads_with_constants(use.name, use.args, use.kwargs):
        return None
    args, kwargs = seen.swap(use.args), seen.swap(use.kwargs)
    found = [lean(labels) for labels in tensors_in(use.func(*args, **kwargs)) if labels.is_floating_point()]
    if (x := seen.first_features(use)) is not None:
        reason = f"{use.name.strip('_')} in {seen.path[-1]} has sizes or positions written into the code"
        positions = Positions(seen.labels, seen.because(reason))
        name, args = use.name, use.args[1:]
        if name in ("view_as", "reshape_as"):
            name, args = "view", unit_sizes(seen.of[args[0]]) if seen.features(args[0]) else list(args[0].shape)
        positions.expect(use.func, name, (seen.of[x], *args), use.kwargs, found[0] if found else None)
    return found


def elementwise(seen: Labelling, use: Use) -> list[Tensor] | None:
    """What meets in one element hangs together."""
    seen.label_elements(use)
    output = use.outputs[0]
    if seen.writes_into_constants(use):
        return None
    units, parts = _operands(seen, use)
    if numbers := [x for x in use.given if not x.is_floating_point()]:
        if not all(_spans_no_units(x.shape, units) for x in numbers):
            return None  # they are of a fixed size
        seen.note_sized(use, zeros=bool(CHOICES.fullmatch(use.name)))
    units = _without_factors(seen, use, units)
    joined = nothing(output)
    for labels in units:
        joined = seen.labels.meet(joined, labels)
    if not units or joined.ndim != output.ndim:
        return None
    joined = joined.expand(output.shape)
    for labels in parts:
        meet_elements(seen, labels, joined)
    _fix_beside_blanks(seen, units, joined)
    if use.name == "instance_norm":
        return [seen.labels.merge(joined, range(2, joined.ndim))]
    return [joined]


def gated(seen: Labelling, use: Use) -> list[Tensor] | None:
    """One half, times a function of the other."""
    x = seen.first_features(use)
    dim = use.kwargs.get("dim", use.args[1] if len(use.args) > 1 else -1)
    if x is None or not isinstance(dim, int):
        return None
    one, other = seen.of[x].chunk(2, dim)
    return [seen.labels.meet(one, other)]


def pooled(seen: Labelling, use: Use) -> list[Tensor] | None:
    """The places of a channel are one."""
    x = seen.first_features(use)
    pool = POOLS.fullmatch(use.name)
    if x is None or pool is None:
        return None
    spatial = int(pool[1] or x.ndim - 2)
    return [seen.labels.merge(seen.of[x], range(x.ndim - spatial, x.ndim))]


def reduced(seen: Labelling, use: Use) -> list[Tensor] | None:
    """What is reduced to one element is one."""
    x = seen.first_features(use)
    dim = use.kwargs.get("dim", use.args[1] if len(use.args) > 1 else None)
    if x is None or not isinstance(dim, (int, list, tuple)):
        return None
    dims = [dim] if isinstance(dim, int) else dim
    return [seen.labels.merge(seen.of[x], dims).reshape(use.outputs[0].shape)]


def together_along(seen: Labelling, use: Use) -> list[Tensor] | None:
    """What a softmax or the like computes from each other goes together; where all units are, it mixes them."""
    x = seen.first_features(use)
    place = 2 if use.name == "normalize" else 1
    default = 1 if use.name == "normalize" else None
    dim = use.kwargs.get("dim", use.args[place] if len(use.args) > place else default)
    if x is None or not isinstance(dim, int):
        return None
    labels = seen.of[x]
    others = [d for d in range(labels.ndim) if d != dim % labels.ndim]
    if varies(labels, dim) and not any(varies(labels, d) for d in others):
        return None
    return [seen.labels.merge(labels, [dim])]


def gathered(seen: Labelling, use: Use) -> list[Tensor] | None:
    """Places along a dimension are chosen or added to, by an index: the units along others stay apart."""
    dim: Any = use.kwargs.get("dim", use.args[1] if len(use.args) > 1 else None)
    if not isinstance(dim, int) or seen.writes_into_constants(use):
        return None
    given = [x for x in use.given if seen.features(x)]
    if not given or any(x in seen.parts or varies(seen.of[x], dim) for x in given):
        return None
    seen.note_sized(use)
    joined = nothing(use.outputs[0])
    for x in given:
        joined = seen.labels.meet(joined, seen.labels.merge(seen.of[x], [dim]))
    return [joined]


def packed(seen: Labelling, use: Use) -> list[Tensor] | None:
    """Sequences of several lengths, one behind the other, or side by side with zeros behind them."""
    x = seen.first_features(use)
    places = 1 if use.name == "_pad_packed_sequence" else 2
    if x is None or any(varies(seen.of[x], d) for d in range(places)):
        return None
    if pads_with_constants(use.name, use.args, use.kwargs):
        return None
    output = use.outputs[0]
    rest = x.ndim - places
    labels = seen.labels.merge(seen.of[x], range(places)).reshape([1] * (output.ndim - rest) + list(x.shape[places:]))
    return [labels.expand(output.shape)]


def _operands(seen: Labelling, use: Use) -> tuple[list[Tensor], list[Tensor]]:
    """Labels of the features that go in, and those of elements that they are combined with."""
    output = use.outputs[0]
    units: list[Tensor] = []
    parts: list[Tensor] = []
    for x in use.given:
        if seen.features(x):
            labels = seen.of[x]
            if PER_CHANNEL.fullmatch(use.name) and x.ndim == 1 < output.ndim:
                labels = along(labels, 1, output.ndim)
            (parts if x in seen.parts else units).append(labels)
    if not units:  # elements of the module's own tensors with each other
        units = [t for t in parts if t.shape == output.shape][:1]
        parts = [t for t in parts if t is not units[0]] if units else []
    return units, parts


def _without_factors(seen: Labelling, use: Use, units: list[Tensor]) -> list[Tensor]:
    """Units without what all of them are multiplied with alike, as with a mask: it may come from outside."""
    if not FACTORS.fullmatch(use.name):
        return units
    mine = [labels for labels in units if (bare(labels) > FIXED).any()]
    if not mine or "div" in use.name and mine[0] is not units[0]:
        return units
    factors = [labels for labels in units if not (bare(labels) > FIXED).any()]
    alike = [labels for labels in factors if _spans_no_units(labels.shape, mine)]
    if alike:
        seen.note_sized(use)
    return [labels for labels in units if not any(labels is factor for factor in alike)]


def _spans_no_units(shape: torch.Size, units: Iterable[Tensor]) -> bool:
    """Whether what has this shape is alike for all units that it is combined with."""
    sizes = dict(enumerate(reversed(shape), 1))
    return all(sizes.get(d, 1) == 1 or not varies(labels, -d) for labels in units for d in range(1, labels.ndim + 1))


def meet_elements(seen: Labelling, labels: Tensor, joined: Tensor) -> None:
    """Elements of an owned tensor and the features that they are combined with."""
    seen.meets.append(pairs(labels, joined))
    element, feature = ends(seen.meets[-1:])
    _, which, times = element.unique(return_inverse=True, return_counts=True)
    alone = times[which] == 1  # no scalar that meets many
    seen.labels.tie(element[alone].double(), feature[alone].double())


def _fix_beside_blanks(seen: Labelling, units: Iterable[Tensor], joined: Tensor) -> None:
    """What zeros of a fixed size are put beside has to stay."""
    for labels in units:
        here, there = torch.broadcast_tensors(bare(labels), bare(joined))
        if (blank := (here == NOTHING) & (there != NOTHING)).any():
            seen.labels.fix(there[blank], f"{seen.path[-1]} puts zeros of a fixed size beside them")
