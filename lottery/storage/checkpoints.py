"""Lightning checkpoints with plain contents, as bytes: nothing is executed, and none is larger than it looks."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


def encode_checkpoint(checkpoint: Mapping[str, object]) -> memoryview:
    """The bytes of a checkpoint."""
    buffer = io.BytesIO()
    torch.save(dict(checkpoint), buffer)
    return buffer.getbuffer()


def decode_checkpoint(data: bytes) -> dict[str, object]:
    """What `encode_checkpoint` wrote.

    Raises:
        ValueError: it is damaged, declares more than it holds, or holds what could execute code; the message goes on
            after the file's name.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            check_sizes(data)
            wrong = archive.testzip() or _folder_in(archive)
    except Exception as error:  # noqa: BLE001 (damaged zip headers raise errors of many kinds)
        raise ValueError(f"cannot be read ({error})") from None
    if wrong is not None:
        raise ValueError(f"is damaged in {wrong}")
    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError("holds objects besides tensors and plain data, which could execute code") from None
    except Exception as error:  # noqa: BLE001 (damaged pickles do too)
        raise ValueError(f"cannot be read ({str(error) or type(error).__name__})") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ValueError(f"is no checkpoint, but a {type(found).__name__}")
    for tensor in _tensors_in(found):
        if tensor.numel() * tensor.element_size() > len(data):
            raise ValueError(f"declares a tensor of shape {tuple(tensor.shape)}, for which it has not the bytes")
    return found


def check_sizes(data: bytes) -> None:
    """Make sure that the entries of a zip file are not compressed, which torch never does, nor larger than the file.

    Raises:
        ValueError: one is; the message names it. Bytes that are no zip file pass.
    """
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return
    total = 0
    for entry in zipfile.ZipFile(io.BytesIO(data)).infolist():
        total += entry.file_size
        if entry.compress_type != zipfile.ZIP_STORED or total > len(data):
            raise ValueError(f"{entry.filename} declares {entry.file_size} bytes, for which the file has not the room")


def _folder_in(archive: zipfile.ZipFile) -> str | None:
    """An entry marked as a folder: torch would take it for a tensor and leave its memory as it happens to be."""
    marked = (entry for entry in archive.infolist() if entry.external_attr & 0x10)
    return next((entry.filename for entry in marked), None)


def _tensors_in(value: object) -> Iterator[Tensor]:
    """Every dense tensor in nested containers, however often they hold one another."""
    seen: set[int] = set()
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, Tensor) and each.layout is torch.strided:
            yield each
        elif isinstance(each, (dict, list, tuple, set)) and id(each) not in seen:
            seen.add(id(each))
            left += each.values() if isinstance(each, dict) else each
