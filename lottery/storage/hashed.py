"""Tensors in one safetensors file with a description in JSON, with a hash: what tickets and sparse files are."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lottery import storage
from lottery.storage.declared import least_size
from lottery.storage.encoding import decode, metadata_in
from lottery.storage.files import ForeignFile, open_regular


def encode_hashed(
    kind: str, format: int, described: Mapping[str, Any], tensors: Mapping[str, Tensor], weights: int
) -> bytes:
    """The bytes of a file: of equal contents, equal bytes.

    Args:
        kind: of file, in a word.
        format: its version.
        described: what the tensors are; plain data.
        tensors: by name.
        weights: that the file declares.
    """
    text = json.dumps({"format": format, **described})
    metadata = {kind: text, "sha256": digest(tensors, text)}
    return storage.encode_tensors(tensors, metadata, at_least=least_size(weights))


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
    described = _described(metadata, kind, format, otherwise)
    if metadata.get("sha256") != digest(tensors, metadata[kind]):
        raise ValueError("its contents are not those that were written")
    return described, tensors


def read_description(path: Path, kind: str, format: int, otherwise: str) -> dict[str, Any]:
    """The description in a file that `encode_hashed` made, read without its tensors and not verified.

    Raises:
        StorageError: the file is missing, damaged, or of another kind or format.
    """
    return storage.read_as(
        path,
        lambda header: _described(metadata_in(header), kind, format, otherwise),
        f"a {kind} file",
        read=_header,
    )


def _header(path: Path) -> bytes:
    with open_regular(path) as file:
        size = int.from_bytes(file.read(8), "little")
        if size > os.fstat(file.fileno()).st_size - 8:
            raise ValueError("its header is cut off")
        return file.read(size)


def _described(metadata: Mapping[str, str], kind: str, format: int, otherwise: str) -> dict[str, Any]:
    if kind not in metadata:
        raise ForeignFile(otherwise)
    described = decode(storage.decode_json(metadata[kind]), dict[str, Any])
    if described["format"] != format:
        raise ForeignFile(
            f"has {kind} format {described['format']}, this version reads {format}."
            " Update (pip install -U lottery-tickets), or read it with the version that wrote it."
        )
    return described


def digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """SHA-256 of named tensors, in any order, and of a text."""
    found = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        described = [name, str(tensor.dtype), list(tensor.shape)]
        found.update(json.dumps(described).encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
