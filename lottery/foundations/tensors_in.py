"""Tensors in values of any kind, such as what a forward takes and gives."""

from __future__ import annotations

import copy
import copyreg
import inspect
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

T = TypeVar("T")

Parts = tuple[list[object], Callable[[list[Any]], object]]  # what a value holds, and the same value of other parts


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors in a value, in order, each place that holds one.

    Seen are tuples, lists, mappings, sets and views of dictionaries, what is registered as a pytree with torch, and
    the attributes of any other object, as of a dataclass or a namespace; not those of modules, functions and classes.
    Tensors of a set come in an order that depends on their values alone. An iterator is left as it is: `read` it first.

    Example:
        >>> from types import SimpleNamespace
        >>> list(tensors_in(SimpleNamespace(y={"logits": torch.tensor(1.0)}, n=2)))
        [tensor(1.)]
    """
    return _found(value, set())


def _found(value: object, seen: set[int]) -> Iterator[Tensor]:
    """The tensors in a value that is in none of those seen."""
    if isinstance(value, Tensor):
        yield value
    elif (apart := _taken_apart(value)) is not None and id(value) not in seen:
        inside = seen | {id(value)}
        for part in apart[0]:
            yield from _found(part, inside)


def with_tensors(value: T, change: Callable[[Tensor], Tensor]) -> T:
    """The same value with every tensor changed: a copy, of the same types, where it holds any.

    Example:
        >>> with_tensors({"x": (torch.tensor(1), "as it is")}, lambda x: x + 1)
        {'x': (tensor(2), 'as it is')}
    """
    changed: Any  # what `together` makes is of the type that was taken apart
    if isinstance(value, Tensor):
        changed = change(value)
        return changed
    apart = _taken_apart(value)
    if apart is None or not any(True for _ in tensors_in(value)):
        return value
    parts, together = apart
    changed = together([with_tensors(part, change) for part in parts])
    return changed


def read(value: object) -> object:
    """The same value with lists in place of iterators, which can be read only once: for what a forward has just given.

    Example:
        >>> read((n * n for n in range(3)))
        [0, 1, 4]
    """
    if isinstance(value, Iterator):
        return [read(part) for part in value]
    if isinstance(value, (tuple, list, Mapping)):
        parts, together = _taken_apart(value) or ([], lambda _: value)
        if any(isinstance(part, (Iterator, tuple, list, Mapping)) for part in parts):
            return together([read(part) for part in parts])
    return value


def outputs_in(output: object, name: str) -> list[Tensor]:
    """The tensors in what a module's forward has just given; at least one.

    Raises:
        ValueError: there is none, so that nothing can be compared or followed.

    Example:
        >>> outputs_in("none", "Net")
        Traceback (most recent call last):
        ValueError: Net.forward gives a str, in which no tensor is found: it must give tensors, alone or in containers
    """
    found = list(tensors_in(read(output)))
    if not found:
        raise ValueError(
            f"{name}.forward gives a {type(output).__name__}, in which no tensor is found: it must give tensors, alone"
            " or in containers"
        )
    return found


def arguments(example_input: object) -> tuple[tuple[object, ...], dict[str, object]]:
    """An example input as the arguments of a forward: a mapping is by name, a tuple or list by position.

    Example:
        >>> arguments(3), arguments((1, 2)), arguments({"x": 1})
        (((3,), {}), ((1, 2), {}), ((), {'x': 1}))
    """
    if isinstance(example_input, Mapping):
        return (), dict(example_input)
    if isinstance(example_input, (tuple, list)):
        return tuple(example_input), {}
    return (example_input,), {}


def _taken_apart(value: object) -> Parts | None:
    """What a value holds, and how to put it together again; None where it holds nothing that can be seen."""
    if isinstance(value, (str, bytes, int, float, complex, type(None))):
        return None
    if isinstance(value, (tuple, list)):
        return list(value), lambda parts: _sequence(value, parts)
    if isinstance(value, Mapping):
        return list(value.values()), lambda parts: _mapping(value, parts)
    if type(value) in pytree.SUPPORTED_NODES:
        node = pytree.SUPPORTED_NODES[type(value)]
        parts, context = node.flatten_fn(value)
        return list(parts), lambda parts: node.unflatten_fn(parts, context)
    if isinstance(value, (set, frozenset)):
        return _sorted(value), type(value)
    if isinstance(value, (KeysView, ValuesView, ItemsView)):  # the views of a dictionary
        return list(value), list
    return _object(value)


def _sequence(value: tuple[object, ...] | list[object], parts: list[Any]) -> object:
    """A tuple or list of other parts; the fields of a named tuple are arguments of its own."""
    kind: Any = type(value)
    return kind(*parts) if hasattr(value, "_fields") else kind(parts)


def _mapping(value: Mapping[object, object], parts: list[Any]) -> object:
    """A mapping of other parts, of the same class if that can be changed."""
    items = dict(zip(value, parts, strict=True))
    if type(value) is dict or not isinstance(value, MutableMapping):
        return items
    changed = copy.copy(value)
    for key, part in items.items():
        changed[key] = part
    return changed


def _object(value: object) -> Parts | None:
    """The attributes of an object that is no code."""
    if isinstance(value, (type, ModuleType, nn.Module)) or inspect.isroutine(value):
        return None
    slots = copyreg._slotnames(type(value))  # type: ignore[attr-defined]
    attributes = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})

    def together(parts: list[Any]) -> object:
        changed = copy.copy(value)
        for name, part in zip(attributes, parts, strict=True):
            object.__setattr__(changed, name, part)  # also where it is frozen
        return changed

    return (list(attributes.values()), together) if attributes else None


def _sorted(values: Iterable[object]) -> list[object]:
    """What has no order, by the tensors in it."""

    def content(value: object) -> list[tuple[tuple[int, ...], float]]:
        with torch._C.DisableTorchFunction(), torch.no_grad():  # nobody watches this
            return [(tuple(x.shape), float(x.detach().abs().double().sum())) for x in tensors_in(value)]

    return sorted(values, key=content)
