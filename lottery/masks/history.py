"""The masks of all rounds as one tensor: the round in which each weight died."""

from __future__ import annotations

import lzma
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
import torch
from torch import Tensor

from lottery.masks.masks import Masks
from lottery.text.numbers import percent
from lottery.text.sparkline import sparkline
from lottery.text.tables import TextTable

if TYPE_CHECKING:
    import pandas

MOST_ROUNDS = 2**15 - 2
"""What 16 bits hold, the death of survivors included."""

_LZMA = {
    "id": lzma.FILTER_LZMA2,
    "dict_size": 1 << 20,
    "lc": 0,  # the bits of a mask have neither context nor alignment
    "pb": 0,
    "mode": lzma.MODE_NORMAL,
    "mf": lzma.MF_BT2,  # a short search for repetitions: few masks have any
    "nice_len": 8,
    "depth": 2,
}


class MaskHistory(Sequence[Masks]):
    """The masks of rounds 0, 1, ..., each nested in the one before.

    Args:
        deaths: parameter name to integer tensor of its shape: the first round whose mask lacks the weight, or the
            number of rounds where all masks have it.
        rounds: number of rounds.

    Example:
        >>> dense = Masks({"w": torch.tensor([True, True, True])})
        >>> sparse = Masks({"w": torch.tensor([True, False, True])})
        >>> history = MaskHistory.of([dense, sparse])
        >>> history.deaths["w"].tolist(), history[1] == sparse
        ([2, 1, 2], True)
    """

    def __init__(self, deaths: Mapping[str, Tensor], rounds: int) -> None:
        self.deaths = {name: tensor.to(torch.int16) for name, tensor in deaths.items()}
        self._rounds = rounds

    @classmethod
    def of(cls, masks: Iterable[Masks]) -> MaskHistory:
        """The history of the masks of rounds 0, 1, ....

        Raises:
            ValueError: there are none, or a weight that was pruned has come back.
        """
        first, *others = masks
        history = cls({n: m.to(torch.int16) for n, m in first.items()}, 1)
        for following in others:
            history = history.followed_by(following)
        return history

    def followed_by(self, masks: Masks) -> MaskHistory:
        """This history and one more round.

        Raises:
            ValueError: `masks` keeps a weight that the round before has pruned, or is of other parameters.
        """
        self[-1].check_same(masks)
        if not masks.nested_in(self[-1]):
            raise ValueError(
                f"the masks of round {len(self)} are not nested in those of the round before: pruned weights came back"
            )
        deaths = {name: d + masks[name] for name, d in self.deaths.items()}
        return MaskHistory(deaths, len(self) + 1)

    def __len__(self) -> int:
        return self._rounds

    @overload
    def __getitem__(self, number: int) -> Masks: ...
    @overload
    def __getitem__(self, number: slice) -> list[Masks]: ...
    def __getitem__(self, number: int | slice) -> Masks | list[Masks]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(f"round {number} of {len(self)}")
        return Masks({name: d > number % len(self) for name, d in self.deaths.items()})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MaskHistory):
            return NotImplemented
        return (
            len(self) == len(other)
            and list(self.deaths) == list(other.deaths)
            and all(torch.equal(d, other.deaths[n]) for n, d in self.deaths.items())
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"MaskHistory({len(self)} rounds, {self[-1].density:.4f} of the weights alive in the last)"

    def _repr_html_(self) -> str:
        rounds = [masks.densities() for masks in self]
        rows = [
            [name, percent(rounds[-1][name]), sparkline([densities[name] for densities in rounds], 0, 1)]
            for name in self.deaths
        ]
        headline = f"{len(self)} rounds, {percent(self[-1].density)} of the weights alive in the last"
        return TextTable(["parameter", "density", "over the rounds"], rows).html(headline)

    def to_frame(self, **weights: Mapping[str, Tensor]) -> pandas.DataFrame:
        """A row per weight: its parameter, its place, the round in which it died.

        Args:
            weights: state dicts, such as ``initial=run.weights("initial")``: a column of each, with its name.

        Returns:
            Columns parameter, index (into the flattened parameter), died (the number of rounds where it is alive), and
            those asked for.

        Raises:
            ValueError: a parameter is missing in `weights`, or has another shape.

        Example:
            >>> history = MaskHistory.of([Masks({"w": torch.tensor([True, False])})])
            >>> history.to_frame(initial={"w": torch.tensor([0.5, -2.0])})
              parameter  index  died  initial
            0         w      0     1      0.5
            1         w      1     0     -2.0
        """
        import pandas

        for column, state in weights.items():
            for name, died in self.deaths.items():
                if name not in state or state[name].shape != died.shape:
                    there = f"is {tuple(state[name].shape)} there" if name in state else "is missing there"
                    raise ValueError(f"{column}=...: {name} of shape {tuple(died.shape)} {there}")
        frames = [
            pandas.DataFrame(
                {
                    "parameter": name,
                    "index": np.arange(died.numel()),
                    "died": died.flatten().numpy(),
                    **{column: state[name].detach().cpu().flatten().numpy() for column, state in weights.items()},
                }
            )
            for name, died in self.deaths.items()
        ]
        return pandas.concat(frames, ignore_index=True)

    def entropy(self) -> float:
        """Bytes that a code needs which knows how many weights died in which round and nothing else.

        The empirical entropy of the death round, times the number of weights, over eight.
        """
        flat = self._flat()
        counts = np.bincount(flat, minlength=1).astype(float)
        shares = counts[counts > 0] / max(1, flat.size)
        return float((shares * np.log2(1 / shares)).sum() * flat.size / 8)

    def pack(self) -> Tensor:
        """One uint8 tensor, near the entropy: per round one bit for each weight alive before it, LZMA coded.

        By the chain rule the entropies of these bits add up to that of the death round.
        """
        flat = self._flat()
        coder = lzma.LZMACompressor(check=lzma.CHECK_CRC32, filters=[_LZMA])
        pieces = []
        for number in range(len(self)):
            flat = flat[flat >= number]
            pieces.append(coder.compress(np.packbits(flat > number).tobytes()))
        pieces.append(coder.flush())
        return torch.frombuffer(bytearray(b"".join(pieces)), dtype=torch.uint8)

    @classmethod
    def unpack(cls, packed: Tensor, shapes: Mapping[str, Sequence[int]], rounds: int) -> MaskHistory:
        """The inverse of `pack`, given the shape of each parameter and the number of rounds.

        Raises:
            ValueError: `packed` is damaged, or does not go with the shapes and rounds.
        """
        sizes = [math.prod(shape) for shape in shapes.values()]
        sides = [side for shape in shapes.values() for side in shape]
        if not (0 < rounds <= MOST_ROUNDS and all(0 <= n <= sys.maxsize for n in [*sides, sum(sizes)])):
            raise ValueError(f"no masks have {rounds} rounds and the shapes {shapes}")
        reader = _Reader(packed.numpy().tobytes())
        first = reader.bits(sum(sizes))
        flat = first.astype(np.int16)
        alive = first.nonzero()[0] if rounds > 1 else None
        for _ in range(1, rounds):
            assert alive is not None
            alive = alive[reader.bits(len(alive))]
            flat[alive] += 1
        reader.close()
        pieces = torch.from_numpy(flat).split(sizes)
        deaths = {name: piece.reshape(tuple(shapes[name])) for name, piece in zip(shapes, pieces, strict=True)}
        return cls(deaths, rounds)

    def _flat(self) -> np.ndarray:
        parts = [d.reshape(-1).numpy() for d in self.deaths.values()]
        return np.concatenate(parts) if parts else np.zeros(0, np.int16)


class _Reader:
    """Bits that `MaskHistory.pack` has coded, decoded as far as they are asked for."""

    def __init__(self, packed: bytes) -> None:
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 24)
        self._pending = packed

    def bits(self, count: int) -> np.ndarray:
        """The next `count` bits, as booleans.

        Raises:
            ValueError: the code is damaged, or has fewer.
        """
        data = self._decode(-(-count // 8))
        if len(data) < -(-count // 8):
            raise ValueError("the packed masks end before their last weight")
        return np.unpackbits(np.frombuffer(data, np.uint8), count=count).view(bool)

    def close(self) -> None:
        """Make sure that nothing is left.

        Raises:
            ValueError: there is more than was read, or the code is cut off.
        """
        if self._decode(1) or not self._decoder.eof or self._decoder.unused_data:
            raise ValueError(
                "the packed masks do not end with their last weight: they have other shapes or rounds, or are damaged"
            )

    def _decode(self, size: int) -> bytes:
        """Up to `size` bytes, fewer at the end."""
        pieces: list[bytes] = []
        while size and not self._decoder.eof:
            try:
                pieces.append(self._decoder.decompress(self._pending, size))
            except lzma.LZMAError as error:
                raise ValueError(f"the packed masks are damaged: {error}") from None
            self._pending = b""
            size -= len(pieces[-1])
            if self._decoder.needs_input:
                break
        return b"".join(pieces)
