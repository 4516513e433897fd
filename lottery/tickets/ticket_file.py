"""A ticket as one safetensors file: coded masks, all, some or none of the start weights, and where it came from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from lottery.masks.history import MaskHistory
from lottery.masks.masks import Masks, spread
from lottery.storage import encoding, hashed
from lottery.storage.declared import check_declared
from lottery.storage.files import StorageError
from lottery.storage.hashed import decode_hashed, encode_hashed

FORMAT = 2
Kind = Literal["all", "surviving", "signs", "none"]
_MASKS = "masks"
_WEIGHT = "weight/"
_SURVIVORS = "survivors/"
_SIGNS = "signs/"
_OTHERWISE = "is a safetensors file, but not a ticket (Ticket.save writes them)"


class Contents(NamedTuple):
    """What a ticket file holds."""

    masks: Masks
    weights: dict[str, Tensor]
    provenance: dict[str, object]


def encode(contents: Contents, kind: Kind) -> bytes:
    """The bytes of a ticket file.

    Args:
        contents: the ticket.
        kind: which start weights to take along. "all"; "surviving" leaves out those that are pruned, which read back
            as zero; "signs" expects surviving weights of one magnitude per parameter, as `Ticket.signed` makes them,
            and stores a bit for each; "none". What is not prunable is left out by "none" only.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"weights={kind!r}; choose from {', '.join(get_args(Kind))}")
    masks, weights, provenance = contents
    tensors = {_MASKS: MaskHistory.of([masks]).pack()}
    magnitudes: dict[str, float] = {}
    dtypes: dict[str, str] = {}
    for name, tensor in weights.items() if kind != "none" else ():
        if name not in masks or kind == "all":
            tensors[_WEIGHT + name] = tensor
        elif kind == "surviving":
            tensors[_SURVIVORS + name] = tensor[masks[name]]
        else:
            survivors = tensor[masks[name]].double()
            magnitudes[name] = float(survivors.abs().max()) if survivors.numel() else 0.0
            dtypes[name] = str(tensor.dtype).removeprefix("torch.")
            tensors[_SIGNS + name] = torch.from_numpy(np.packbits(survivors.numpy() >= 0))
    described = {
        "weights": kind,
        "kept": masks.kept,
        "shapes": {name: list(mask.shape) for name, mask in masks.items()},
        "magnitudes": magnitudes,
        "dtypes": dtypes,
        "provenance": json.loads(json.dumps(provenance, sort_keys=True)),
    }
    return encode_hashed("ticket", FORMAT, described, tensors, masks.total)


def decode(data: bytes, most_weights: int | None = None) -> Contents:
    """What the bytes of a ticket file hold. Nothing in them is ever executed.

    Args:
        data: the bytes.
        most_weights: how many weights they may declare, where these are more than is usual for so many bytes.

    Raises:
        ForeignFile: it is not a ticket, or one of another format; the message says what to do.
        Exception: the bytes are damaged: errors of many kinds.
    """
    found, tensors = decode_hashed(data, "ticket", FORMAT, _OTHERWISE)
    described = encoding.decode(found, Description)
    check_declared(described.total, len(data), most_weights)
    masks = MaskHistory.unpack(tensors.pop(_MASKS), described.shapes, 1)[0]
    weights = _part(tensors, _WEIGHT)
    for name, survivors in _part(tensors, _SURVIVORS).items():
        weights[name] = spread(survivors, masks[name])
    for name, packed in _part(tensors, _SIGNS).items():
        bits = np.unpackbits(packed.numpy(), count=int(masks[name].sum()))
        signs = torch.from_numpy(bits.astype(np.float64) * 2 - 1)
        dtype = _floating(described.dtypes[name])
        weights[name] = spread((signs * described.magnitudes[name]).to(dtype), masks[name])
    for name, mask in masks.items():
        if name in weights and weights[name].shape != mask.shape:
            raise ValueError(f"{name} has the shape {tuple(weights[name].shape)}, its mask {tuple(mask.shape)}")
    if described.kept not in (None, masks.kept):
        raise ValueError(f"it says that {described.kept} weights are kept, and its masks keep {masks.kept}")
    return Contents(masks, weights, dict(described.provenance))


@dataclass(frozen=True)
class Description:
    """What a ticket file says of itself. Files of earlier versions lack `kept`.

    Args:
        weights: which start weights it has.
        shapes: of the masks.
        magnitudes: of signs, by parameter.
        dtypes: of signs, by parameter.
        provenance: where the ticket came from.
        kept: weights that the masks keep.
    """

    weights: Kind
    shapes: Mapping[str, tuple[int, ...]]
    magnitudes: Mapping[str, float]
    dtypes: Mapping[str, str]
    provenance: Mapping[str, Any]
    kept: int | None = None

    def __post_init__(self) -> None:
        if any(side < 0 for shape in self.shapes.values() for side in shape):
            raise ValueError(f"no masks have the shapes {dict(self.shapes)}")

    @property
    def total(self) -> int:
        """Weights that the masks are of."""
        return sum(map(math.prod, self.shapes.values()))


def read_description(path: Path) -> Description:
    """What a ticket file says of itself, read without its tensors and not verified.

    Raises:
        StorageError: the file is missing, damaged, not a ticket, or of another format.
    """
    found = hashed.read_description(path, "ticket", FORMAT, _OTHERWISE)
    try:
        return encoding.decode(found, Description)
    except ValueError as error:
        raise StorageError(f"{path} is not a ticket, or is damaged: {error}") from None


def _floating(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"{name!r} is no dtype of signs")
    return dtype


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names have a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
