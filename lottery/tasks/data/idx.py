"""The idx format: arrays of bytes, as the files of MNIST and its kin hold them."""

from __future__ import annotations

import gzip
import zlib
from math import prod

import torch
from torch import Tensor

UNSIGNED_BYTE = 8


def decompress(compressed: bytes, name: str) -> bytes:
    """The content of a gzip file.

    Args:
        compressed: The file.
        name: What to call the file in an error.

    Raises:
        ValueError: It is no gzip file, or it is damaged or cut off.
    """
    try:
        return gzip.decompress(compressed)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{name} is not a whole gzip file ({error}). Fetch it again.") from error


def parse(content: bytes, name: str) -> Tensor:
    """The array of unsigned bytes that the content of an idx file describes.

    The header is two zeros, the type (8 is unsigned byte) and the number of
    dimensions, one byte each, then each dimension as a big-endian 32-bit integer.

    Args:
        content: The uncompressed file.
        name: What to call the file in an error.

    Raises:
        ValueError: The content is no idx array of unsigned bytes, or has another
            length than its header says.

    Example:
        >>> parse(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7]), "three labels")
        tensor([5, 6, 7], dtype=torch.uint8)

    Source: Y. LeCun, C. Cortes and C. Burges, The MNIST database (1998), section
    "File formats".
    """
    if len(content) < 4 or content[:3] != bytes([0, 0, UNSIGNED_BYTE]):
        raise ValueError(
            f"{name} is not an idx file of unsigned bytes: it begins with "
            f"{content[:4].hex(' ') or 'nothing'}, not with 00 00 08."
        )
    start = 4 + 4 * content[3]
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, min(start, len(content)), 4)]
    if len(content) != start + prod(shape):
        raise ValueError(
            f"{name} holds {len(content)} bytes, but its header announces an array of "
            f"shape {tuple(shape)}, {start + prod(shape)} bytes in all."
        )
    # A bytearray, because torch wants memory that it may write to.
    array = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start)
    return array.reshape(shape)
