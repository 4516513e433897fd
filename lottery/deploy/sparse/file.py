"""A pruned network as one small safetensors file: coded masks, surviving values, and all else as it is."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lottery import storage
from lottery.deploy.sparse import encodings
from lottery.deploy.sparse import values as kinds
from lottery.deploy.sparse.encodings import ENCODINGS, Coded
from lottery.deploy.sparse.values import Stored, Values
from lottery.foundations.names import renamed, ties
from lottery.masks.masks import Masks
from lottery.storage.declared import check_declared
from lottery.storage.encoding import decode as plain
from lottery.storage.hashed import decode_hashed, encode_hashed

if TYPE_CHECKING:
    import pandas

FORMAT = 1
_MASK = "mask/"
_VALUES = "values/"
_SCALES = "scales/"
_DENSE = "dense/"


def save_sparse(
    path: str | os.PathLike[str],
    state_dict: Mapping[str, Tensor],
    masks: Masks,
    *,
    values: Values = "native",
    encoding: str = "auto",
) -> None:
    """Write a state dict without its pruned weights. `load_sparse` reads it, and executes nothing.

    Args:
        path: where to.
        state_dict: of the module. Pruned weights count as zero, whatever they are here. What is tied to a masked
            parameter is stored once.
        masks: True = kept; a kept weight may be zero. Tensors without a mask are stored whole and exact.
        values: surviving weights as they are ("native": exact), in at most 32 or 16 bits ("float32", "bfloat16") or 8
            ("int8", with a scale per row); see `lottery.deploy.sparse.values.store` for how far off they are.
        encoding: of each mask, by name, or "auto", the shortest; see `lottery.deploy.sparse.encodings.encode`.

    Raises:
        ValueError: a mask does not fit, an entry is no tensor, there is no such kind of values or encoding, or one does
            not go with a tensor; the message names it.
        StorageError: the disk is full, or the path cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> net = torch.nn.Linear(300, 100)
        >>> masks = Masks({"weight": torch.rand(100, 300) < 0.03})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "net.sparse"
        ...     save_sparse(path, net.state_dict(), masks)
        ...     small, back = path.stat().st_size, load_sparse(path)
        >>> small < 120_000 / 20, torch.equal(back["weight"], net.weight * masks["weight"])
        (True, True)
    """
    storage.write(storage.local_path(path), encode(state_dict, masks, values=values, encoding=encoding))


def load_sparse(path: str | os.PathLike[str], *, most_weights: int | None = None) -> dict[str, Tensor]:
    """The state dict in a file that `save_sparse` wrote: dense, with zeros where pruned, in the original dtypes.

    Args:
        path: the file.
        most_weights: how many masked weights it may declare. Default: 8 million, and 256 more for each of its bytes;
            every file that `save_sparse` writes is large enough.

    Raises:
        StorageError: the file is missing, damaged, of another kind or format, or declares more weights.
    """
    return _load(path, most_weights)[0]


def load_sparse_masks(path: str | os.PathLike[str]) -> Masks:
    """The masks in a file that `save_sparse` wrote.

    Raises:
        StorageError: as `load_sparse`.
    """
    return _load(path)[1]


def encode(
    state_dict: Mapping[str, Tensor], masks: Masks, *, values: Values = "native", encoding: str = "auto"
) -> bytes:
    """The bytes of the file that `save_sparse` writes."""
    state_dict = renamed(state_dict)
    if odd := [name for name, entry in state_dict.items() if not _plain(entry)]:
        raise ValueError(
            f"{', '.join(odd)}: not a dense tensor, so no part of a sparse file; leave it out of the state dict"
        )
    masks.check(state_dict)
    tied = ties(state_dict, masks)
    tensors: dict[str, Tensor] = {}
    masked: dict[str, dict[str, object]] = {}
    for name, tensor in state_dict.items():
        if name in tied:
            continue
        tensor = tensor.detach().cpu()
        if name not in masks:
            tensors[_DENSE + name] = tensor
            continue
        try:
            coded = encodings.encode(masks[name], encoding)
            stored = kinds.store(tensor, masks[name], values)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        code = np.frombuffer(coded.code, np.uint8)
        tensors[_MASK + name] = torch.from_numpy(code.copy())
        tensors[_VALUES + name] = stored.survivors
        if stored.scales is not None:
            tensors[_SCALES + name] = stored.scales
        masked[name] = {
            "encoding": coded.encoding,
            "shape": list(tensor.shape),
            "dtype": str(tensor.dtype).removeprefix("torch."),
        }
    described = {"values": values, "order": list(state_dict), "tied": tied, "masked": masked}
    return encode_hashed("sparse", FORMAT, described, tensors, masks.total)


@dataclass(frozen=True)
class _Masked:
    """What a file says of a masked parameter."""

    encoding: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class _Description:
    """What a file says of itself."""

    masked: Mapping[str, _Masked]
    order: tuple[str, ...]
    tied: Mapping[str, str]


def decode(data: bytes, most_weights: int | None = None) -> tuple[dict[str, Tensor], Masks]:
    """The state dict and the masks in the bytes of a file.

    Raises:
        ForeignFile: it is another kind of file, or of another format.
        Exception: the bytes are damaged: errors of many kinds.
    """
    found, tensors = decode_hashed(
        data, "sparse", FORMAT, "is a safetensors file, but not one that save_sparse wrote (Ticket.load reads tickets)"
    )
    described = plain(found, _Description)
    if any(side < 0 for of in described.masked.values() for side in of.shape):
        raise ValueError("a shape has a negative side")
    check_declared(sum(math.prod(of.shape) for of in described.masked.values()), len(data), most_weights)
    masks: dict[str, Tensor] = {}
    state: dict[str, Tensor] = {}
    for name, of in described.masked.items():
        code = tensors[_MASK + name].numpy().tobytes()
        masks[name] = encodings.decode(Coded(of.encoding, code), of.shape)
        stored = Stored(tensors[_VALUES + name], tensors.get(_SCALES + name))
        dtype = getattr(torch, of.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise TypeError(f"{of.dtype!r} is no dtype")
        state[name] = kinds.restore(stored, masks[name], dtype)
    for name in described.order:
        if name not in state and name not in described.tied:
            state[name] = tensors[_DENSE + name]
    state |= {name: state[other] for name, other in described.tied.items()}
    return {name: state[name] for name in described.order}, Masks(masks)


def totals(layers: pandas.DataFrame) -> pandas.DataFrame:
    """What masked parameters take in each encoding, values included; without file headers and other tensors.

    Args:
        layers: what `layer_sizes` gave.

    Returns:
        A row per encoding and one for "auto": `bytes`, `x dense` (over all weights in their dtypes) and `x bound` (over
        surviving values and the entropy of each mask, the least that a code can take which knows no pattern). "dense"
        is all weights as they are, pruned ones too. NaN where a mask has not the encoding's pattern.
    """
    import pandas

    total = layers[[*ENCODINGS, "auto"]].astype(float).sum(skipna=False)
    dense, bound = total["dense"], float(layers["bound"].sum())
    table = pandas.DataFrame({"bytes": total, "x dense": total / dense, "x bound": total / bound})
    return table.rename_axis("encoding")


def layer_sizes(
    masks: Masks, values: Values = "native", dtypes: torch.dtype | Mapping[str, torch.dtype] = torch.float32
) -> pandas.DataFrame:
    """Bytes of each parameter in each encoding, and which one "auto" takes.

    Args:
        masks: the masks.
        values: as for `save_sparse`.
        dtypes: of the parameters: one for all, or by name.

    Raises:
        ValueError: there is no such kind of values, or a dtype is missing.

    Returns:
        A row per parameter: `density`; `chosen`, the encoding that "auto" takes; `values`, bytes of the survivors;
        `bound`, these and the entropy of the mask; then a column per encoding and "auto", values included.
    """
    import pandas

    kinds.check(values)
    if isinstance(dtypes, torch.dtype):
        dtypes = dict.fromkeys(masks, dtypes)
    if missing := [name for name in masks if name not in dtypes]:
        raise ValueError(f"dtypes has none of {', '.join(missing)}")
    densities, rows = masks.densities(), []
    for name, mask in masks.items():
        survivors = kinds.size(mask, dtypes[name], values)
        codes = encodings.sizes(mask)
        chosen = encodings.shortest(codes)
        rows.append(
            {
                "density": densities[name],
                "chosen": chosen,
                "values": survivors,
                "bound": survivors + encodings.entropy(mask),
                **{n: survivors + code for n, code in codes.items() if code is not None},
                "dense": mask.numel() * dtypes[name].itemsize,
                "auto": survivors + (codes[chosen] or 0),
            }
        )
    columns = ["density", "chosen", "values", "bound", *ENCODINGS, "auto"]
    index = pandas.Index(masks, name="parameter", dtype=object)
    return pandas.DataFrame(rows, index=index, columns=columns)


def _load(path: str | os.PathLike[str], most_weights: int | None = None) -> tuple[dict[str, Tensor], Masks]:
    return storage.read_as(path, lambda data: decode(data, most_weights), "a sparse file")


def _plain(entry: object) -> bool:
    return isinstance(entry, Tensor) and entry.layout is torch.strided
