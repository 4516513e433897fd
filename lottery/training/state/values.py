"""Values as plain data: what `torch.load(weights_only=True)` reads back, with what is not plain under tags.

Plain values (numbers, text, tensors, lists, dictionaries) stand for themselves. NumPy arrays and scalars, random
generators, enumerations and other containers become dictionaries with the key `TAG`. Nothing that is read back is
called: classes are looked up among those that are imported already, and only as far as they are harmless.
"""

from __future__ import annotations

import ast
import collections
import datetime
import decimal
import enum
import fractions
import functools
import itertools
import pathlib
import types
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lottery.training.state import generators
from lottery.training.state.classes import Missing, describe, find, is_harmless, is_known, name_of
from lottery.training.state.generators import is_generator
from lottery.training.state.numbers import DECODERS, TAG, Plain, encode_numbers, equal_bits, fill_numbers

PLAIN = (type(None), bool, int, float, complex, str)
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
# values that are what their arguments are
_VALUES: dict[type, Callable[[Any], tuple[object, ...]]] = {
    datetime.timedelta: lambda v: (v.days, v.seconds, v.microseconds),
    datetime.date: lambda v: (v.year, v.month, v.day),
    datetime.datetime: lambda v: (*v.timetuple()[:6], v.microsecond),
    fractions.Fraction: lambda v: (v.numerator, v.denominator),
    decimal.Decimal: lambda v: (str(v),),
    uuid.UUID: lambda v: (str(v),),
    slice: lambda v: (v.start, v.stop, v.step),
    range: lambda v: (v.start, v.stop, v.step),
    type(...): lambda _: (),
    itertools.count: lambda v: tuple(ast.literal_eval(f"[{repr(v)[6:-1]}]")),
}
_FIXED = (
    *(*PLAIN, *_TORCH, bytes, enum.Enum, pathlib.PurePath),
    *(np.generic, tuple, frozenset, functools.partial, *_VALUES),
)
_NAMED = {name_of(kind): kind for kind in _VALUES}
# packages whose functions may be looked up
_FUNCTIONS = ("torchmetrics.", "torch.nn.functional")

_PARTIAL = ("func", "args", "keywords")
T = TypeVar("T")
Other = Callable[[object, str], Plain]
At = Callable[[str], object]  # gives the object of a name


class Unstorable(TypeError):
    """A value that has no plain form; the message names it and where it stands."""

    def __init__(self, value: object, where: str) -> None:
        self.value, self.where = value, where
        super().__init__(f"{where} ({describe(value)})")


def refuse(value: object, where: str) -> Plain:
    """What `encode` does with a value that has no plain form, unless it is told otherwise."""
    raise Unstorable(value, where)


def encode(
    value: Any, where: str = "", other: Other = refuse, part: Other | None = None, *, copies: bool = True
) -> Plain:
    """The plain form of a value.

    Args:
        value: anything.
        where: its name, for errors.
        other: what gives the plain form of a value that has none of its own, from the value and its name.
        part: what gives the plain form of what a container holds; by default, this function.
        copies: whether tensors are copied, with their devices; otherwise they are taken as they are.

    Raises:
        Unstorable: by default, for such a value.

    Example:
        >>> decode(encode({"best": np.float64(0.5), "seen": collections.deque([1, 2], 3)}))
        {'best': np.float64(0.5), 'seen': deque([1, 2], maxlen=3)}
    """
    kind = type(value)
    if kind in PLAIN or kind in _TORCH:
        return value
    if kind in (Tensor, nn.Parameter) and not copies:
        return value
    numbers = encode_numbers(value)
    if numbers is not None:
        return numbers
    alone = _encode_alone(value)
    if alone is not None:
        return alone
    part = part or functools.partial(encode, other=other, copies=copies)
    if type(value) is np.ndarray:  # of objects
        items = [part(v, f"{where}[{i}]") for i, v in enumerate(value.flat)]
        return {TAG: "objects", "shape": list(value.shape), "items": items}
    if kind in _VALUES and getattr(value, "tzinfo", None) is None:
        of = [part(argument, where) for argument in _VALUES[kind](value)]
        return {TAG: "value", "class": name_of(kind), "of": of}
    if kind is functools.partial:
        of = [value.func, value.args, value.keywords]
        parts = [part(p, f"{where}.{n}") for p, n in zip(of, _PARTIAL, strict=True)]
        return {TAG: "partial", "of": parts}
    if isinstance(value, dict):
        return _encode_mapping(value, where, other, part)
    if isinstance(value, _CONTAINERS) and is_known(kind):
        return _encode_container(value, where, part)
    return other(value, where)


def _encode_alone(value: object) -> dict[str, Plain] | None:
    """The plain form of a value that holds no others, and is no number; None of what is another kind."""
    if is_generator(value):
        whose, state = generators.state_of(value)
        return {TAG: "generator", "of": whose, "state": encode(state)}
    if isinstance(value, enum.Enum) and is_known(type(value)):
        by = "value" if isinstance(value, enum.Flag) else "name"
        return {TAG: "enum", "class": name_of(type(value)), by: getattr(value, by)}
    if isinstance(value, pathlib.PurePath):
        return {TAG: "path", "path": str(value)}
    if isinstance(value, types.FunctionType) and _may_be_found(value):
        return {TAG: "function", "name": name_of(value)}
    return None


def decode(plain: Plain, at: At | None = None) -> Any:
    """The value of a plain form.

    Args:
        plain: what `encode` gave, also after it was read from a file.
        at: gives the object of a name that `other` or `part` of `encode` wrote as ``{TAG: "object", "at": name}``.

    Raises:
        Missing: what has no plain form stood there.
    """
    kind = type(plain)
    if kind is Tensor:
        return plain.clone()
    if kind in (list, tuple):
        return kind([decode(p, at) for p in plain])
    if kind not in _MAPPINGS:
        return plain
    if TAG not in plain:
        return kind([(k, decode(v, at)) for k, v in plain.items()])
    tag = plain[TAG]
    return DECODERS[tag](plain) if tag in DECODERS else _DECODERS_WITH_PARTS[tag](plain, at)


def fill(live: Any, found: Any) -> None:
    """Make a container, array, tensor or generator equal to another one of its kind, in place.

    Raises:
        Missing: it cannot be.
    """
    if is_generator(live):
        generators.put_state(live, generators.state_of(found)[1])
        return
    base = _base_of(type(live))
    if base is None:
        fill_numbers(live, found)
        return
    base.clear(live)
    if issubclass(base, dict):
        for key, value in found.items():
            base.__setitem__(live, key, value)
    else:
        items = _ordered(list, list(found)) if base is set else found
        (set.update if base is set else base.extend)(live, items)
    if hasattr(live, "__dict__"):
        attributes = dict(vars(found))
        vars(live).clear()
        vars(live).update(attributes)


def empty(plain: Plain) -> Any:
    """A new container of the kind of a plain form; no code of its class is run.

    Raises:
        Missing: there is no such class.
    """
    if isinstance(plain, list) or TAG not in plain:
        return type(plain)()
    if plain[TAG] == "objects":
        return np.empty(plain["shape"], object)
    if "factory" in plain:
        return collections.defaultdict(_BUILT[plain["factory"]])
    kind = _BUILT.get(plain["class"]) or find(plain["class"])
    base = _base_of(kind) if isinstance(kind, type) else None
    if base is None or not (kind in _BUILT.values() or is_harmless(kind)):
        raise Missing(f"{plain['class']} is no container")
    if kind is collections.deque:
        return kind(maxlen=plain["maxlen"])
    return kind() if kind in _BUILT.values() else base.__new__(kind)


def is_whole(value: object) -> bool:
    """Whether a value that changes in place holds no other one: numbers or a generator."""
    return _base_of(type(value)) is None and getattr(value, "dtype", None) != object


def changes_in_place(value: object) -> bool:
    """Whether a value may become another one and stay the same object."""
    if isinstance(value, types.FunctionType):
        return not _may_be_found(value)
    return not isinstance(value, _FIXED)


def same(a: Plain, b: Plain) -> bool:
    """Whether two plain forms are equal to the bit."""
    if a is b:
        return True
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


def tagged(plain: Plain) -> Iterator[dict[str, Plain]]:
    """What is not plain in a plain form, also inside of other such forms."""
    if isinstance(plain, (list, tuple)):
        for p in plain:
            yield from tagged(p)
    elif isinstance(plain, dict):
        if TAG in plain:
            yield plain
        for p in plain.values():
            yield from tagged(p)


def is_plain(value: object) -> bool:
    """Whether `torch.load(weights_only=True)` reads a value back as it is."""
    form = encode(value, other=lambda *_: {TAG: "opaque"}, copies=False)
    return next(tagged(form), None) is None


# containers


def _encode_mapping(value: dict[object, object], where: str, other: Other, part: Other) -> Plain:
    items = [(k, part(v, f"{where}[{k!r}]")) for k, v in value.items()]
    named = TAG not in value and all(type(k) in PLAIN for k in value)
    if named and type(value) in _MAPPINGS:
        return type(value)(items)
    keys = [part(k, f"{where} key") for k in value]
    if any(t[TAG] == "opaque" for t in tagged(keys)):
        return other(value, where)
    pairs = [[key, v] for key, (_, v) in zip(keys, items, strict=True)]
    factory = getattr(value, "default_factory", None)
    made = {"factory": name_of(factory)} if factory in _BUILT.values() else {}
    own = _attributes_of_container(value, where, part)
    kind = name_of(type(value))
    return {TAG: "mapping", "class": kind, "items": pairs, **made, **own}


def _encode_container(value: Any, where: str, part: Other) -> Plain:
    places: Sequence[int] = range(len(value))
    if isinstance(value, (set, frozenset)):  # whose order is the process's
        order = {id(v): i for i, v in enumerate(sorted(value, key=repr))}
        places = [order[id(v)] for v in value]
    items = [part(v, f"{where}[{i}]") for i, v in zip(places, value, strict=True)]
    if type(value) in (list, tuple):
        return type(value)(items)
    length = {"maxlen": value.maxlen} if isinstance(value, collections.deque) else {}
    own = _attributes_of_container(value, where, part)
    kind = name_of(type(value))
    return {TAG: "container", "class": kind, "items": items, **length, **own}


def _attributes_of_container(value: object, where: str, part: Other) -> dict[str, Plain]:
    attributes = getattr(value, "__dict__", {})
    plain = {k: part(v, f"{where}.{k}") for k, v in attributes.items()}
    return {"attributes": [[k, v] for k, v in plain.items()]} if plain else {}


def _decode_mapping(plain: Plain, at: At | None) -> object:
    found = empty(plain)
    base = _base_of(type(found))
    for key, value in plain["items"]:
        base.__setitem__(found, _key(decode(key, at)), decode(value, at))
    return _with_attributes(found, plain, at)


def _decode_container(plain: Plain, at: At | None) -> object:
    items = [decode(p, at) for p in plain["items"]]
    kind = _BUILT.get(plain["class"]) or find(plain["class"])
    if isinstance(kind, type) and issubclass(kind, tuple):  # a named one
        return tuple.__new__(kind, items)
    if kind is frozenset:
        return _ordered(kind, items)
    found = empty(plain)
    base = _base_of(type(found))
    if base is set:
        set.update(found, _ordered(list, items))
    else:
        base.extend(found, items)
    return _with_attributes(found, plain, at)


def _ordered(kind: Callable[[list[object]], T], items: list[object]) -> T:
    """Items as a collection of which sets, filled in this order, are mostly passed through in the order of `items`."""
    backwards = items[::-1]
    return kind(backwards if list(set(backwards)) == items else items)


def _decode_objects(plain: Plain, at: At | None) -> object:
    found = np.empty(plain["shape"], object)
    for index, item in enumerate(plain["items"]):
        found.flat[index] = decode(item, at)
    return found


def _with_attributes(container: object, plain: Plain, at: At | None) -> object:
    for name, value in plain.get("attributes", ()):
        vars(container)[name] = decode(value, at)
    return container


def _base_of(kind: type) -> Any:
    """Python's own container that a class is one of."""
    bases = (collections.OrderedDict, dict, list, set, collections.deque)
    return next((base for base in bases if issubclass(kind, base)), None)


def _key(value: object) -> object:
    return tuple(map(_key, value)) if isinstance(value, list) else value


# what is looked up


def _decode_enum(plain: Plain, _: At | None) -> object:
    kind = find(plain["class"])
    if not (isinstance(kind, type) and issubclass(kind, enum.Enum)):
        raise Missing(f"{plain['class']} is no enumeration")
    return kind[plain["name"]] if "name" in plain else kind(plain["value"])


def _decode_function(plain: Plain, _: At | None) -> object:
    found = find(plain["name"])
    if not (isinstance(found, types.FunctionType) and _may_be_found(found)):
        raise Missing(f"{plain['name']} is not a function of torchmetrics or of torch")
    return found


def _may_be_found(function: types.FunctionType) -> bool:
    """Whether a function is one that a name may stand for."""
    return f"{function.__module__}.".startswith(_FUNCTIONS) and is_known(function)


def _decode_object(plain: Plain, at: At | None) -> object:
    assert at is not None
    return at(plain["at"])


def _decode_opaque(plain: Plain, _: At | None) -> object:
    raise Missing(plain["is"])


def _decode_class(plain: Plain, _: At | None) -> object:
    found = find(plain["name"])
    if not (isinstance(found, type) and is_harmless(found)):
        raise Missing(plain["name"])
    return found


def _decode_method(plain: Plain, at: At | None) -> object:
    owner = decode(plain["of"], at)
    kind = owner if isinstance(owner, type) else type(owner)
    for base in kind.__mro__:
        found = vars(base).get(plain["name"])
        found = getattr(found, "__func__", found)
        if isinstance(found, types.FunctionType):
            return types.MethodType(found, owner)
    raise Missing(plain["name"])


def _decode_partial(plain: Plain, at: At | None) -> object:
    function, arguments, named = (decode(part, at) for part in plain["of"])
    return functools.partial(function, *arguments, **named)


def _decode_weak(plain: Plain, at: At | None) -> object:
    nothing = types.SimpleNamespace()  # a reference to what is there no more
    return weakref.ref(nothing if plain["of"] is None else decode(plain["of"], at))


def _decode_view(plain: Plain, at: At | None) -> Tensor:
    whole: Tensor = decode(plain["of"], at)
    return whole.detach().as_strided(*plain["as_strided"])


_DECODERS_WITH_PARTS: dict[str, Callable[[Plain, At | None], object]] = {
    "generator": lambda plain, _: generators.in_state(plain["of"], decode(plain["state"])),
    "mapping": _decode_mapping,
    "container": _decode_container,
    "objects": _decode_objects,
    "enum": _decode_enum,
    "function": _decode_function,
    "path": lambda plain, _: pathlib.Path(plain["path"]),
    "value": lambda plain, at: _NAMED[plain["class"]](*(decode(argument, at) for argument in plain["of"])),
    # of graphs
    "partial": _decode_partial,
    "object": _decode_object,
    "opaque": _decode_opaque,
    "class": _decode_class,
    "method": _decode_method,
    "weak": _decode_weak,
    "view": _decode_view,
}
