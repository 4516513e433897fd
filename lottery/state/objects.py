"""Live objects, looked through attribute by attribute: what training changed in them since they were first seen.

Lightning checkpoints hold what has a `state_dict`. Training changes more: a temperature that the module lowers, a
callback's counter, a sampler's own generator, metrics that live over epochs, train and eval modes, `requires_grad`. An
`Objects` remembers how everything that is reachable from a few roots was, gives what differs from it as plain data, and
puts objects back: those of this process, or those that the same script makes in another.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import io
import multiprocessing.process
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from lottery.state.classes import (
    Missing,
    describe,
    is_of_the_user,
    keeps_its_state,
    slots_of,
)
from lottery.state.numbers import TAG
from lottery.state.values import (
    METRICS,
    Unstorable,
    decode,
    encode,
    encode_made,
    encode_metric,
    encode_state,
    is_generator,
    same,
    tags,
)

Changes = dict[str, dict[str, Any]]  # name of an object: attribute: plain form
_GONE = {TAG: "gone"}
_FROZEN = "requires_grad"  # stands among a module's attributes
_DATA = (Dataset, DataLoader, Sampler)
_DATA_ITEMS = 1000  # longer containers in data are data, not state
_DATA_BYTES = 2**20  # so are larger arrays and tensors
_LOADER = ("dataset", "sampler", "batch_sampler", "generator", "collate_fn")
_MODULE = frozenset(vars(nn.Module())) - {"training"} | {"_compiled_call_impl"}
_FILLED = (list, dict, set, Tensor, np.ndarray)  # `decode` fills what stands there


@dataclass(frozen=True)
class Root:
    """Where to start looking.

    Args:
        owner: the object.
        only: its attributes to look at; None for all.
        without: attributes to leave out.
    """

    owner: Any
    only: Collection[str] | None = None
    without: Collection[str] = ()


@dataclass
class _Object:
    owner: Any
    live: dict[str, Any]  # the values themselves, by attribute
    plain: dict[str, Any]  # their plain forms

    def take_values_of(self, earlier: _Object) -> None:
        """Take what attributes were earlier, but for references to objects, whose names are other ones there."""
        for attribute, plain in earlier.plain.items():
            if attribute in self.plain and not _refers(plain):
                self.plain[attribute] = plain
                self.live[attribute] = earlier.live[attribute]

    def undo(self, before: _Object, after: _Object) -> None:
        """Take what attributes were `before`, where they were another `after` and are that still."""
        for attribute, plain in after.plain.items():
            if (
                same(plain, before.plain.get(attribute, _GONE))
                or not same(plain, self.plain.get(attribute, _GONE))
                or _refers(before.plain.get(attribute))
            ):
                continue
            if attribute in before.plain:
                self.plain[attribute] = before.plain[attribute]
                self.live[attribute] = before.live[attribute]
            else:
                del self.plain[attribute], self.live[attribute]


class Objects:
    """What is reachable from a few roots, as it is now.

    Args:
        roots: objects by name, looked at in this order; what is reached from two belongs to the first.
        beyond: objects that are never looked into.
        earlier: an earlier look, for what objects that it has seen already were at first.

    Example:
        >>> from types import SimpleNamespace
        >>> module = SimpleNamespace(temperature=1.0, seen=[])
        >>> objects = Objects({"module": module})
        >>> module.temperature = 0.5
        >>> before = objects.changes()
        >>> module.seen.append(3)
        >>> objects.changes()
        {'module': {'temperature': 0.5, 'seen': [3]}}
        >>> objects.restore(before)
        >>> module
        namespace(temperature=0.5, seen=[])
    """

    def __init__(
        self,
        roots: Mapping[str, Any],
        beyond: Collection[Any] = (),
        earlier: Objects | None = None,
    ) -> None:
        self._roots = {
            name: root if isinstance(root, Root) else Root(root)
            for name, root in roots.items()
        }
        self._beyond = list(beyond)
        self._first: dict[str, _Object] = {}
        self._first = self._look()
        if earlier is not None:
            known = {id(o.owner): o for o in earlier._first.values()}
            for seen in self._first.values():
                seen.take_values_of(known.get(id(seen.owner), seen))

    def undo(self, before: Objects, after: Objects) -> None:
        """Take for how things were first what they were `before`, where nothing has changed them since `after`."""
        earlier = {id(o.owner): o for o in before._first.values()}
        later = {id(o.owner): o for o in after._first.values()}
        for seen in self._first.values():
            key = id(seen.owner)
            if key in earlier and key in later:
                seen.undo(earlier[key], later[key])

    def changes(self) -> Changes:
        """What differs from how it was first, as plain data."""
        found: Changes = {}
        for name, now in self._look().items():
            first = self._first[name]
            changed = {
                attribute: _change(first, now, attribute)
                for attribute in {**first.plain, **now.plain}
                if not _is_unchanged(first, now, attribute)
            }
            if changed:
                found[name] = changed
        return found

    def restore(
        self,
        changes: Mapping[str, Mapping[str, Any]],
        without: Collection[str] = (),
    ) -> None:
        """Put every object back to how it was first, and then to `changes`; those of the names in `without` stay as they are."""
        now = self._look()
        shared = []  # attributes that are another one's value, which is put back before them
        for name, first in self._first.items():
            if name in without:
                continue
            changed, there = changes.get(name, {}), now.get(name)
            if there is None or there.owner is not first.owner:
                there = _Object(first.owner, {}, {})
            for attribute in {**first.plain, **changed, **there.plain}:
                if _is("attribute", changed.get(attribute, first.plain.get(attribute))):
                    shared.append((first, there, attribute, changed))
                else:
                    self._put(first, there, attribute, changed)
        for one in shared:
            self._put(*one)

    def generators(self) -> dict[str, Any]:
        """The generators of random numbers among attributes, by name."""
        return {
            f"{name}.{attribute}": value
            for name, now in self._look().items()
            for attribute, value in now.live.items()
            if is_generator(value)
        }

    def opaque(self) -> list[str]:
        """What holds state and has no plain form: open files, iterators, processes, lambdas."""
        return [
            f"{name}.{attribute} ({describe(value)})"
            for name, first in self._first.items()
            for attribute, value in first.live.items()
            if _is("opaque", first.plain[attribute]) and _holds_state(value)
        ]

    def lost(self) -> list[str]:
        """What training has put where something else was, or has changed, and that has no plain form."""
        return [
            f"{name}.{attribute} ({describe(now.live[attribute])})"
            for name, now in self._look().items()
            for attribute, plain in now.plain.items()
            if "opaque" in tags(plain)
            and not _is_unchanged(self._first[name], now, attribute)
        ]

    def _look(self) -> dict[str, _Object]:
        return _Walk(self._roots, self._beyond, self._first).found

    def _put(
        self,
        first: _Object,
        there: _Object,
        attribute: str,
        changed: Mapping[str, Any],
    ) -> None:
        """Put back one attribute of an object, `there` as it is now."""
        owner, live = first.owner, there.live.get(attribute)
        plain = there.plain.get(attribute, _GONE)
        wanted = changed.get(attribute, first.plain.get(attribute, _GONE))
        kept = first.live.get(attribute, live)
        if attribute not in changed and live is not kept:
            live, plain = kept, None  # the very object that was there
            _set(owner, attribute, live)
        is_shared = attribute in changed and _is("attribute", wanted)
        if _is("opaque", wanted) or (same(wanted, plain) and not is_shared):
            return
        another = _is("new", wanted) and live is not first.live.get(attribute)
        if another and same(wanted["value"], plain):
            return  # the new one is there already
        if wanted == _GONE:
            _delete(owner, attribute)
            return
        try:
            value = decode(wanted, live, lambda name: self._first[name].owner)
        except Missing:
            return  # named as lost
        if value is not live or attribute == _FROZEN:
            _set(owner, attribute, value)


class _Walk:
    """One look at everything that is reachable.

    Args:
        roots: where to start.
        beyond: objects that are not looked into.
        first: the first look, for a later one: objects that were not there then have no name, so metrics among them are
            taken whole and others are opaque.
    """

    def __init__(
        self,
        roots: Mapping[str, Root],
        beyond: Collection[Any],
        first: Mapping[str, _Object],
    ) -> None:
        self.found: dict[str, _Object] = {}
        self._beyond = {id(thing) for thing in beyond}
        self._first = first
        self._names = {id(o.owner): name for name, o in first.items()}
        self._registered = {
            id(part)
            for root in roots.values()
            if isinstance(root.owner, nn.Module)
            for part in root.owner.modules()
        }
        self._queue: collections.deque[tuple[str, Root, bool]] = collections.deque()
        self._seen: set[int] = set()
        self._inside: set[int] = set()
        self._filled: dict[int, tuple[str, str]] = {}
        for name, root in roots.items():
            self._enter(name, root, isinstance(root.owner, _DATA))
        while self._queue:
            self._look_at(*self._queue.popleft())

    def _enter(self, name: str, root: Root, is_data: bool) -> None:
        if id(root.owner) not in self._seen:
            self._seen.add(id(root.owner))
            self._names.setdefault(id(root.owner), name)
            self._queue.append((name, root, is_data))

    def _look_at(self, name: str, root: Root, is_data: bool) -> None:
        live = dict(self._attributes(root))
        plain = {
            attribute: self._plain(value, name, attribute, is_data)
            for attribute, value in live.items()
        }
        self.found[name] = _Object(root.owner, live, plain)
        for kind in type(root.owner).__mro__[:-1]:
            if is_of_the_user(kind) and root.only is None:
                self._enter(
                    f"class {kind.__module__}.{kind.__qualname__}", Root(kind), is_data
                )

    def _plain(self, value: Any, name: str, attribute: str, is_data: bool) -> Any:
        if _is_large(value, is_data):
            return _opaque(value)
        if type(value) in _FILLED:
            at, first = self._filled.setdefault(id(value), (name, attribute))
            if (at, first) != (name, attribute):
                return {TAG: "attribute", "at": at, "name": first}
        other = functools.partial(self._of_object, is_data=is_data)
        return encode(value, f"{name}.{attribute}", other)

    def _of_object(self, value: Any, where: str, is_data: bool) -> Any:
        if id(value) in self._beyond:
            return _opaque(value)
        other = functools.partial(self._of_object, is_data=is_data)
        name = self._names.get(id(value), where)
        if id(value) not in self._seen and not _has_attributes(value):
            return (
                encode_state(value, where, other)
                if keeps_its_state(value)
                else _opaque(value, is_data)
            )
        if self._first:
            there = self._first.get(name)
            if there is None or type(there.owner) is not type(value):
                return self._whole(value, where, other)
        self._enter(name, Root(value), is_data or isinstance(value, _DATA))
        return {TAG: "object", "at": name}

    def _whole(self, value: Any, where: str, other: Any) -> Any:
        """The plain form of an object that was not there first."""
        if id(value) in self._inside:  # it is a part of itself
            return _opaque(value)
        self._inside.add(id(value))
        try:
            if isinstance(value, METRICS):
                return encode_metric(value, where)
            return encode_made(value, where, other)
        except Unstorable:
            return _opaque(value)
        finally:
            self._inside.discard(id(value))

    def _attributes(self, root: Root) -> Iterator[tuple[str, Any]]:
        owner = root.owner
        if root.only is not None:
            yield from ((name, getattr(owner, name)) for name in root.only)
            return
        if isinstance(owner, DataLoader):
            yield from ((name, getattr(owner, name)) for name in _LOADER)
            return
        if isinstance(owner, type):
            yield from (
                (k, v) for k, v in vars(owner).items() if _is_data_of_class(k, v)
            )
            return
        yield from slots_of(owner)
        left_out = {*root.without, *(_MODULE if isinstance(owner, nn.Module) else ())}
        attributes = getattr(owner, "__dict__", {})
        yield from ((k, v) for k, v in attributes.items() if k not in left_out)
        if isinstance(owner, nn.Module):
            yield from self._parts(owner)

    def _parts(self, module: nn.Module) -> Iterator[tuple[str, Any]]:
        """What a module keeps apart from its attributes; weights only where no state dict has them."""
        hidden = id(module) not in self._registered
        for name, buffer in module._buffers.items():
            if hidden or name in module._non_persistent_buffers_set:
                yield name, buffer
        yield from module._modules.items()
        weights = {n: p for n, p in module._parameters.items() if p is not None}
        if hidden:
            yield from ((name, p.detach()) for name, p in weights.items())
        elif weights:
            yield _FROZEN, {name: p.requires_grad for name, p in weights.items()}


def _has_attributes(value: Any) -> bool:
    """Whether there may be state of the user's among the attributes of an object."""
    if isinstance(value, DataLoader) and hasattr(value, "load_state_dict"):
        return False  # it says itself what its state is
    if isinstance(value, (nn.Module, *_DATA, types.SimpleNamespace)):
        return True
    kind = type(value)
    called = (type, types.FunctionType, types.MethodType, types.ModuleType, Tensor)
    if isinstance(value, called) or not is_of_the_user(kind):
        return False
    slots = any("__slots__" in vars(base) for base in kind.__mro__)
    return hasattr(value, "__dict__") or slots


def _is_data_of_class(name: str, value: Any) -> bool:
    special = name.startswith("__") or name == "_abc_impl"
    return not special and not isinstance(value, type) and not hasattr(value, "__get__")


def _refers(plain: Any) -> bool:
    """Whether a plain form names objects."""
    return bool({"object", "attribute"} & tags(plain))


def _opaque(value: Any, is_data: bool = True) -> Any:
    """What stands for a value without a plain form; a table that is state has a digest, so that changes are named."""
    digest = {}
    if type(value).__module__.partition(".")[0] == "pandas" and not is_data:
        with contextlib.suppress(TypeError):
            hashes = sys.modules["pandas"].util.hash_pandas_object(value)
            found = hashlib.sha256(hashes.to_numpy().tobytes()).hexdigest()
            digest = {"digest": found}
    return {TAG: "opaque", "is": describe(value), **digest}


def _is(tag: str, plain: Any) -> bool:
    return type(plain) is dict and plain.get(TAG) == tag


def _holds_state(value: Any) -> bool:
    if isinstance(value, types.FunctionType):
        return value.__name__ == "<lambda>"
    kinds = (Iterator, io.IOBase, subprocess.Popen, threading.Thread, socket.socket)
    return isinstance(value, (*kinds, multiprocessing.process.BaseProcess))


def _is_unchanged(first: _Object, now: _Object, attribute: str) -> bool:
    if attribute not in first.plain or attribute not in now.plain:
        return False
    before, after = first.plain[attribute], now.plain[attribute]
    is_one = first.live[attribute] is now.live[attribute]
    if not is_one and (_is("opaque", before) or _is("attribute", before)):
        return False
    return same(before, after)


def _change(first: _Object, now: _Object, attribute: str) -> Any:
    """The plain form of a changed attribute, marked where it is not the object that was there first."""
    if attribute not in now.plain:
        return _GONE
    plain, value = now.plain[attribute], now.live[attribute]
    there = first.live.get(attribute)
    is_one = value is there or (
        isinstance(value, Tensor)
        and isinstance(there, Tensor)
        and value.data_ptr() == there.data_ptr()
    )
    shared = _is("attribute", plain)
    if is_one or shared or type(value) not in _FILLED or "opaque" in tags(plain):
        return plain
    return {TAG: "new", "value": plain}


def _is_large(value: Any, is_data: bool) -> bool:
    """Whether a value is data rather than state: too large to be compared and kept."""
    if isinstance(value, (Tensor, np.ndarray)):
        return is_data and value.nbytes > _DATA_BYTES
    return is_data and _count(value, _DATA_ITEMS) > _DATA_ITEMS


def _count(value: Any, limit: int) -> int:
    """The values in nested containers, counted as far as a limit."""
    if not isinstance(value, (list, tuple, set, frozenset, dict, collections.deque)):
        return 1
    total = len(value)
    if total <= limit:
        for part in value.values() if isinstance(value, dict) else value:
            total += _count(part, limit - total) if total <= limit else 0
    return total


def _set(owner: Any, attribute: str, value: Any) -> None:
    if isinstance(owner, nn.Module):
        if attribute == _FROZEN and attribute not in vars(owner):
            for name, flag in value.items():
                owner._parameters[name].requires_grad_(flag)  # type: ignore[union-attr]
            return
        if attribute in owner._parameters:
            return  # filled in place
        if attribute in owner._buffers:
            owner._buffers[attribute] = value
            return
        if attribute in owner._modules or isinstance(value, nn.Module):
            owner._modules[attribute] = value
            return
    if isinstance(owner, type):
        setattr(owner, attribute, value)
    elif attribute in getattr(owner, "__dict__", ()):
        vars(owner)[attribute] = value
    else:
        object.__setattr__(owner, attribute, value)


def _delete(owner: Any, attribute: str) -> None:
    if isinstance(owner, nn.Module) and attribute in owner._modules:
        del owner._modules[attribute]
    elif isinstance(owner, type):
        delattr(owner, attribute)
    elif attribute in getattr(owner, "__dict__", ()):
        del vars(owner)[attribute]
    else:
        object.__delattr__(owner, attribute)
