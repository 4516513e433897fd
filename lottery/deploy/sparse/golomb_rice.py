"""Ascending positions as bytes: the gaps between them, Golomb-Rice coded."""

from __future__ import annotations

import struct

import numpy as np

_HEAD = struct.Struct("<QB")


def encode(positions: np.ndarray) -> bytes:
    """Code ascending positions.

    A gap g becomes a quotient g >> k in unary and a remainder of k bits, with the k for which all gaps together are
    shortest. Quotients and remainders lie apart, so that numpy codes and decodes them without a loop over positions.
    Where each position is taken with one probability, this is within a few percent of the entropy.

    Args:
        positions: non-negative integers, each larger than the one before, shape (n,).

    Source: Golomb, "Run-length encodings", IEEE Trans. Information Theory 12(3), 1966; Rice & Plaunt, "Adaptive
    Variable-Length Coding", IEEE Trans. Communication Technology 19(6), 1971.

    Example:
        >>> code = encode(np.array([3, 4, 900]))
        >>> len(code), decode(code).tolist()
        (14, [3, 4, 900])
    """
    gaps = _gaps(positions.astype(np.int64))
    k = _parameter(gaps)
    return _HEAD.pack(len(gaps), k) + _remainders(gaps, k) + _quotients(gaps >> k)


def decode(code: bytes) -> np.ndarray:
    """The positions that `encode` coded, int64 of shape (n,).

    Raises:
        ValueError: the code is damaged.
    """
    if len(code) < _HEAD.size:
        raise ValueError("coded positions end before their count")
    count, k = _HEAD.unpack_from(code)
    middle = _HEAD.size + -(-count * k // 8)
    if k > 62 or len(code) < middle:
        raise ValueError(f"{len(code)} bytes cannot hold {count} remainders of {k} bits")
    stream = np.frombuffer(code, np.uint8)
    ends = np.flatnonzero(np.unpackbits(stream[middle:]))
    if len(ends) != count:
        raise ValueError(f"{len(ends)} coded quotients for {count} positions")
    gaps = _gaps(ends) << k
    bits = np.unpackbits(stream[_HEAD.size : middle], count=count * k).reshape(count, k)
    for place in range(k):
        gaps += bits[:, place].astype(np.int64) << place
    return np.cumsum(gaps + 1) - 1


def _gaps(positions: np.ndarray) -> np.ndarray:
    """How many integers lie between each position and the one before."""
    before = np.concatenate([[-1], positions[:-1]])
    return positions - before - 1


def _parameter(gaps: np.ndarray) -> int:
    """The k of the shortest code."""
    most = int(gaps.max(initial=0)).bit_length()
    return min(range(most + 1), key=lambda k: k * len(gaps) + int((gaps >> k).sum()))


def _quotients(quotients: np.ndarray) -> bytes:
    """Each as that many zeros and a one."""
    ends = np.cumsum(quotients + 1)
    bits = np.zeros(ends[-1] if len(ends) else 0, bool)
    bits[ends - 1] = True
    return np.packbits(bits).tobytes()


def _remainders(gaps: np.ndarray, k: int) -> bytes:
    """The lowest k bits of each, lowest first."""
    bits = np.empty((len(gaps), k), np.uint8)
    for place in range(k):
        bits[:, place] = gaps >> place & 1
    return np.packbits(bits).tobytes()
