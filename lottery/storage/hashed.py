"""Tensors in one safetensors file with a description in JSON, with a hash: what tickets and sparse files are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lottery import storage
from lottery.storage.directory import ForeignFile


def encode_hashed(kind: str, format: int, described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of a file.

    Args:
        kind: of file, in a word.
        format: its version.
        described: what the tensors are; plain data.
        tensors: by name.
    """
    text = json.dumps({"format": format, **described})
    return storage.encode_tensors(tensors, {kind: text, "sha256": digest(tensors, text)})


def decode_hashed(data: bytes, kind: str, format: int, otherwise: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description and the tensors that `encode_hashed` put together. Nothing in the bytes is ever executed.

    Args:
        data: the bytes of a file.
        kind: that the file must be of.
        format: that it must have.
        otherwise: what to say of a file of another kind, after its path.

    Raises:
        ForeignFile: it is of another kind or format; the message says what to do.
        Exception: the bytes are damaged: errors of many kinds.
    """
    tensors = storage.decode_tensors(data)
    metadata = storage.decode_metadata(data)
    if kind not in metadata:
        raise ForeignFile(otherwise)
    described = json.loads(metadata[kind])
    if described["format"] != format:
        raise ForeignFile(
            f"has {kind} format {described['format']}, this version reads {format}."
            " Update (pip install -U lottery-tickets), or read it with the version that wrote it."
        )
    if metadata["sha256"] != digest(tensors, metadata[kind]):
        raise ValueError("its contents are not those that were written")
    return described, tensors


def digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """SHA-256 of named tensors, in any order, and of a text."""
    found = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        described = [name, str(tensor.dtype), list(tensor.shape)]
        found.update(json.dumps(described).encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
