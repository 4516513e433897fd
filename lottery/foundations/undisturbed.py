"""A module that is worked with and comes out as it was."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from lottery.foundations.names import parameters_of
from lottery.foundations.streams import isolated

M = TypeVar("M", bound=nn.Module)


@contextmanager
def undisturbed(module: nn.Module, names: Mapping[str, object]) -> Iterator[None]:
    """Inside the block the module is in eval mode, has no gradients, and the parameters `names` require them.

    Weights, buffers and gradients are set aside and copies take their places, so that after the block, also after an
    exception, the same tensors come back, with modes, `requires_grad` and the global random streams. Other attributes
    of modules, and the lists, dictionaries and sets in them, hold what they held before. What modules keep for as long
    as they are in eval mode, as LeViT its attention biases, is dropped before and after.
    """
    modes = _modes(module)
    buffers = [(buffer, buffer.data) for buffer in module.buffers()]
    parameters = [(name, p, p.data, p.grad, p.requires_grad) for name, p in parameters_of(module).items()]
    with ExitStack() as stack:
        stack.enter_context(isolated())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if any(isinstance(m, nn.RNNBase) for m in module.modules()):
            # cuDNN's recurrent layers have no backward pass in eval mode
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        try:
            for name, parameter, data, _, required in parameters:
                parameter.grad = None
                parameter.data = data.clone()
                parameter.requires_grad_(required or name in names)
            for buffer, data in buffers:
                buffer.data = data.clone()
            with attributes_kept(module):
                module.train()
                module.eval()
                yield
        finally:
            _enter(module, modes)
            for _, parameter, data, gradient, required in parameters:
                parameter.data = data
                parameter.grad = gradient
                parameter.requires_grad_(required)
            for buffer, data in buffers:
                buffer.data = data


@contextmanager
def attributes_kept(module: nn.Module) -> Iterator[None]:
    """Attributes of modules, and the lists, dictionaries and sets in them, hold after the block what they held before.

    So do buffers, as to which tensors they are; parameters, parts and modes are left alone.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> layer.seen = []
        >>> with attributes_kept(layer):
        ...     layer.seen.append(1)
        ...     layer.last = 2
        >>> layer.seen, hasattr(layer, "last")
        ([], False)
    """
    kept = [(vars(part), dict(vars(part)), _contents(_plain(part))) for part in module.modules()]
    try:
        yield
    finally:
        for attributes, before, contents in kept:
            _put_back(attributes, before, contents)


Contents = list[tuple[Any, list[Any]]]  # containers with what is in them

_LEFT_ALONE = {"_parameters", "_modules", "training"}


def _plain(part: nn.Module) -> dict[str, object]:
    return {name: value for name, value in vars(part).items() if name not in _LEFT_ALONE}


def _contents(value: object, inside: frozenset[int] = frozenset()) -> Contents:
    """The lists, dictionaries and sets in a value that may change."""
    found: Contents = []
    if isinstance(value, (list, dict, set, deque)) and id(value) not in inside:
        found.append((value, _items(value)))
        for inner in value.values() if isinstance(value, dict) else value:
            found += _contents(inner, inside | {id(value)})
    return found


def _items(value: Any) -> list[Any]:
    return list(value.items() if isinstance(value, dict) else value)


def _put_back(attributes: dict[str, object], before: dict[str, object], contents: Contents) -> None:
    """Attributes, and what their containers hold, as before."""
    for name in attributes.keys() - before.keys() - _LEFT_ALONE:
        del attributes[name]
    attributes.update((name, value) for name, value in before.items() if name not in _LEFT_ALONE)
    for value, items in contents[1:]:
        if not _same(_items(value), items):
            value.clear()
            value.extend(items) if isinstance(value, (list, deque)) else value.update(items)


def _same(items: list[Any], others: list[Any]) -> bool:
    """Whether these are the same objects."""
    return len(items) == len(others) and all(
        a is b or (type(a) is type(b) is tuple and len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True)))
        for a, b in zip(items, others, strict=True)
    )


def refreshed(module: M) -> M:
    """The module, without what it keeps for as long as it is in eval mode; its modes stay.

    Example:
        >>> refreshed(nn.Dropout().eval()).training
        False
    """
    _enter(module, _modes(module))
    return module


def _modes(module: nn.Module) -> list[tuple[nn.Module, bool]]:
    """Each module with whether it is in training, the whole first."""
    return [(part, part.training) for part in module.modules()]


def _enter(module: nn.Module, modes: list[tuple[nn.Module, bool]]) -> None:
    """Bring a module into modes through `train` and `eval`, to which it may do more than to set a flag."""
    training = modes[0][1]
    module.train(not training)
    module.train(training)
    for part, own in modes:
        part.training = own


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention in its parts, as in training, and not as the one operator that torch has for all of it in eval mode."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
