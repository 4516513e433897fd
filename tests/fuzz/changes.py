"""Strategies that change what a file says, in one place or a few, into what nobody expects there."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

_DEEP = "@deep"


def text_of(plain: Any) -> str:
    """JSON, with lists in lists in lists where a change says so."""
    return json.dumps(plain).replace(f'"{_DEEP}"', "[" * 100_000 + "]" * 100_000)


NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.sampled_from([2**15, 2**31, 2**33, 2**63, -(2**63), 2**70, 10**400]),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["", "..", "../x", "a/b", "\x1b[2J", "\n", "\ud800", "$\\bad{$", "net.0.weight", "nan", "1e999"]),
    st.sampled_from([[], {}, [[]], [None], {"": None}, [1, "a"], {"a": {"b": []}}]),
    st.just(_DEEP),
)


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """Plain data with one place in it changed: replaced, left out, or added."""
    if isinstance(value, (dict, list)) and value and draw(st.integers(0, 5)):
        parts: Any = copy.copy(value)
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        place = draw(st.sampled_from(keys))
        what = draw(st.integers(0, 7))
        if what == 0:
            del parts[place]
        elif what == 1 and isinstance(value, dict):
            parts[draw(st.sampled_from(["", "x", "../x", "a.b"]))] = parts.pop(place)
        else:
            parts[place] = draw(changed(value[place]))
        return parts
    return draw(NASTY)


_SHAPES = [(), (0,), (1,), (3,), (7,), (2, 3), (1, 1, 1), (0, 5), (4096,)]
_DTYPES = [torch.float32, torch.float64, torch.uint8, torch.bool, torch.int64, torch.bfloat16, torch.complex64]


@st.composite
def changed_tensors(draw: st.DrawFn, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name, one of them left out, called otherwise, or another."""
    found = dict(tensors)
    name = draw(st.sampled_from(sorted(found)))
    what = draw(st.integers(0, 4))
    if what == 0:
        del found[name]
    elif what == 1:
        found[draw(st.sampled_from(["", "x", "weight/x", "signs/x", "mask/x", name + "x"]))] = found.pop(name)
    elif what == 2:
        found[name] = torch.zeros(draw(st.sampled_from(_SHAPES)), dtype=draw(st.sampled_from(_DTYPES)))
    elif what == 3:
        flat = found[name].clone().reshape(-1)
        if flat.numel():
            flat[draw(st.integers(0, flat.numel() - 1))] = draw(st.integers(0, 1))
        found[name] = flat.reshape(found[name].shape)
    else:
        found[name] = torch.full_like(found[name], float("nan")) if found[name].is_floating_point() else found[name]
    return found


@st.composite
def changed_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with some of them changed, left out or doubled."""
    found = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        if not found:
            break
        place = draw(st.integers(0, len(found) - 1))
        what = draw(st.integers(0, 3))
        if what == 0:
            found[place] ^= 1 << draw(st.integers(0, 7))
        elif what == 1:
            found = found[:place]
        elif what == 2:
            found[place : place + draw(st.integers(1, 9))] = draw(st.binary(max_size=9))
        else:
            found[place:place] = found[place : place + 30]
    return bytes(found)
