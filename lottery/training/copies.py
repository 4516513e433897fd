"""Copies of a module's weights that optimizers, callbacks and the module keep: averages, slow weights, shadows."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

_DEPTH = 6  # attributes and items on the way from a keeper to a copy
_OBJECTS = 20_000  # looked at in one keeper
# told by name, as the same classes exist in both namespaces of Lightning
_CLOSED = frozenset(
    ("Trainer", "Strategy", "_Loop", "Logger", "LightningDataModule", "DataLoader") + ("Dataset", "LotteryTicket")
)
_ROW = 4  # parameters of a part of the module that a list stands for, at the least
_REGISTERED = ("_parameters", "_modules", "_buffers")


@dataclass(frozen=True)
class Copy:
    """A tensor that is kept in the place of a parameter.

    Args:
        name: of the parameter.
        values: the tensor, of the parameter's shape.
        path: where it is kept, such as ``EMA.shadow['fc.weight']``.
        averaged: whether it is surely an average, and not the weights of another network of the same shapes.
    """

    name: str
    values: Tensor
    path: str
    averaged: bool


class Copies:
    """Finds copies of the parameters of a module.

    What counts as one: a value that belongs to the parameter as a key, as an optimizer's state does; a tensor of a
    parameter's shape whose name in a mapping or another module ends with the parameter's name, or is its name within a
    submodule; lists that hold a tensor of the right shape and kind for every parameter of the module, of a group of an
    optimizer, or of a submodule that has four parameters or more.

    Args:
        parameters: all parameters of the module by name, in order.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> shadow = {"weight": layer.weight.detach().clone()}
        >>> keeper = types.SimpleNamespace(shadow=shadow)
        >>> [copy.path for copy in Copies(dict(layer.named_parameters())).kept_by(keeper)]
        ["SimpleNamespace.shadow['weight']"]
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = {_plain(name): name for name in parameters}
        self._shapes = {name: p.shape for name, p in parameters.items()}
        self._floating = {n: p.is_floating_point() for n, p in parameters.items()}
        self._names = {id(p): name for name, p in parameters.items()}
        self._rows = [
            row
            for trained in (False, True)
            for row in _rows_of([n for n, p in parameters.items() if p.requires_grad or not trained])
        ]
        self._joined: dict[str, set[str]] = {}  # names without their dots
        for plain, name in self._parameters.items():
            parts = plain.split(".")
            for start in range(len(parts) - 1):
                self._joined.setdefault("".join(parts[start:]), set()).add(name)

    def kept_by(self, keeper: object) -> Iterator[Copy]:
        """Every copy that is reached from `keeper` through attributes, items and modules.

        Of a module that the parameters are of, what is registered in it is no copy, but for buffers that are named
        after its parameters.
        """
        if _is_closed(keeper):
            return
        for copy in _Search(self).attributes(keeper, type(keeper).__name__, 0):
            if id(copy.values) not in self._names:
                yield copy

    def _by_name(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
        """Keys of `tensors` and the parameters that they are copies of."""
        found = {key: self._ending(key, values) for key, values in tensors.items()}
        if not any(found.values()):
            found = self._within(tensors)
        if not any(found.values()):
            found = {key: self._joint(key, values) for key, values in tensors.items()}
        yield from ((key, name) for key, name in found.items() if name is not None)

    def _ending(self, key: str, values: Tensor) -> str | None:
        """The parameter whose whole name `key` ends with."""
        parts = _plain(key).split(".")
        for start in range(len(parts)):
            name = self._parameters.get(".".join(parts[start:]))
            if name is not None:
                return name if self._shapes[name] == values.shape else None
        return None

    def _within(self, tensors: Mapping[str, Tensor]) -> dict[str, str | None]:
        """The parameters whose names within one submodule the keys are, where no other submodule has the same."""
        keys = {_plain(key): values.shape for key, values in tensors.items()}
        matrices = [key for key, shape in keys.items() if len(shape) > 1]
        if not matrices:
            return {}
        first = f".{matrices[0]}"
        homes = [plain[: -len(first) + 1] for plain in self._parameters if plain.endswith(first)]
        homes = [
            home
            for home in homes
            if all(self._shapes.get(self._parameters.get(home + key, "")) == keys[key] for key in matrices)
        ]
        if len(homes) != 1:
            return {}
        return {key: self._ending(homes[0] + key, tensors[key]) for key in tensors}

    def _joint(self, key: str, values: Tensor) -> str | None:
        """The parameter whose name without dots is `key`, as buffers are called that stand for parameters."""
        names = [name for name in self._joined.get(key, ()) if self._shapes[name] == values.shape]
        return names[0] if len(names) == 1 else None

    def _by_row(self, tensors: list[Tensor], rows: list[list[str]]) -> list[str]:
        """The parameters that a list of tensors stands for, where that is clear."""
        shapes = [t.shape for t in tensors]
        kinds = [t.is_floating_point() for t in tensors]
        fitting = {
            tuple(row)
            for row in rows
            if len(row) == len(shapes)
            and [self._shapes[name] for name in row] == shapes
            and [self._floating[name] for name in row] == kinds
        }
        return list(fitting.pop()) if len(fitting) == 1 else []


class _Search:
    """One walk through what a keeper holds."""

    def __init__(self, copies: Copies) -> None:
        self._of = copies
        self._rows = list(copies._rows)
        self._seen: set[int] = set()

    def attributes(self, owner: object, path: str, depth: int) -> Iterator[Copy]:
        self._seen.add(id(owner))
        groups = getattr(owner, "__dict__", {}).get("param_groups")
        if isinstance(groups, list):
            self._add_rows(groups)
        parts = [("", owner)]
        if isinstance(owner, nn.Module):
            parts = list(owner.named_modules())
            yield from self._module(owner, path)
        for name, part in parts:
            where = f"{path}.{name}" if name else path
            for attribute, value in list(getattr(part, "__dict__", {}).items()):
                if attribute not in _REGISTERED or not isinstance(part, nn.Module):
                    yield from self._value(value, f"{where}.{attribute}", depth + 1)

    def _module(self, module: nn.Module, path: str) -> Iterator[Copy]:
        own = {n: p for n, p in module.named_parameters() if id(p) in self._of._names}
        others = {n: p for n, p in module.named_parameters() if n not in own}
        buffers = dict(module.named_buffers())
        averaged = isinstance(module, AveragedModel)
        yield from self._named(others if own else {**others, **buffers}, path + ".{}", averaged)
        for key, values in buffers.items() if own else ():
            name = self._of._joint(key.rpartition(".")[2], values)
            if name is not None:
                yield Copy(name, values, f"{path}.{key}", averaged)

    def _value(self, value: object, path: str, depth: int) -> Iterator[Copy]:
        if (
            isinstance(value, (str, bytes, int, float, Tensor, type(None)))
            or depth > _DEPTH
            or id(value) in self._seen
            or len(self._seen) > _OBJECTS
        ):
            return
        self._seen.add(id(value))
        if isinstance(value, Mapping):
            yield from self._mapping(value, path, depth)
        elif isinstance(value, (list, tuple, deque)):
            tensors = [item for item in value if isinstance(item, Tensor)]
            if len(tensors) == len(value):
                row = self._of._by_row(tensors, self._rows)
                for index, (name, item) in enumerate(zip(row, tensors, strict=False)):
                    yield Copy(name, item, f"{path}[{index}]", False)
            else:
                for index, item in enumerate(value):
                    yield from self._value(item, f"{path}[{index}]", depth + 1)
        elif not _is_closed(value):
            yield from self.attributes(value, path, depth)

    def _mapping(self, mapping: Mapping[object, object], path: str, depth: int) -> Iterator[Copy]:
        named = {key: value for key, value in mapping.items() if isinstance(key, str) and isinstance(value, Tensor)}
        yield from self._named(named, path + "[{!r}]", False)
        for key, value in list(mapping.items()):
            name = self._of._names.get(id(key)) if isinstance(key, Tensor) else None
            if name is None:
                yield from self._value(value, f"{path}[{_shown(key)}]", depth + 1)
                continue
            values = value.values() if isinstance(value, Mapping) else [value]
            for item in values:
                if isinstance(item, Tensor) and item.shape == self._of._shapes[name]:
                    yield Copy(name, item, f"{path}[{name}]", False)

    def _named(self, tensors: Mapping[str, Tensor], path: str, averaged: bool) -> Iterator[Copy]:
        for key, name in self._of._by_name(tensors):
            yield Copy(name, tensors[key], path.format(key), averaged)

    def _add_rows(self, groups: list[Any]) -> None:
        rows = []
        for group in groups:
            names = [self._of._names.get(id(p)) for p in group["params"]]
            if None not in names:
                rows.append([name for name in names if name is not None])
        self._rows += [*rows, [name for row in rows for name in row]]


def _rows_of(names: list[str]) -> Iterator[list[str]]:
    """The names in the module and in each of its submodules."""
    homes: dict[str, list[str]] = {}
    for name in names:
        parts = name.split(".")
        for end in range(len(parts)):
            homes.setdefault(".".join(parts[:end]), []).append(name)
    # a batch may have the shapes of a layer's weight and bias
    yield from (row for home, row in homes.items() if len(row) >= _ROW or not home)


def _plain(name: str) -> str:
    return name.replace("_orig_mod.", "")


def _shown(key: object) -> str:
    return repr(key) if isinstance(key, (str, int)) else type(key).__name__


def _is_closed(value: object) -> bool:
    if isinstance(value, (type, types.ModuleType, types.FunctionType, types.MethodType, torch.Generator)):
        return True
    return not _CLOSED.isdisjoint(base.__name__ for base in type(value).__mro__)
