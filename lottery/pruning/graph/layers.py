"""How layers label what they make: with fresh units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lottery.pruning.graph.calls import Call, Use
from lottery.pruning.graph.functions import ARGUMENTS, PRODUCT_ARGUMENTS, PRODUCTS, is_padded, limits_norms
from lottery.pruning.graph.labelling import Labelling, along


def layer(seen: Labelling, use: Use) -> list[Tensor] | None:
    """Units that a layer takes, and fresh ones that it makes."""
    name, output = use.name, use.outputs[0]
    given = arguments_of(use)
    weight = seen.turned.get(given["weight"], given["weight"])
    table = name.startswith("embedding")
    bias = None if table else given.get("bias")
    if not _can_follow(seen, use, weight, bias):
        return None
    # of what is made
    depthwise = "transpose" in name and weight.shape[1] == 1 and len(weight) == output.shape[1 - weight.ndim]
    column = int(table or "transpose" in name or bool(PRODUCTS.fullmatch(name))) ^ (given["weight"] is not weight)
    if depthwise:
        column = 0
    spatial = 0 if table else weight.ndim - 2
    feature = output.ndim - 1 - spatial
    units = output.shape[feature]
    if weight.shape[column] != units:
        return None  # a transposed convolution in groups
    fresh = seen.labels.fresh(units)
    call = Call(seen.owned[id(weight)], None, along(fresh, column, weight.ndim), column)
    if not table:
        if not given["input"].numel():
            seen.unseen = True
            return None
        call = _taking(seen, call, given, weight, spatial)
        call = replace(call, uniform="transpose" not in name and not is_padded(given.get("padding")))
    seen.calls.append(call)
    return [along(fresh, feature, output.ndim)]


def product(seen: Labelling, use: Use) -> list[Tensor] | None:
    """A matrix of the module's own that features are multiplied with is a layer, its columns make units."""
    given = arguments_of(use)
    x, weight = given["input"], given["weight"]
    plain = weight.ndim == 2 and not seen.own([x]) and x not in seen.parts and not use.kwargs.keys() & {"beta", "alpha"}
    return layer(seen, use) if plain and seen.features(x) and seen.own([weight]) else None


def bilinear(seen: Labelling, use: Use) -> list[Tensor] | None:
    """Fresh units; those that it takes stay."""
    given = dict(zip(("input1", "input2", "weight", "bias"), use.args, strict=False)) | use.kwargs
    weight, bias = given["weight"], given.get("bias")
    if not _can_follow(seen, use, weight, bias):
        return None
    for x in (given["input1"], given["input2"]):
        if seen.features(x):
            seen.labels.fix(seen.of[x], f"{use.name} in {seen.path[-1]} is not followed back")
    fresh = seen.labels.fresh(len(weight))
    name = None if bias is None else seen.owned[id(bias)]
    seen.calls.append(Call(seen.owned[id(weight)], name, along(fresh, 0, 3), 0))
    return [along(fresh, -1, use.outputs[0].ndim)]


def arguments_of(use: Use) -> dict[str, Any]:
    """What a layer or a product is given, by the names that layers have for it."""
    own = PRODUCT_ARGUMENTS.get(use.name, {name: name for name in ARGUMENTS})
    by_name = {own.get(name, name): value for name, value in use.kwargs.items()}
    return dict(zip(own.values(), use.args, strict=False)) | by_name


def _can_follow(seen: Labelling, use: Use, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the layer's weight is followed, and all that shapes its outputs is known."""
    if id(weight) not in seen.owned or weight.ndim < 2:
        return False
    if bias is not None and id(bias) not in seen.owned:
        return False
    # where norms are limited, a column's values need the others
    return not (use.name.startswith("embedding") and limits_norms(use.args, use.kwargs))


def _taking(seen: Labelling, call: Call, given: Mapping[str, Any], weight: Tensor, spatial: int) -> Call:
    """The call of a linear layer or convolution, with what it takes."""
    x, bias = given["input"], given.get("bias")
    units, feature = call.made.numel(), x.ndim - 1 - spatial
    others = [d for d in range(x.ndim) if d != feature]
    takes = seen.labels.merge(seen.taken(x), others).flatten()
    groups = len(takes) // weight.shape[1 - call.column]
    if groups == 1:
        axis = along(takes, 1 - call.column, weight.ndim)
    else:
        each = takes.reshape(groups, 1, -1).expand(-1, units // groups, -1)
        axis = each.reshape(units, -1, *[1] * spatial)
    low, high = ranges(x, feature)
    name = None if bias is None else seen.owned.get(id(bias))
    return replace(call, bias=name, takes=axis, groups=groups, low=low, high=high)


def ranges(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The least and the greatest value of each unit along a dimension."""
    values = x.detach()
    return values.movedim(dim, 0).flatten(1).aminmax(dim=1) if x.ndim > 1 else (values, values)


def unknown_ranges(units: int) -> tuple[Tensor, Tensor]:
    """Of units whose values are not seen."""
    return torch.full((units,), -torch.inf), torch.full((units,), torch.inf)
