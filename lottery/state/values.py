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
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from lottery.state.classes import (
    Missing,
    can_be_made,
    describe,
    find,
    is_of_the_user,
    name_of,
    slots_of,
)
from lottery.state.numbers import (
    DECODERS,
    TAG,
    decode_tensor,
    encode_numbers,
    equal_bits,
)

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
    if kind is Tensor and not copies:
        return value
    numbers = encode_numbers(value)
    if numbers is not None:
        return numbers
    if is_generator(value):
        return {TAG: "generator", **_generator_state(value)}
    if isinstance(value, enum.Flag):
        return {TAG: "enum", "class": name_of(kind), "value": value.value}
    if isinstance(value, enum.Enum):
        return {TAG: "enum", "class": name_of(kind), "name": value.name}
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

    Raises:
        Missing: what has no plain form stood there, and nothing stands in its place now.
    """
    kind = type(plain)
    if kind is Tensor:
        return decode_tensor({"data": plain, "device": None, "leaf": False}, live, at)
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
        return kinds[0] == kinds[1] and equal_bits(a, b)
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
    made = {"factory": name_of(factory)} if factory in _BUILT.values() else {}
    own = _attributes_of_container(value, where, other)
    kind = name_of(type(value))
    return {TAG: "mapping", "class": kind, "items": pairs, **made, **own}


def _encode_container(value: Any, where: str, other: Other, copies: bool) -> Any:
    unordered = isinstance(value, (set, frozenset))
    items = [
        encode(v, f"{where}[{i}]", other, copies=copies)
        for i, v in enumerate(sorted(value, key=repr) if unordered else value)
    ]
    if type(value) in (list, tuple):
        return type(value)(items)
    length = {"maxlen": value.maxlen} if isinstance(value, collections.deque) else {}
    own = _attributes_of_container(value, where, other)
    kind = name_of(type(value))
    return {TAG: "container", "class": kind, "items": items, **length, **own}


def _attributes_of_container(value: Any, where: str, other: Other) -> dict[str, Any]:
    attributes = getattr(value, "__dict__", None)
    return {"attributes": encode(attributes, where, other)} if attributes else {}


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
    if name_of(type(live)) == plain["class"]:
        found = live
    elif "factory" in plain:
        found = collections.defaultdict(_BUILT[plain["factory"]])
    else:
        found = _empty(plain["class"], collections.OrderedDict, dict)
    base = next(k for k in (collections.OrderedDict, dict) if isinstance(found, k))
    values = [(k, decode(v, dict.get(found, k), at)) for k, v in items]
    base.clear(found)
    for key, value in values:
        base.__setitem__(found, key, value)
    return _with_attributes(found, plain, at)


def _decode_container(plain: Any, live: Any, at: Any) -> Any:
    alike = name_of(type(live)) == plain["class"]
    there = list(live) if alike and isinstance(live, (list, collections.deque)) else ()
    items = [decode(p, _item(there, i), at) for i, p in enumerate(plain["items"])]
    kind = _BUILT.get(plain["class"]) or find(plain["class"])
    if isinstance(kind, type) and issubclass(kind, tuple):  # a named one
        return tuple.__new__(kind, items)
    if kind is frozenset:
        return frozenset(items)
    if kind is collections.deque and not alike:
        return collections.deque(items, plain["maxlen"])
    found = live if alike else _empty(plain["class"], list, set, collections.deque)
    base: Any = next(k for k in (list, set, collections.deque) if isinstance(found, k))
    base.clear(found)
    (set.update if base is set else base.extend)(found, items)
    return _with_attributes(found, plain, at)


def _empty(name: str, *bases: Any) -> Any:
    """A new container of a class that is one of the user's, or Python's own; no code of the class is run."""
    kind = _BUILT.get(name) or find(name)
    base = next(
        (b for b in bases if isinstance(kind, type) and issubclass(kind, b)), None
    )
    if base is None or not (kind in _BUILT.values() or is_of_the_user(kind)):
        raise KeyError(f"{name} is no container")
    return kind() if kind in _BUILT.values() else base.__new__(kind)


def _with_attributes(container: Any, plain: Any, at: Any) -> Any:
    if hasattr(container, "__dict__"):
        live = dict(vars(container))
        vars(container).clear()
        for name, value in plain.get("attributes", {}).items():
            vars(container)[name] = decode(value, live.get(name), at)
    return container


def _item(values: Any, index: int) -> Any:
    return values[index] if index < len(values) else None


def _key(value: Any) -> Any:
    return tuple(map(_key, value)) if isinstance(value, list) else value


# what is looked up


def _decode_enum(plain: Any, live: Any, _: Any) -> Any:
    kind = type(live) if name_of(type(live)) == plain["class"] else find(plain["class"])
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
            return {TAG: "function", "name": name_of(value)}
        raise Unstorable(value, where)

    state = metric.__getstate__() if isinstance(metric, Metric) else vars(metric)
    state = encode(dict(state), where, other)
    return {TAG: "metric", "class": name_of(type(metric)), "state": state}


def encode_made(value: Any, where: str, other: Other) -> Any:
    """The plain form of a whole object of the user's, for one that was made while training: class and attributes.

    Raises:
        Unstorable: no such object can be made without running code of its class.
    """
    kind = type(value)
    if not can_be_made(kind):
        raise Unstorable(value, where)
    attributes = {
        name: encode(attribute, f"{where}.{name}", other)
        for name, attribute in (
            *slots_of(value),
            *getattr(value, "__dict__", {}).items(),
        )
    }
    return {TAG: "made", "class": name_of(kind), "attributes": attributes}


def _decode_made(plain: Any, _: Any, at: Any) -> Any:
    kind = find(plain["class"])
    if not (isinstance(kind, type) and can_be_made(kind)):
        raise KeyError(
            f"{plain['class']} is no class of objects that only have attributes"
        )
    made: Any = object.__new__(kind)
    for name, value in plain["attributes"].items():
        object.__setattr__(made, name, decode(value, None, at))
    return made


def encode_state(value: Any, where: str, other: Other) -> Any:
    """The plain form of an object by its `state_dict`."""
    state = encode(dict(value.state_dict()), where, other)
    return {TAG: "state", "class": name_of(type(value)), "state": state}


def _decode_state(plain: Any, live: Any, at: Any) -> Any:
    if name_of(type(live)) != plain["class"]:
        raise Missing(plain["class"])
    live.load_state_dict(decode(plain["state"], dict(live.state_dict()), at))
    return live


def _decode_opaque(plain: Any, live: Any, _: Any) -> Any:
    if live is None:
        raise Missing(plain["is"])
    return live


def _decode_metric(plain: Any, *_: Any) -> Any:
    kind = find(plain["class"])
    if not (isinstance(kind, type) and issubclass(kind, METRICS)):
        raise KeyError(f"{plain['class']} is no metric")
    metric = kind.__new__(kind)
    nn.Module.__init__(metric)
    metric.__setstate__(decode(plain["state"]))
    return metric


def _decode_function(plain: Any, *_: Any) -> Any:
    found = find(plain["name"])
    if not (isinstance(found, types.FunctionType) and _is_torchmetrics(found)):
        raise KeyError(f"{plain['name']} is not a function of torchmetrics")
    return found


def _is_torchmetrics(function: Any) -> bool:
    return function.__module__.partition(".")[0] == "torchmetrics"


_DECODERS: dict[str, Callable[[Any, Any, Any], Any]] = {
    **DECODERS,
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
    "attribute": lambda plain, _, at: getattr(at(plain["at"]), plain["name"]),
    "opaque": _decode_opaque,
    "made": _decode_made,
    "state": _decode_state,
}
