"""Copies of modules, also of those that keep what cannot be copied."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import CellType, FunctionType
from typing import Any, TypeVar

from torch import Tensor, nn

from lottery.foundations.tensors_in import tensors_in

M = TypeVar("M", bound=nn.Module)

_TORCHS_OWN = {"_parameters", "_buffers", "_modules", "_trainer"}


def copied(module: M) -> M:
    """A copy of a module, whose hooks close over the copy where they closed over the module.

    Tensors with a graph that it keeps are detached in the copy, and what cannot be copied, as locks, is shared.

    Raises:
        ValueError: the module cannot be copied.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> layer.last = layer.weight * 2
        >>> copied(layer).last.requires_grad
        False
    """
    known: dict[int, Any] = {id(x): x.detach().clone() for _, value in _attributes(module) for x in _with_graph(value)}
    memo = dict(known)
    try:
        other = copy.deepcopy(module, memo)
    except Exception:  # noqa: BLE001 (whatever a class does when it is copied)
        memo = {**known, **{id(value): value for _, value in _attributes(module) if not _can_be_copied(value, known)}}
        try:
            other = copy.deepcopy(module, memo)
        except Exception as error:
            raise ValueError(f"{type(module).__name__} cannot be copied: {error}") from error
    for part in other.modules():
        for hooks in (part._forward_hooks, part._forward_pre_hooks):
            for key, hook in hooks.items():
                hooks[key] = _closed_over(hook, memo)
    return other


def _attributes(module: nn.Module) -> Iterator[tuple[str, object]]:
    """The plain attributes of all its modules."""
    for part in module.modules():
        for name, value in vars(part).items():
            if name not in _TORCHS_OWN:
                yield name, value


def _with_graph(value: object) -> Iterator[Tensor]:
    return (x for x in tensors_in(value) if x.grad_fn is not None)


def _can_be_copied(value: object, known: dict[int, Any]) -> bool:
    try:
        copy.deepcopy(value, dict(known))
    except Exception:  # noqa: BLE001 (as above)
        return False
    return True


def _closed_over(function: Any, memo: dict[int, Any]) -> Any:
    """The function, with copies in place of what it closes over, where there are such."""
    cells = getattr(function, "__closure__", None)
    if not isinstance(function, FunctionType) or not cells:
        return function
    closed = tuple(CellType(memo.get(id(cell.cell_contents), cell.cell_contents)) for cell in cells)
    again = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, closed)
    again.__kwdefaults__ = function.__kwdefaults__
    return again
