"""Tensors and plain data as the bytes of a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def decode(value: object, kind: type[T]) -> T:
    """Plain data as a dataclass, or another type, with its parts.

    Raises:
        ValueError: something is missing, or of another type; the message says where.

    Example:
        >>> from lottery.foundations.steps import Step
        >>> decode({"epochs": 2, "iterations": 50}, Step)
        Step(epochs=2, iterations=50)
    """
    import msgspec

    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None


def encode_json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def decode_json(data: bytes | str) -> Any:
    """Plain data from the text of a file.

    Raises:
        ValueError: it is no JSON, or nested deeper than anything that is written here.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def encode_tensors(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, *, at_least: int = 0
) -> bytes:
    """Tensors as one safetensors file in memory: of equal contents, equal bytes.

    Args:
        tensors: by name.
        metadata: text that goes along.
        at_least: bytes that the file has; spaces in its header make them up.

    Raises:
        ValueError: one is sparse, which the format cannot hold; the message names it.
    """
    from safetensors.torch import save

    sparse = [name for name, t in tensors.items() if t.layout != torch.strided]
    if sparse:
        raise ValueError(
            f"{', '.join(sparse)} cannot be stored, as it is sparse. Leave it out of the module's state dict"
            " (register_buffer(..., persistent=False)), or keep it dense."
        )
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    return _canonical(save(plain, metadata=dict(metadata) if metadata else None), at_least)


def _canonical(data: bytes, at_least: int) -> bytes:
    """A safetensors file with its header in one order: the library's metadata come in any."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    entries = sorted((n, e) for n, e in header.items() if n != "__metadata__")
    first = {"__metadata__": dict(sorted(header["__metadata__"].items()))} if "__metadata__" in header else {}
    text = json.dumps({**first, **dict(entries)}, separators=(",", ":")).encode()
    text += b" " * max(0, at_least - len(data) + end - 8 - len(text))
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, data[end:]])


def decode_tensors(data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file in memory.

    Raises:
        ValueError: the bytes are damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"it is no safetensors file, or damaged: {error}") from None


def decode_metadata(data: bytes) -> dict[str, str]:
    """The text metadata of a safetensors file in memory.

    Raises:
        ValueError: the bytes are damaged.
    """
    size = int.from_bytes(data[:8], "little")
    return metadata_in(data[8 : 8 + size])


def metadata_in(header: bytes) -> dict[str, str]:
    """The text metadata in the header of a safetensors file.

    Raises:
        ValueError: the bytes are damaged.
    """
    found = decode(decode_json(header), dict[str, Any])
    return decode(found.get("__metadata__", {}), dict[str, str])
