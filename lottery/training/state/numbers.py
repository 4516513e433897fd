"""Numbers as plain data: tensors, NumPy arrays and scalars, bytes, and how they are written where others stand."""

from __future__ import annotations

import array
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from lottery.training.state.classes import Missing, is_of_the_user, name_of

TAG = "__lottery__"
Plain: TypeAlias = Any  # a plain form, which each place that reads it knows the shape of


def encode_numbers(value: Any) -> Plain:
    """The plain form of a value that is nothing but numbers; None of any other."""
    kind = type(value)
    if kind in (Tensor, nn.Parameter):
        plain = value.device.type == "cpu" and not value.requires_grad
        return value.detach().clone() if plain and kind is Tensor else _marked(value)
    if kind is bytes:
        return {TAG: "bytes", **_raw(np.frombuffer(value, np.uint8))}
    if kind is bytearray:
        return {TAG: "bytearray", **_raw(np.frombuffer(bytes(value), np.uint8))}
    if kind is array.array and value.typecode not in "uw":
        raw = _raw(np.frombuffer(value.tobytes(), np.uint8))
        return {TAG: "typed", "code": value.typecode, **raw}
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        return {TAG: "scalar", **_raw(np.asarray(value))}
    if isinstance(value, np.ma.MaskedArray) and not value.dtype.hasobject:
        parts = {"data": np.asarray(value.data), "mask": np.ma.getmaskarray(value)}
        plain = {name: encode_numbers(part) for name, part in parts.items()}
        return {TAG: "masked", "fill": encode_numbers(value.fill_value), **plain}
    is_array = isinstance(value, np.ndarray) and not value.dtype.hasobject
    if kind is np.ndarray and is_array:
        return {TAG: "array", "shape": list(value.shape), **_raw(value)}
    if is_array or (is_of_the_user(kind) and isinstance(value, Tensor)):
        base = _base(value)
        data = _marked(base) if isinstance(base, Tensor) else encode_numbers(base)
        return {TAG: "subclass", "class": name_of(kind), "data": data}
    return None


def fill_numbers(live: Any, found: Any) -> None:
    """Write numbers where others stand.

    Raises:
        Missing: they do not fit there.
    """
    if isinstance(live, (bytearray, array.array)):
        live[:] = found
    elif isinstance(live, np.ndarray):
        base = live.data if isinstance(live, np.ma.MaskedArray) else _base(live)
        if (base.shape, base.dtype) != (found.shape, found.dtype):
            raise Missing(name_of(type(live)))
        base[...] = np.asarray(found)
        if isinstance(live, np.ma.MaskedArray):
            live.mask = found.mask
            live.fill_value = found.fill_value
    else:
        _fill_tensor(live, found)


def equal_bits(a: Tensor, b: Tensor) -> bool:
    if a.layout != torch.strided:
        a, b = a.to_dense(), b.to_dense()
    if not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def _marked(value: Tensor) -> Plain:
    marks = {"device": str(value.device), "leaf": value.requires_grad}
    is_parameter = {"parameter": True} if isinstance(value, nn.Parameter) else {}
    return {TAG: "tensor", "data": value.detach().clone(), **marks, **is_parameter}


def _decode_tensor(plain: Plain) -> Tensor:
    made: Tensor = plain["data"].clone().to(plain["device"])
    if "parameter" in plain:
        return nn.Parameter(made, plain["leaf"])
    return made.requires_grad_() if plain["leaf"] else made


def _fill_tensor(live: Tensor, found: Tensor) -> None:
    base = live if type(live) in (Tensor, nn.Parameter) else _base(live)
    kinds = [(t.shape, t.dtype, t.layout) for t in (base, found)]
    with torch.inference_mode(live.is_inference()), torch.no_grad():
        if kinds[0] == kinds[1]:
            if found.layout not in (torch.strided, torch.sparse_coo):
                base.resize_as_sparse_(found)
            base.copy_(found)
        elif type(live) in (Tensor, nn.Parameter):
            live.data = found.detach()
        else:
            raise Missing(name_of(type(live)))  # of another shape
    if live.is_leaf and live.requires_grad != found.requires_grad:
        live.requires_grad_(found.requires_grad)


def _base(value: Any) -> Any:
    """The memory of an array or tensor, without what its class adds."""
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    with torch._C.DisableTorchFunctionSubclass():
        return value.detach().as_subclass(Tensor)


def _raw(array: np.ndarray) -> dict[str, Plain]:
    data = torch.from_numpy(np.frombuffer(array.tobytes(), np.uint8).copy())
    return {"dtype": _type_of(array.dtype), "data": data}


def _type_of(dtype: np.dtype) -> Plain:
    """Its name; of a structured one, what it is made of."""
    return dtype.str if dtype.names is None else _listed(dtype.descr)


def _listed(described: Sequence[object]) -> list[Plain]:
    kinds = (list, tuple)
    return [_listed(d) if isinstance(d, kinds) else d for d in described]


def _typed(plain: Plain) -> np.dtype:
    if isinstance(plain, str):
        return np.dtype(plain)
    return np.dtype([(n, _typed(k), *map(tuple, shape)) for n, k, *shape in plain])


def _decode_array(plain: Plain) -> np.ndarray:
    data = plain["data"].numpy().tobytes()
    array = np.frombuffer(data, dtype=_typed(plain["dtype"]))
    return array.reshape(plain["shape"]).copy()


def _decode_scalar(plain: Plain) -> Any:
    return np.frombuffer(plain["data"].numpy().tobytes(), _typed(plain["dtype"]))[0]


def _decode_masked(plain: Plain) -> object:
    data, mask = _decode_array(plain["data"]), _decode_array(plain["mask"])
    return np.ma.array(data, mask=mask, fill_value=_decode_scalar(plain["fill"]))


def _decode_bytes(plain: Plain) -> object:
    data, code = plain["data"].numpy().tobytes(), plain.get("code")
    return bytearray(data) if code is None else array.array(code, data)


DECODERS: dict[str, Callable[[Plain], object]] = {
    "tensor": _decode_tensor,
    "bytes": lambda plain: plain["data"].numpy().tobytes(),
    "bytearray": _decode_bytes,
    "typed": _decode_bytes,
    "array": _decode_array,
    "masked": _decode_masked,
    "scalar": _decode_scalar,
    "subclass": lambda plain: DECODERS[plain["data"][TAG]](plain["data"]),
}
