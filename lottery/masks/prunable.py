"""Which parameters of a module may be pruned."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias, TypeVar

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from lottery.foundations.names import owner_of, parameters_of, uncompiled

T = TypeVar("T")

_WEIGHT = re.compile(r"(.+_)?weight(_(v|orig|ih|hh|hr)(_.*)?)?")
_PARAMETRIZED = re.compile(r"(?:.*\.)?parametrizations\.(?P<of>[^.]+)\.original(?P<part>\d*)")


def prunable_parameters(
    module: nn.Module, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> dict[str, nn.Parameter]:
    """The parameters that pruning may touch, by canonical name, in the module's order; tied ones once.

    By default: trainable weights of two or more dimensions of linear, convolution, embedding, recurrent and
    attention layers, and of any other module that has a `weight`. Not biases, not normalisation layers, not the
    magnitudes of a weight-norm parametrization (its directions are prunable).

    Args:
        module: the module; its lazy parameters must have their shapes.
        include: glob patterns. Only names that match one are taken. A pattern that matches no weight which is
            prunable by default picks from all parameters, so that "*.bias" can be pruned on purpose.
        exclude: glob patterns of names to leave out.

    Raises:
        ValueError: a pattern matches nothing, or nothing prunable is left; the message lists the names.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
        >>> list(prunable_parameters(net))
        ['0.weight']
    """
    parameters = parameters_of(module)
    everything = {name: p for name, p in parameters.items() if not isinstance(p, UninitializedParameter) and p.numel()}
    default = [name for name, p in everything.items() if p.requires_grad and _is_weight(module, name, p)]
    chosen = set(default)
    if include:
        chosen = set()
        for pattern in include:
            chosen.update(matching(pattern, default, everything, what="include"))
    for pattern in exclude:
        chosen.difference_update(matching(pattern, everything, what="exclude"))
    if not chosen:
        lazy = [n for n, p in parameters.items() if isinstance(p, UninitializedParameter)]
        hint = f" Parameters without a shape yet: {lazy}; run a forward pass in `setup`." if lazy else ""
        raise ValueError(
            f"{type(uncompiled(module)).__name__} has nothing prunable. Its parameters are:"
            f" {list(everything) or 'none'}. Name those to prune with Pruning(include=[...]).{hint}"
        )
    return {name: p for name, p in everything.items() if name in chosen}


Include: TypeAlias = "str | Sequence[str] | None"
"""Glob patterns of names of parameters; of None, all of them."""


def included(named: Mapping[str, T], include: Include) -> dict[str, T]:
    """What the patterns choose, in its own order.

    Raises:
        ValueError: a pattern matches nothing.

    Example:
        >>> included({"conv.weight": 1, "attn.weight": 2}, "*attn*")
        {'attn.weight': 2}
    """
    if include is None:
        return dict(named)
    patterns = [include] if isinstance(include, str) else include
    chosen = {name for pattern in patterns for name in matching(pattern, named, what="include")}
    return {name: value for name, value in named.items() if name in chosen}


def matching(pattern: str, *names: Iterable[str], what: str) -> list[str]:
    """The names that a glob pattern matches, from the first of several lists in which it matches any.

    Raises:
        ValueError: it matches none; the message names `what` and lists the names.
    """
    for candidates in names:
        found = [name for name in candidates if fnmatchcase(name, pattern)]
        if found:
            return found
    raise ValueError(f"{what}={pattern!r} matches no parameter. The names are: {sorted({n for c in names for n in c})}")


def _is_weight(module: nn.Module, name: str, parameter: Tensor) -> bool:
    if parameter.ndim < 2 or not parameter.is_floating_point():
        return False
    parametrized = _PARAMETRIZED.fullmatch(name)
    if parametrized:
        # weight norm keeps magnitudes in original0, shape (n, 1, ...), and directions in original1
        return _WEIGHT.fullmatch(parametrized["of"]) is not None and parametrized["part"] in ("", "1")
    owner, attribute = owner_of(module, name), name.rpartition(".")[2]
    if type(owner).__name__.endswith(("Norm", "Norm1d", "Norm2d", "Norm3d")):
        return False
    if attribute.endswith("_g") and hasattr(owner, f"{attribute[:-2]}_v"):
        return False  # the magnitudes of the older weight norm
    return _WEIGHT.fullmatch(attribute) is not None
