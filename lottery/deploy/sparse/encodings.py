"""Codes of one mask: which weights are kept, without their values, as few bytes as its pattern allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lottery.deploy.sparse import golomb_rice
from lottery.masks.history import MaskHistory
from lottery.masks.masks import Masks

Shape = tuple[int, ...]


class Coded(NamedTuple):
    """A mask as bytes: the name of its encoding and the code."""

    encoding: str
    code: bytes


class Encoding(NamedTuple):
    """A way to code a mask.

    Args:
        code: turns a boolean array of one or more dimensions into bytes, or gives None where the mask lacks the pattern
            that the encoding is made for.
        mask: turns the bytes and the array's shape back into the array.
    """

    code: Callable[[np.ndarray], bytes | None]
    mask: Callable[[bytes, Shape], np.ndarray]


def encode(mask: Tensor, encoding: str = "auto") -> Coded:
    """Code a mask.

    Args:
        mask: boolean tensor of any shape, True = kept.
        encoding: "auto" takes the shortest code; the others are the names in `ENCODINGS`:

            - "dense": nothing at all; for a mask that keeps every weight.
            - "grid": one bit per row, per column, ...: for a mask that keeps all weights where live rows and live
              columns cross, as pruned channels leave it.
            - "blocks": the offsets of live blocks, coded as in "delta"; for a mask that keeps or prunes blocks whole.
              The largest shape of block that does is found: rows, tiles of (4, 4), kernels of a convolution.
            - "bitmap": one bit per weight.
            - "delta": the gaps between kept weights, or between pruned ones where these are fewer, Golomb-Rice coded:
              within 2 % of the entropy for weights that are kept at random.
            - "lzma": the bitmap, LZMA coded as in tickets: finds patterns, such as 2 of 4, that the others do not know.

    Raises:
        ValueError: there is no such encoding, or the mask has not the pattern that it is made for.

    Example:
        >>> mask = torch.zeros(1000, 100, dtype=torch.bool)
        >>> mask[:50, :40] = True
        >>> coded = encode(mask)
        >>> coded.encoding, len(coded.code), len(encode(mask, "bitmap").code)
        ('blocks', 19, 12500)
        >>> torch.equal(decode(coded, mask.shape), mask)
        True
    """
    if encoding == "auto":
        return min(_codes(mask), key=lambda coded: len(coded.code))
    check(encoding)
    code = ENCODINGS[encoding].code(_array(mask))
    if code is None:
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} that keeps {int(mask.sum()):,} of {mask.numel():,} weights has not"
            f" the pattern that encoding={encoding!r} is made for; encoding='auto' takes the shortest that fits"
        )
    return Coded(encoding, code)


def decode(coded: Coded, shape: Sequence[int]) -> Tensor:
    """The mask that `encode` coded.

    Raises:
        ValueError: the code is damaged, or does not go with the shape.
    """
    shape = tuple(shape)
    if coded.encoding not in _READ:
        check(coded.encoding)
    try:
        mask = _READ[coded.encoding](coded.code, shape or (1,))
    except IndexError as error:
        raise ValueError(f"a mask coded as {coded.encoding!r} does not go with the shape {shape}: {error}") from None
    return torch.from_numpy(mask).reshape(shape)


def sizes(mask: Tensor) -> dict[str, int | None]:
    """Bytes of the code in each encoding; None where the mask has not its pattern."""
    lengths = {coded.encoding: len(coded.code) for coded in _codes(mask)}
    return {name: lengths.get(name) for name in ENCODINGS}


def shortest(sizes: Mapping[str, int | None]) -> str:
    """The encoding that "auto" takes, by the `sizes` of a mask."""
    codes = {name: size for name, size in sizes.items() if size is not None}
    return min(codes, key=codes.__getitem__)


def entropy(mask: Tensor) -> float:
    """Bytes that a code needs which knows how many weights are kept and nothing else."""
    return MaskHistory.of([Masks({"": mask})]).entropy()


def check(encoding: str) -> None:
    """Make sure that there is such an encoding.

    Raises:
        ValueError: there is none.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding={encoding!r}; choose from auto, {', '.join(ENCODINGS)}")


def _codes(mask: Tensor) -> list[Coded]:
    """The codes of a mask in each encoding that has one."""
    array = _array(mask)
    codes = ((name, encoding.code(array)) for name, encoding in ENCODINGS.items())
    return [Coded(name, code) for name, code in codes if code is not None]


def _array(mask: Tensor) -> np.ndarray:
    return np.atleast_1d(mask.detach().cpu().numpy())


# nothing


def _dense(mask: np.ndarray) -> bytes | None:
    return b"" if mask.all() else None


def _all_kept(code: bytes, shape: Shape) -> np.ndarray:
    if code:
        raise ValueError("a mask that keeps everything has no code")
    return np.ones(shape, bool)


# live rows x live columns


def _grid(mask: np.ndarray) -> bytes | None:
    live = [mask.any(axis=_others(mask, axis)) for axis in range(mask.ndim)]
    if math.prod(int(side.sum()) for side in live) != mask.sum():
        return None
    return np.packbits(np.concatenate(live)).tobytes()


def _from_grid(code: bytes, shape: Shape) -> np.ndarray:
    live = _bits(code, sum(shape))
    mask = np.ones(shape, bool)
    for axis, side in enumerate(np.split(live, np.cumsum(shape)[:-1])):
        mask &= _along(side, axis, len(shape))
    return mask


# whole blocks


def _blocks(mask: np.ndarray) -> bytes | None:
    block = [_side(mask, axis) for axis in range(mask.ndim)]
    if math.prod(block) == 1:
        return None  # single weights are not blocks
    live = mask[tuple(slice(None, None, side) for side in block)]
    return np.array(block, "<u4").tobytes() + _delta(live)


def _from_blocks(code: bytes, shape: Shape) -> np.ndarray:
    block = np.frombuffer(code[: 4 * len(shape)], "<u4").astype(int)
    if len(block) != len(shape) or (block < 1).any():
        raise ValueError(f"blocks of shape {block.tolist()} in a mask of shape {shape}")
    grid = tuple(-(-n // side) for n, side in zip(shape, block, strict=True))
    mask = _from_delta(code[4 * len(shape) :], grid)
    for axis, side in enumerate(block):
        mask = mask.repeat(np.minimum(side, shape[axis]), axis).take(range(shape[axis]), axis)
    return mask


def _side(mask: np.ndarray, axis: int) -> int:
    """The longest side of blocks along an axis: the mask changes at its multiples only."""
    first = np.moveaxis(mask, axis, 0)
    before, after = first[:-1], first[1:]
    changes = (before != after).any(axis=tuple(range(1, mask.ndim))).nonzero()[0] + 1
    return int(np.gcd.reduce(changes)) if len(changes) else max(1, mask.shape[axis])


# weight by weight


def _bitmap(mask: np.ndarray) -> bytes:
    return np.packbits(mask).tobytes()


def _from_bitmap(code: bytes, shape: Shape) -> np.ndarray:
    return _bits(code, math.prod(shape)).reshape(shape)


def _delta(mask: np.ndarray) -> bytes:
    rare = bool(2 * mask.sum() <= mask.size)  # what fewer weights are: kept or pruned
    return bytes([rare]) + golomb_rice.encode(np.flatnonzero(mask == rare))


def _from_delta(code: bytes, shape: Shape) -> np.ndarray:
    rare = bool(code[0])
    mask = np.full(math.prod(shape), not rare)
    mask[golomb_rice.decode(code[1:])] = rare
    return mask.reshape(shape)


def _lzma(mask: np.ndarray) -> bytes:
    history = MaskHistory.of([Masks({"": torch.from_numpy(mask)})])
    return history.pack().numpy().tobytes()


def _from_lzma(code: bytes, shape: Shape) -> np.ndarray:
    packed = torch.frombuffer(bytearray(code), dtype=torch.uint8)
    return MaskHistory.unpack(packed, {"": shape}, 1)[0][""].numpy()


# an index per dimension and kept weight: not written any more, as it saved 11 bytes at most, in layers of 10 weights


def _from_coo(code: bytes, shape: Shape) -> np.ndarray:
    mask = np.zeros(shape, bool)
    indices = np.frombuffer(code, np.min_scalar_type(max(shape)).newbyteorder("<"))
    mask[tuple(indices.reshape(len(shape), -1))] = True
    return mask


def _bits(code: bytes, count: int) -> np.ndarray:
    if len(code) != -(-count // 8):
        raise ValueError(f"{len(code)} bytes for {count} bits")
    return np.unpackbits(np.frombuffer(code, np.uint8), count=count).astype(bool)


def _others(mask: np.ndarray, axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(mask.ndim) if other != axis)


def _along(vector: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    """A vector as an array of `ndim` dimensions that has it along `axis`."""
    return vector.reshape([-1 if other == axis else 1 for other in range(ndim)])


ENCODINGS = {
    "dense": Encoding(_dense, _all_kept),
    "grid": Encoding(_grid, _from_grid),
    "blocks": Encoding(_blocks, _from_blocks),
    "bitmap": Encoding(_bitmap, _from_bitmap),
    "delta": Encoding(_delta, _from_delta),
    "lzma": Encoding(_lzma, _from_lzma),
}
_READ = {name: encoding.mask for name, encoding in ENCODINGS.items()} | {"coo": _from_coo}
