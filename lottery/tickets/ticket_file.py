"""A ticket as one safetensors file: coded masks, all, some or none of the start weights, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from lottery.masks.history import MaskHistory
from lottery.masks.masks import Masks, spread
from lottery.storage.hashed import decode_hashed, encode_hashed

FORMAT = 2
Kind = Literal["all", "surviving", "signs", "none"]
_MASKS = "masks"
_WEIGHT = "weight/"
_SURVIVORS = "survivors/"
_SIGNS = "signs/"


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
        "shapes": {name: list(mask.shape) for name, mask in masks.items()},
        "magnitudes": magnitudes,
        "dtypes": dtypes,
        "provenance": provenance,
    }
    return encode_hashed("ticket", FORMAT, described, tensors)


def decode(data: bytes) -> Contents:
    """What the bytes of a ticket file hold. Nothing in them is ever executed.

    Raises:
        ForeignFile: it is not a ticket, or one of another format; the message says what to do.
        Exception: the bytes are damaged: errors of many kinds.
    """
    described, tensors = decode_hashed(
        data, "ticket", FORMAT, "is a safetensors file, but not a ticket (Ticket.save writes them)"
    )
    shapes = described["shapes"]
    masks = MaskHistory.unpack(tensors[_MASKS], shapes, 1)[0]
    weights = _part(tensors, _WEIGHT)
    for name, survivors in _part(tensors, _SURVIVORS).items():
        weights[name] = spread(survivors, masks[name])
    for name, packed in _part(tensors, _SIGNS).items():
        bits = np.unpackbits(packed.numpy())[: int(masks[name].sum())]
        magnitude = described["magnitudes"][name]
        signs = torch.from_numpy(bits.astype(np.float64) * 2 - 1)
        dtype = getattr(torch, described["dtypes"][name])
        weights[name] = spread((signs * magnitude).to(dtype), masks[name])
    return Contents(masks, weights, described["provenance"])


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names have a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
