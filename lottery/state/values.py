"""Values as plain data: what `torch.load(weights_only=True)` reads back, with what is not plain under tags.

Plain values (numbers, text, tensors, lists, dictionaries) stand for themselves. NumPy arrays and scalars, random
generators, enumerations, other containers and metrics become dictionaries with the key `TAG`. Nothing that is read back
is called: classes are looked up among those that are imported already, and only as far as they are harmless.
"""

from __future__ import annotations

import collections
import datetime
import enum
import pathlib
import random
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

TAG = "__lottery__"
METRICS = (Metric, MetricCollection)
_PLAIN = (type(None), bool, int, float, complex, str)
_TORCH = (torch.dtype, torch.device, torch.Size)
_MAPPINGS = (dict, collections.OrderedDict)  # that torch reads back
_CONTAINERS = (list, tuple, set, frozenset, collections.deque)
_BUILT: dict[str, Any] = {
    f"{kind.__module__}:{kind.__qualname__}": kind
    for kind in (
        *(list, tuple, set, frozenset, dict, int, float, str),
        *(collections.OrderedDict, collections.Counter, collections.deque),
    )
}

Other = Callable[[Any, str], Any]


class Unstorable(TypeError):
    """A value that has no plain form; the message names it and where it stands."""

    def __init__(self, value: Any, where: str) -> None:
        self.value, self.where = value, where
        super().__init__(f"{where} ({describe(value)})")


def describe(value: Any) -> str:
    """The kind of a value in words."""
    if isinstance(value, types.FunctionType) and value.__name__ == "<lambda>":
        return "a lambda"
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def refuse(value: Any, where: str) -> Any:
    """What `encode` does with a value that has no plain form, unless it is told otherwise."""
    raise Unstorable(value, where)


def encode(
    value: Any, where: str = "", other: Other = refuse, *, copies: bool = True
) -> Any:
    """The plain form of a value.

    Args:
        value: anything.
        where: its name, for errors.
        other: what gives the plain form of a value that has none of its own, from the value and its name.
        copies: whether tensors are copied, with their devices; otherwise they are taken as they are.

    Raises:
        Unstorable: by default, for such a value.

    Example:
        >>> decode(encode({"best": np.float64(0.5), "seen": collections.deque([1, 2], 3)}))
        {'best': np.float64(0.5), 'seen': deque([1, 2], maxlen=3)}
    """
    kind = type(value)
    if kind in _PLAIN or kind in _TORCH:
        return value
    if kind is Tensor:
        return _encode_tensor(value) if copies else value
    if kind is bytes:
        return {TAG: "bytes", **_numbers(np.frombuffer(value, np.uint8))}
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return {TAG: "array", "shape": list(value.shape), **_numbers(value)}
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        return {TAG: "scalar", **_numbers(np.asarray(value))}
    if is_generator(value):
        return {TAG: "generator", **_generator_state(value)}
    if isinstance(value, enum.Flag):
        return {TAG: "enum", "class": _name(kind), "value": value.value}
    if isinstance(value, enum.Enum):
        return {TAG: "enum", "class": _name(kind), "name": value.name}
    if isinstance(value, pathlib.PurePath):
        return {TAG: "path", "path": str(value)}
    if kind is datetime.timedelta:
        return {TAG: "duration", "of": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, dict):
        return _encode_mapping(value, where, other, copies)
    if isinstance(value, _CONTAINERS):
        return _encode_container(value, where, other, copies)
    return other(value, where)


def decode(plain: Any, live: Any = None, at: Callable[[str], Any] | None = None) -> Any:
    """The value of a plain form.

    Args:
        plain: what `encode` gave, also after it was read from a file.
        live: what stands in its place now. A container, array, tensor or generator of the same kind is filled in place.
        at: gives the live object of a name that `encode`'s `other` wrote as ``{TAG: "object", "at": name}``.
    """
    kind = type(plain)
    if kind is Tensor:
        return _decode_tensor({"data": plain, "device": None, "leaf": False}, live, at)
    if kind in (list, tuple):
        there = live if type(live) is kind else ()
        items = [decode(p, _item(there, i), at) for i, p in enumerate(plain)]
        if kind is list and type(live) is list:
            live[:] = items
            return live
        return kind(items)
    if kind not in _MAPPINGS:
        return plain
    if TAG not in plain:
        return _fill_mapping(plain.items(), live, kind, at)
    return _DECODERS[plain[TAG]](plain, live, at)


def same(a: Any, b: Any) -> bool:
    """Whether two plain forms are equal to the bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        kinds = [(t.shape, t.dtype, t.device, t.layout) for t in (a, b)]
        return kinds[0] == kinds[1] and _equal_bits(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b) if isinstance(a, (float, complex)) else bool(a == b)


def tags(plain: Any) -> set[str]:
    """The kinds of what is not plain in a plain form."""
    if isinstance(plain, (list, tuple)):
        return set().union(*map(tags, plain))
    if not isinstance(plain, dict):
        return set()
    own = {plain[TAG]} if TAG in plain else set()
    return own.union(*map(tags, plain.values()))


def is_plain(value: Any) -> bool:
    """Whether `torch.load(weights_only=True)` reads a value back as it is."""
    return not tags(encode(value, other=lambda *_: {TAG: "opaque"}, copies=False))


# tensors and arrays


def _encode_tensor(value: Tensor) -> Any:
    copied = value.detach().clone()
    if value.device.type == "cpu" and not value.requires_grad:
        return copied
    marks = {"device": str(value.device), "leaf": value.requires_grad}
    return {TAG: "tensor", "data": copied, **marks}


def _decode_tensor(plain: Any, live: Any, _: Any) -> Any:
    data: Tensor = plain["data"]
    fits = (
        type(live) is Tensor
        and live.is_leaf
        and not live.is_inference()
        and live.layout == data.layout == torch.strided
        and (live.shape, live.dtype) == (data.shape, data.dtype)
        and live.requires_grad == plain["leaf"]
    )
    if fits:
        with torch.no_grad():
            return live.copy_(data)
    made = data.clone()
    made = made.to(plain["device"]) if plain["device"] else made
    return made.requires_grad_() if plain["leaf"] else made


def _equal_bits(a: Tensor, b: Tensor) -> bool:
    if a.layout != torch.strided:
        a, b = a.to_dense(), b.to_dense()
    if not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def _numbers(array: np.ndarray) -> dict[str, Any]:
    data = torch.from_numpy(np.frombuffer(array.tobytes(), np.uint8).copy())
    return {"dtype": array.dtype.str, "data": data}


def _decode_array(plain: Any, live: Any, _: Any) -> Any:
    data = plain["data"].numpy().tobytes()
    array = np.frombuffer(data, dtype=np.dtype(plain["dtype"])).reshape(plain["shape"])
    alike = isinstance(live, np.ndarray) and live.flags.writeable
    if alike and (live.shape, live.dtype) == (array.shape, array.dtype):
        live[...] = array
        return live
    return array.copy()


def _decode_scalar(plain: Any, *_: Any) -> Any:
    return np.frombuffer(plain["data"].numpy().tobytes(), np.dtype(plain["dtype"]))[0]


# generators of random numbers


def is_generator(value: Any) -> bool:
    """Whether a value is a generator of random numbers."""
    kinds = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
    return isinstance(value, kinds) and not isinstance(value, random.SystemRandom)


def reseed(generator: Any, seed: int) -> None:
    """Start a generator of random numbers anew."""
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        bits.state = type(bits)(seed).state
    elif isinstance(generator, np.random.RandomState):
        generator.seed(seed % 2**32)
    else:
        generator.seed(seed)


def _generator_state(generator: Any) -> dict[str, Any]:
    if isinstance(generator, torch.Generator):
        return {"of": "torch", "state": generator.get_state()}
    if isinstance(generator, np.random.Generator):
        return {"of": "numpy", "state": encode(generator.bit_generator.state)}
    if isinstance(generator, np.random.RandomState):
        return {"of": "numpy legacy", "state": encode(generator.get_state(legacy=True))}
    return {"of": "python", "state": encode(generator.getstate())}


def _decode_generator(plain: Any, live: Any, _: Any) -> Any:
    state, of = decode(plain["state"]), plain["of"]
    found: Any
    if of == "torch":
        found = live if isinstance(live, torch.Generator) else torch.Generator()
        found.set_state(state)
    elif of == "numpy":
        bits = getattr(np.random, state["bit_generator"])
        fits = (
            isinstance(live, np.random.Generator) and type(live.bit_generator) is bits
        )
        found = live if fits else np.random.Generator(bits())
        found.bit_generator.state = state
    elif of == "numpy legacy":
        fits = isinstance(live, np.random.RandomState)
        found = live if fits else np.random.RandomState()
        found.set_state(state)
    else:
        found = live if isinstance(live, random.Random) else random.Random()
        found.setstate(state)
    return found


# containers


def _encode_mapping(
    value: dict[Any, Any], where: str, other: Other, copies: bool
) -> Any:
    items = [
        (k, encode(v, f"{where}[{k!r}]", other, copies=copies))
        for k, v in value.items()
    ]
    named = TAG not in value and all(type(k) in _PLAIN for k in value)
    if named and type(value) in _MAPPINGS:
        return type(value)(items)
    keys = [encode(k, f"{where} key", other) for k in value]
    if any("opaque" in tags(key) for key in keys):
        return other(value, where)
    pairs = [[key, v] for key, (_, v) in zip(keys, items, strict=True)]
    factory = getattr(value, "default_factory", None)
    made = {"factory": _name(factory)} if factory in _BUILT.values() else {}
    return {TAG: "mapping", "class": _name(type(value)), "items": pairs, **made}


def _encode_container(value: Any, where: str, other: Other, copies: bool) -> Any:
    unordered = isinstance(value, (set, frozenset))
    items = [
        encode(v, f"{where}[{i}]", other, copies=copies)
        for i, v in enumerate(sorted(value, key=repr) if unordered else value)
    ]
    if type(value) in (list, tuple):
        return type(value)(items)
    length = {"maxlen": value.maxlen} if isinstance(value, collections.deque) else {}
    return {TAG: "container", "class": _name(type(value)), "items": items, **length}


def _fill_mapping(items: Any, live: Any, kind: Any, at: Any) -> Any:
    there = live if isinstance(live, dict) else {}
    found = [(k, decode(v, there.get(k), at)) for k, v in items]
    if type(live) is not kind:
        return kind(found)
    live.clear()
    for key, value in found:
        live[key] = value
    return live


def _decode_mapping(plain: Any, live: Any, at: Any) -> Any:
    items = [(_key(decode(k, None, at)), v) for k, v in plain["items"]]
    if _name(type(live)) == plain["class"]:
        return _fill_mapping(items, live, type(live), at)
    if "factory" in plain:
        return collections.defaultdict(_BUILT[plain["factory"]], items)
    kind = _BUILT[plain["class"]]
    return _fill_mapping(items, kind(), kind, at)


def _decode_container(plain: Any, live: Any, at: Any) -> Any:
    items = [decode(p, None, at) for p in plain["items"]]
    alike = _name(type(live)) == plain["class"]
    if alike and isinstance(live, (set, list, collections.deque)):
        live.clear()
        (live.update if isinstance(live, set) else live.extend)(items)
        return live
    kind = _BUILT.get(plain["class"]) or _find(plain["class"])
    if isinstance(kind, type) and issubclass(kind, tuple):  # a named one
        return tuple.__new__(kind, items)
    if kind not in _BUILT.values():
        raise KeyError(f"{plain['class']} is no container")
    return kind(items, plain["maxlen"]) if kind is collections.deque else kind(items)


def _item(values: Any, index: int) -> Any:
    return values[index] if index < len(values) else None


def _key(value: Any) -> Any:
    return tuple(map(_key, value)) if isinstance(value, list) else value


# what is looked up


def _name(kind: Any) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _find(name: str) -> Any:
    """What a name stands for in a module that is imported already."""
    module, _, path = name.partition(":")
    found: Any = sys.modules[module]
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _decode_enum(plain: Any, live: Any, _: Any) -> Any:
    kind = type(live) if _name(type(live)) == plain["class"] else _find(plain["class"])
    if not (isinstance(kind, type) and issubclass(kind, enum.Enum)):
        raise KeyError(f"{plain['class']} is no enumeration")
    return kind[plain["name"]] if "name" in plain else kind(plain["value"])


def encode_metric(metric: Metric | MetricCollection, where: str) -> Any:
    """The plain form of a whole metric, for one that was made while training.

    Raises:
        Unstorable: it holds something that has none.
    """

    def other(value: Any, where: str) -> Any:
        if isinstance(value, METRICS):
            return encode_metric(value, where)
        if isinstance(value, types.FunctionType) and _is_torchmetrics(value):
            return {TAG: "function", "name": _name(value)}
        raise Unstorable(value, where)

    state = metric.__getstate__() if isinstance(metric, Metric) else vars(metric)
    state = encode(dict(state), where, other)
    return {TAG: "metric", "class": _name(type(metric)), "state": state}


def _decode_metric(plain: Any, *_: Any) -> Any:
    kind = _find(plain["class"])
    if not (isinstance(kind, type) and issubclass(kind, METRICS)):
        raise KeyError(f"{plain['class']} is no metric")
    metric = kind.__new__(kind)
    nn.Module.__init__(metric)
    metric.__setstate__(decode(plain["state"]))
    return metric


def _decode_function(plain: Any, *_: Any) -> Any:
    found = _find(plain["name"])
    if not (isinstance(found, types.FunctionType) and _is_torchmetrics(found)):
        raise KeyError(f"{plain['name']} is not a function of torchmetrics")
    return found


def _is_torchmetrics(function: Any) -> bool:
    return function.__module__.partition(".")[0] == "torchmetrics"


_DECODERS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "tensor": _decode_tensor,
    "bytes": lambda plain, *_: plain["data"].numpy().tobytes(),
    "array": _decode_array,
    "scalar": _decode_scalar,
    "generator": _decode_generator,
    "mapping": _decode_mapping,
    "container": _decode_container,
    "enum": _decode_enum,
    "metric": _decode_metric,
    "function": _decode_function,
    "path": lambda plain, *_: pathlib.Path(plain["path"]),
    "duration": lambda plain, *_: datetime.timedelta(*plain["of"]),
    "new": lambda plain, _, at: decode(plain["value"], None, at),
    "object": lambda plain, _, at: at(plain["at"]),
    "opaque": lambda _, live, __: live,
}
