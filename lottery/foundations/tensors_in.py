"""Tensors in nested containers, such as the arguments of a forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_in(part)


def with_tensors(value: object, change: Callable[[Tensor], Tensor]) -> object:
    """The same nested tuples, lists and mappings with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: with_tensors(part, change) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        parts = [with_tensors(part, change) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    return value


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
