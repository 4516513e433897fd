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
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def encode_json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def encode_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Tensors as one safetensors file in memory.

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
    return save(plain, metadata=dict(metadata) if metadata else None)


def decode_tensors(data: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load

    return load(data)


def decode_metadata(data: bytes) -> dict[str, str]:
    """The text metadata of a safetensors file in memory."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]).get("__metadata__", {})
