"""Everything that is reachable from a few objects, as a graph: what can change in place is a node with a name.

A node is a container, an array, a tensor, a generator or an object with attributes. Its plain form holds values as they
are and other nodes by name, so what is one object in two places stays one, and an object may be a part of itself.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import sys
import types
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torchmetrics import Metric

from lottery.training.state.classes import (
    can_be_made,
    describe,
    is_known,
    is_of_the_user,
    keeps_its_state,
    name_of,
    slots_of,
)
from lottery.training.state.numbers import TAG, Plain
from lottery.training.state.values import PLAIN, Unstorable, changes_in_place, encode

# stands among a node's attributes: what a container holds, or what an object is
WHOLE = ""
# stand among a module's attributes: which weights are trained, which buffers its state dict has
TRAINED, SAVED = "(trained)", "(saved)"
MEMBERS = "(members)"  # stands among an optimizer's attributes: its groups
TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
_LONG = 200  # characters of a name that says where an object stands
HOOKS: dict[str, tuple[str, ...]] = {  # and what says how they are called
    "_forward_pre_hooks": ("_forward_pre_hooks_with_kwargs",),
    "_forward_hooks": ("_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    "_backward_pre_hooks": (),
    "_backward_hooks": (),
}
NEW, NOW = "+", "?"  # begin the names of nodes that were not there first
# where a module keeps what it is made of
PARTS = ("_buffers", "_modules", "_parameters")
_DATA = (Dataset, DataLoader, Sampler)
_DATA_ITEMS = 1000  # longer containers in data are data, not state
_DATA_BYTES = 2**20  # so are larger arrays and tensors
_LOADER = ("dataset", "sampler", "batch_sampler", "generator", "collate_fn")
_MODULE = frozenset(vars(nn.Module())) - {"training", "_is_full_backward_hook"} | {"_compiled_call_impl"}
_OPTIMIZING = (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
_OF_STATE_DICT = {TAG: "of the state dict"}
_OF_TYPING = "__orig_class__"  # marks objects of generic classes
_OF_SCHEDULERS = "step"  # of an optimizer, which they wrap


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
class Node:
    """An object, and its plain form by attribute; under `WHOLE`, what a container holds or what an object is."""

    owner: object
    plain: dict[str, Plain]
    is_data: bool = False


class Walk:
    """One look at everything that is reachable.

    Args:
        roots: where to start, by name; what is reached from two belongs to the first.
        beyond: objects that have a name and are not looked into, by name.
        known: nodes that have a name already, by name.
        mark: what begins the names of all others.

    Attributes:
        found: nodes by name.
    """

    def __init__(
        self, roots: Mapping[str, Root], beyond: Mapping[str, object], known: Mapping[str, Node], mark: str = ""
    ) -> None:
        self.found: dict[str, Node] = {}
        self._mark = mark
        self._names = {id(thing): name for name, thing in beyond.items()}
        self._roots = {id(root.owner): root for root in roots.values()}
        self._closed = self._names.keys() - self._roots.keys()
        self._storages: dict[int, tuple[Tensor, str]] = {}
        self._saved: set[int] = set()  # the tensors whose values a state dict has
        self._made: dict[type, bool] = {}
        self._is_data = False  # of the node that is looked at
        for name, node in known.items():
            self._names[id(node.owner)] = name
            if isinstance(node.owner, Tensor):
                self._note_storage(node.owner, name)
                if node.plain[WHOLE] == _OF_STATE_DICT:
                    self._saved.add(id(node.owner))
        for name, root in roots.items():
            if isinstance(root.owner, nn.Module) and not mark:
                self._register(name, root.owner)
        self._queue: collections.deque[tuple[str, object, bool]] = collections.deque()
        self._entered: set[int] = set()
        for name, root in reversed(list(roots.items())):
            self._names[id(root.owner)] = name
        self._taken = set(self._names.values())
        for root in roots.values():
            self._enter(root.owner, "", isinstance(root.owner, _DATA))
        while self._queue:
            self._look_at(*self._queue.popleft())

    def include(self, known: Iterable[Node]) -> None:
        """Look at nodes as well that no root leads to."""
        for node in known:
            self._enter(node.owner, "", node.is_data)
        while self._queue:
            self._look_at(*self._queue.popleft())

    def _register(self, name: str, module: nn.Module) -> None:
        """Name the tensors of a module that its state dict has: their values are not looked at."""
        for attribute, tensor in state_of(module).items():
            key = f"{name}.{attribute} of the state dict"
            self._names.setdefault(id(tensor), key)
            self._saved.add(id(tensor))
            self._note_storage(tensor, key)

    def _enter(self, value: object, where: str, is_data: bool) -> str:
        """The name of an object, which is looked at."""
        name = self._names.get(id(value))
        if name is None:
            deep = f"{where[:_LONG]}...{len(self._names)}"
            name = f"{self._mark}{where if len(where) <= _LONG else deep}"
            while name in self._taken:
                name += "'"
            self._taken.add(name)
            self._names[id(value)] = name
        if id(value) not in self._entered and id(value) not in self._closed:
            self._entered.add(id(value))
            self._queue.append((name, value, is_data or isinstance(value, _DATA)))
        return name

    def _look_at(self, name: str, value: Any, is_data: bool) -> None:
        self._is_data = is_data
        where = name.lstrip(NEW + NOW)
        root, is_new = self._roots.get(id(value)), name.startswith((NEW, NOW))
        plain: dict[str, Plain]
        if _is_large(value, is_data) and id(value) not in self._saved:
            plain = {WHOLE: _opaque(value)}
        elif root is None and not _has_attributes(value, is_new):
            plain = {WHOLE: self._whole(value, name)}
            if type(value) in (Tensor, nn.Parameter):
                for attribute, held in self._attributes_of_tensor(value):
                    at = f"{where}.{attribute}"
                    if attribute in TENSOR_HOOKS:
                        plain[attribute] = self._hooks(held, (), at)
                    else:
                        plain[attribute] = self._part(held, at)
        else:
            attributes = self._attributes(root or Root(value), is_new)
            plain = {WHOLE: self._kind(value, root)}
            if isinstance(value, nn.Module) and not is_new:
                for attribute, held in attributes:
                    plain[attribute] = self._part_of_module(value, held, attribute, where)
            else:
                for attribute, held in attributes:
                    plain[attribute] = self._part(held, f"{where}.{attribute}")
        self.found[name] = Node(value, plain, is_data)

    def _kind(self, value: object, root: Root | None) -> Plain:
        """What an object is, besides its attributes."""
        kind = type(value)
        if kind not in self._made:
            self._made[kind] = can_be_made(kind)
            if root is None or root.only is None:
                self._look_at_classes(value)
        is_made = self._made[kind]
        return {TAG: "made", "class": name_of(kind)} if is_made else _opaque(value)

    def _part_of_module(self, module: nn.Module, held: Any, attribute: str, where: str) -> Plain:
        if attribute in (TRAINED, SAVED):
            return held
        place, _, name = attribute.partition(".")
        at = f"{where}.{name if place in PARTS else attribute}"
        if attribute not in HOOKS:
            return self._part(held, at)
        return self._hooks(held, [getattr(module, f) for f in HOOKS[attribute]], at)

    def _hooks(self, hooks: Mapping[int, object], flags: Sequence[Mapping[int, bool]], at: str) -> list[Plain]:
        """Hooks in their order (their numbers are the process's), and how they are called."""
        return [
            [number, self._part(hook, f"{at}[{i}]"), [number in f for f in flags]]
            for i, (number, hook) in enumerate(hooks.items())
        ]

    def _whole(self, value: object, name: str) -> Plain:
        """The plain form of a node without attributes."""
        if id(value) in self._saved:
            return _OF_STATE_DICT
        where = name.lstrip(NEW + NOW)
        view = self._view(value, name)
        return view or encode(value, where, self._other, self._part)

    def _attributes_of_tensor(self, tensor: Tensor) -> Iterator[tuple[str, Any]]:
        yield from vars(tensor).items()
        if tensor.is_leaf and tensor.requires_grad:
            if tensor.grad is not None and id(tensor) not in self._saved:
                yield "grad", tensor.grad
            for attribute in TENSOR_HOOKS:
                yield attribute, getattr(tensor, attribute, None) or {}

    def _look_at_classes(self, value: object) -> None:
        """Attributes of classes are shared by their objects; those of classes that come later are not known."""
        for kind in type(value).__mro__[:-1]:
            if is_of_the_user(kind) and (not self._mark or id(kind) in self._names):
                self._enter(kind, f"class {kind.__module__}.{kind.__qualname__}", False)

    def _part(self, value: Any, where: str) -> Plain:
        """The plain form of what a node holds."""
        if type(value) in PLAIN:
            return value
        if not (changes_in_place(value) or _is_large(value, self._is_data)):
            return encode(value, where, self._named, self._part)
        if id(value) in self._names:
            return self._named(value, where)
        if isinstance(value, types.MethodType) and is_own_method(value):
            owner = self._part(value.__self__, f"{where}.__self__")
            return {TAG: "method", "name": value.__func__.__name__, "of": owner}
        if type(value) is weakref.ref:
            target = value()
            of = None if target is None else self._part(target, f"{where}()")
            return {TAG: "weak", "of": of}
        is_later = self._mark and isinstance(value, type)
        if is_later and is_of_the_user(value) and is_known(value):
            return {TAG: "class", "name": name_of(value)}
        return self._named(value, where)

    def _named(self, value: object, where: str) -> Plain:
        return {TAG: "object", "at": self._enter(value, where, self._is_data)}

    def _other(self, value: Any, where: str) -> Plain:
        """The plain form of a node that is neither a container nor an object with attributes."""
        if keeps_its_state(value):
            with contextlib.suppress(Unstorable):
                state = encode(dict(value.state_dict()), where)
                return {TAG: "state", "class": name_of(type(value)), "state": state}
        return _opaque(value, self._is_data)

    def _note_storage(self, tensor: Tensor, name: str) -> None:
        """Remember a tensor that has a memory of its own, to know what looks into it."""
        if type(tensor) in (Tensor, nn.Parameter) and _covers_its_storage(tensor):
            self._storages.setdefault(tensor.untyped_storage().data_ptr(), (tensor, name))

    def _view(self, value: object, name: str) -> Plain:
        """The plain form of a tensor that came while training and looks into the memory of another one."""
        if type(value) is not Tensor:
            if type(value) is nn.Parameter:
                self._note_storage(value, name)
            return None
        plain = not value.requires_grad and value.layout == torch.strided
        if self._mark and name.startswith((NEW, NOW)) and plain:
            with contextlib.suppress(NotImplementedError, RuntimeError):
                at = value.untyped_storage().data_ptr()
                whole, of = self._storages.get(at, (None, ""))
                if at and whole is not None and whole.dtype == value.dtype:
                    sizes = [tuple(value.size()), value.stride()]
                    as_strided = [*sizes, value.storage_offset()]
                    of_whole = {TAG: "object", "at": of}
                    return {TAG: "view", "of": of_whole, "as_strided": as_strided}
        self._note_storage(value, name)
        return None

    def _attributes(self, root: Root, is_new: bool) -> Iterator[tuple[str, object]]:
        owner = root.owner
        if root.only is not None:
            yield from ((name, getattr(owner, name, None)) for name in root.only)
            return
        if isinstance(owner, DataLoader) and not is_new:
            yield from ((name, getattr(owner, name)) for name in _LOADER)
            return
        if isinstance(owner, type):
            yield from ((k, v) for k, v in vars(owner).items() if _is_data_of_class(k, v))
            return
        yield from slots_of(owner)
        attributes = getattr(owner, "__dict__", {})
        if isinstance(owner, Metric) and is_new:
            attributes = owner.__getstate__()
        is_there = isinstance(owner, nn.Module) and not is_new
        left_out = {*root.without, *(_MODULE if is_there else ()), _OF_TYPING}
        if isinstance(owner, torch.optim.Optimizer):
            left_out.add(_OF_SCHEDULERS)
        yield from ((k, v) for k, v in attributes.items() if k not in left_out)
        if is_there:
            yield from self._parts(owner)
        if isinstance(owner, torch.optim.Optimizer) and not is_new:
            yield MEMBERS, tuple(map(_members, owner.param_groups))

    def _parts(self, module: nn.Module) -> Iterator[tuple[str, object]]:
        """What a module is made of."""
        for place in PARTS:
            for name, part in vars(module)[place].items():
                yield f"{place}.{name}", part
        yield from ((hooks, getattr(module, hooks)) for hooks in HOOKS)
        unsaved = module._non_persistent_buffers_set
        yield SAVED, {name: name not in unsaved for name in module._buffers}
        weights = {n: p for n, p in module._parameters.items() if p is not None}
        yield TRAINED, {name: p.requires_grad for name, p in weights.items()}


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """The tensors that a module's state dict has, by name."""
    return {
        f"{prefix}.{name}".lstrip("."): tensor
        for prefix, part in module.named_modules()
        for name, tensor in (*part._parameters.items(), *part._buffers.items())
        if tensor is not None and name not in part._non_persistent_buffers_set
    }


def is_own_method(method: types.MethodType) -> bool:
    """Whether a bound method is the one that its object's class has by that name."""
    kind = method.__self__ if isinstance(method.__self__, type) else type(method.__self__)
    name = getattr(method.__func__, "__name__", "")
    found = next((vars(k)[name] for k in kind.__mro__ if name in vars(k)), None)
    return getattr(found, "__func__", found) is method.__func__


def _members(group: Mapping[str, Any]) -> tuple[object, ...]:
    """The parameters of an optimizer's group, and its options as far as they are plain."""
    options = [(k, v) for k, v in group.items() if type(v) in (*PLAIN, tuple)]
    return tuple(group["params"]), tuple(options)


def _covers_its_storage(tensor: Tensor) -> bool:
    try:
        size = tensor.untyped_storage().nbytes()
    except (NotImplementedError, RuntimeError):
        return False
    return size > 0 and size == tensor.numel() * tensor.element_size()


def _has_attributes(value: object, is_new: bool) -> bool:
    """Whether there may be state of the user's among the attributes of an object, or, of one that was not there first,
    whether it is what its attributes are."""
    if isinstance(value, _OPTIMIZING) or type(value).__name__ == "LRSchedulerConfig":
        return is_new
    if isinstance(value, DataLoader) and hasattr(value, "load_state_dict"):
        return False  # it says itself what its state is
    if isinstance(value, torch.jit.ScriptModule):
        return False
    if isinstance(value, (nn.Module, *_DATA, types.SimpleNamespace)):
        return True
    if isinstance(value, (type, types.FunctionType)):
        return value.__module__ is not None and is_of_the_user(value)
    kind = type(value)
    held = (types.MethodType, types.ModuleType, Tensor, np.ndarray, np.generic)
    containers = (list, dict, set, collections.deque, bytearray)
    if isinstance(value, (*held, *containers)) or not is_of_the_user(kind):
        return False
    slots = any("__slots__" in vars(base) for base in kind.__mro__)
    return hasattr(value, "__dict__") or slots


def _is_data_of_class(name: str, value: object) -> bool:
    special = name.startswith("__") or name == "_abc_impl"
    return not special and not isinstance(value, type) and not hasattr(value, "__get__")


def _opaque(value: object, is_data: bool = True) -> Plain:
    """What stands for a value without a plain form; a table that is state has a digest, so that changes are named."""
    digest = {}
    if type(value).__module__.partition(".")[0] == "pandas" and not is_data:
        with contextlib.suppress(TypeError):
            hashes = sys.modules["pandas"].util.hash_pandas_object(value)
            found = hashlib.sha256(hashes.to_numpy().tobytes()).hexdigest()
            digest = {"digest": found}
    return {TAG: "opaque", "is": describe(value), **digest}


def _is_large(value: object, is_data: bool) -> bool:
    """Whether a value is data rather than state: too large to be compared and kept."""
    if isinstance(value, (Tensor, np.ndarray)):
        return is_data and value.nbytes > _DATA_BYTES
    return is_data and _count(value, _DATA_ITEMS) > _DATA_ITEMS


def _count(value: object, limit: int) -> int:
    """The values in nested containers, counted as far as a limit."""
    if not isinstance(value, (list, tuple, set, frozenset, dict, collections.deque)):
        return 1
    total = len(value)
    if total <= limit:
        for part in value.values() if isinstance(value, dict) else value:
            total += _count(part, limit - total) if total <= limit else 0
    return total
