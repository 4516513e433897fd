"""Numbers as plain data: tensors, NumPy arrays and scalars, bytes, and what is filled in place of them."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lottery.state.classes import Missing, is_of_the_user, name_of

TAG = "__lottery__"


def encode_numbers(value: Any) -> Any:
    """The plain form of a value that is nothing but numbers; None of any other."""
    kind = type(value)
    if kind is Tensor:
        plain = value.device.type == "cpu" and not value.requires_grad
        return value.detach().clone() if plain else _marked(value)
    if kind is bytes:
        return {TAG: "bytes", **_raw(np.frombuffer(value, np.uint8))}
    if kind is bytearray:
        return {TAG: "bytearray", **_raw(np.frombuffer(bytes(value), np.uint8))}
    if kind is array.array and value.typecode not in "uw":
        raw = _raw(np.frombuffer(value.tobytes(), np.uint8))
        return {TAG: "typed", "code": value.typecode, **raw}
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        return {TAG: "scalar", **_raw(np.asarray(value))}
    is_array = isinstance(value, np.ndarray) and not value.dtype.hasobject
    if kind is np.ndarray and is_array:
        return {TAG: "array", "shape": list(value.shape), **_raw(value)}
    if is_of_the_user(kind) and (is_array or isinstance(value, Tensor)):
        base = _base(value)
        data = _marked(base) if isinstance(base, Tensor) else encode_numbers(base)
        return {TAG: "subclass", "class": name_of(kind), "data": data}
    return None


def _marked(value: Tensor) -> Any:
    marks = {"device": str(value.device), "leaf": value.requires_grad}
    return {TAG: "tensor", "data": value.detach().clone(), **marks}


def decode_tensor(plain: Any, live: Any, _: Any) -> Any:
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


def equal_bits(a: Tensor, b: Tensor) -> bool:
    if a.layout != torch.strided:
        a, b = a.to_dense(), b.to_dense()
    if not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def _raw(array: np.ndarray) -> dict[str, Any]:
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


def _base(value: Any) -> Any:
    """The memory of an array or tensor, without what its class adds."""
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    with torch._C.DisableTorchFunctionSubclass():
        return value.detach().as_subclass(Tensor)


def _decode_subclass(plain: Any, live: Any, _: Any) -> Any:
    if name_of(type(live)) != plain["class"]:
        raise Missing(plain["class"])
    there, data = _base(live), plain["data"]
    filled = DECODERS[data[TAG]](data, there, None)
    if filled is not there:
        raise Missing(plain["class"])  # of another shape
    return live


def _decode_scalar(plain: Any, *_: Any) -> Any:
    return np.frombuffer(plain["data"].numpy().tobytes(), np.dtype(plain["dtype"]))[0]


def _decode_bytes(plain: Any, live: Any, _: Any) -> Any:
    data, code = plain["data"].numpy().tobytes(), plain.get("code")
    found: Any = bytearray(data) if code is None else array.array(code, data)
    if type(live) is type(found) and getattr(live, "typecode", None) == code:
        live[:] = found
        return live
    return found


DECODERS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "tensor": decode_tensor,
    "bytes": lambda plain, *_: plain["data"].numpy().tobytes(),
    "bytearray": _decode_bytes,
    "typed": _decode_bytes,
    "array": _decode_array,
    "scalar": _decode_scalar,
    "subclass": _decode_subclass,
}
