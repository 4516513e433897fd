"""A module's parameters and weights by canonical names: those that it has where no part of it is compiled.

`torch.compile` puts a part of a module into a wrapper, which adds ``_orig_mod.`` to the names of all that is inside. A
mask or a ticket is the same whether or not parts are compiled, so everything here goes by names without it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

Shape = tuple[int, ...]
T = TypeVar("T")

_COMPILED = "_orig_mod"
_EXTRA = "_extra_state"  # the end of the names of what `get_extra_state` gives


def canonical(name: str) -> str:
    """A name without what `torch.compile` adds.

    Example:
        >>> canonical("net._orig_mod.0.weight")
        'net.0.weight'
    """
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def renamed(named: Mapping[str, T]) -> dict[str, T]:
    """The same values by canonical names, such as those of a state dict from elsewhere."""
    return {canonical(name): value for name, value in named.items()}


def uncompiled(module: nn.Module) -> nn.Module:
    """The plain module inside what `torch.compile` returned."""
    return getattr(module, _COMPILED, module)


def parameters_of(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters by canonical name, in the module's order; tied ones once, under their first name."""
    return renamed(dict(module.named_parameters()))


def buffers_of(module: nn.Module) -> dict[str, Tensor]:
    """The buffers by canonical name; shared ones once."""
    return renamed(dict(module.named_buffers()))


def owner_of(module: nn.Module, name: str) -> nn.Module:
    """The plain layer that a parameter or buffer belongs to."""
    return uncompiled(module.get_submodule(name.rpartition(".")[0]))


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """The state dict by canonical names, without extra state that is no tensor.

    It is the whole one, also where the module's class leaves parts out of what its `state_dict` gives. The tensors
    share the module's memory.
    """
    state = renamed(_state(module))
    return {name: t.detach() for name, t in state.items() if isinstance(t, Tensor)}


def differences(
    weights: Mapping[str, Tensor], module: nn.Module
) -> tuple[list[str], list[str], list[tuple[str, Shape, Shape]]]:
    """Canonical names that only `weights` have, names that only the module has, and names with their two shapes where
    these differ.

    A tensor that the module has under several names is there where it is under one. A lazy parameter has every shape,
    and so has extra state.
    """
    given = renamed(weights)
    state = renamed(_state(module))
    there = {name: t for name, t in state.items() if isinstance(t, Tensor)}
    tied = {id(there[name]) for name in given if name in there}
    reshaped = [
        (name, tuple(tensor.shape), tuple(there[name].shape))
        for name, tensor in given.items()
        if name in there
        and not is_lazy(there[name])
        and not name.endswith(_EXTRA)
        and there[name].shape != tensor.shape
    ]
    extra = [name for name in given if name not in there]
    missing = [n for n, t in there.items() if n not in given and id(t) not in tied]
    return extra, missing, reshaped


def mismatches(weights: Mapping[str, Tensor], module: nn.Module, origin: str) -> list[str]:
    """The `differences` in words, a line for each name; `origin` is where the weights are."""
    extra, missing, reshaped = differences(weights, module)
    return [
        *(f"{name}: only in {origin}" for name in extra),
        *(f"{name}: only in the module" for name in missing),
        *(f"{name}: {mine} in {origin}, {its} in the module" for name, mine, its in reshaped),
    ]


def ties(state: Mapping[str, Tensor], names: Collection[str]) -> dict[str, str]:
    """Other names of a state dict whose tensors are, by their values, those of one of `names`; and which one.

    Example:
        >>> import torch
        >>> ties({"encoder": torch.ones(2), "decoder": torch.ones(2), "bias": torch.zeros(2)}, ["encoder"])
        {'decoder': 'encoder'}
    """
    return {
        other: name
        for other, tensor in state.items()
        if other not in names
        for name in names
        if (tensor.dtype, tensor.device) == (state[name].dtype, state[name].device) and torch.equal(tensor, state[name])
    }


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], origin: str = "the weights") -> None:
    """Load weights into a module, compiled or not, all of them or none.

    What the module has under several names gets the value of the first of them that is given. Extra state that is no
    tensor stays as it is.

    Args:
        module: the module.
        weights: its whole state dict, whether or not it was taken of a compiled module.
        origin: the weights in words, for messages.

    Raises:
        ValueError: a name is missing or left over, or a shape differs; the message names each. Nothing was changed
            then.

    Example:
        >>> import torch
        >>> compiled = torch.compile(nn.Linear(2, 1), backend="eager")
        >>> load_weights(compiled, nn.Linear(2, 1).state_dict())
        >>> load_weights(compiled, {"weight": torch.zeros(1, 2)})
        Traceback (most recent call last):
        ValueError: the weights do not fit the module Linear:
          bias: only in the module
    """
    plain, given = uncompiled(module), renamed(weights)
    if wrong := mismatches(given, plain, origin):
        raise ValueError(f"{origin} do not fit the module {type(plain).__name__}:\n  " + "\n  ".join(wrong))
    state = _state(plain)
    values: dict[int, Tensor] = {}
    for name, tensor in state.items():
        if canonical(name) in given:
            values.setdefault(id(tensor), given[canonical(name)])
    nn.Module.load_state_dict(plain, {name: values.get(id(t), t) for name, t in state.items()})


def shape_buffers(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Give a module the buffers that a state dict has: banks and caches come, grow and go while training.

    Args:
        module: the module, whose buffers are replaced where they have another shape.
        values: what `weights_of` gave; buffers that it leaves out become None.

    Example:
        >>> import torch
        >>> module = nn.Module()
        >>> module.register_buffer("bank", torch.zeros(5, 2))
        >>> shape_buffers(module, {"bank": torch.zeros(0, 2)})
        >>> module.bank.shape
        torch.Size([0, 2])
    """
    for prefix, part in module.named_modules():
        own_way = type(part)._save_to_state_dict is not nn.Module._save_to_state_dict
        if own_way or isinstance(part, torch.jit.ScriptModule):
            continue
        unsaved, prefix = part._non_persistent_buffers_set, canonical(prefix)
        wanted = {n for n, b in part._buffers.items() if b is None or n in unsaved}
        own = {canonical(f"{prefix}.{n}").lstrip(".") for n in part._parameters}
        wanted |= set(_below(prefix, values, own))
        for name in [n for n in part._buffers if n not in wanted]:
            del part._buffers[name]
        for name in wanted - unsaved:
            buffer = part._buffers.setdefault(name, None)
            value = values.get(canonical(f"{prefix}.{name}").lstrip("."))
            if is_lazy(buffer):
                continue
            if value is None:
                part._buffers[name] = None
            elif buffer is None or buffer.shape != value.shape:
                device = value.device if buffer is None else buffer.device
                part._buffers[name] = torch.empty_like(value, device=device)


def _below(prefix: str, names: Iterable[str], without: Collection[str]) -> list[str]:
    """The last parts of names that stand directly below a prefix."""
    parts = [n.rpartition(".") for n in names if n not in without]
    return [name for before, _, name in parts if before == prefix]


def _state(module: nn.Module) -> dict[str, object]:
    """The state dict with the module's own tensors, not by a method that its class has in place of torch's."""
    return nn.Module.state_dict(uncompiled(module), keep_vars=True)
