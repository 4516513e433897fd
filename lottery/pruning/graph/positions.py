"""What the code of a forward expects of positions: where it splits, picks and reshapes units.

A function whose sizes follow, such as `chunk`, stays right where units at the same position of each part go together:
these are tied. One with sizes or positions that are written into the code stays right only where the units stay that it
counts: these are pinned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lottery.pruning.graph.attributes import Noted
from lottery.pruning.graph.labels import Labels, bare, lean, rows_of, varies
from lottery.pruning.graph.sizes import Size, share_of


class Positions:
    """Notes in `labels` what one call expects of what it takes.

    Args:
        labels: where ties and pins are noted.
        reason: why what is pinned stays, in words.
    """

    def __init__(self, labels: Labels, reason: str) -> None:
        self.labels = labels
        self.reason = reason

    def expect(
        self, func: object, name: str, args: Sequence[Any], kwargs: dict[str, Any], moved: Tensor | None
    ) -> None:
        """Of a function that moves features: the labels of its first argument among `args`, and `moved`, its result."""
        if name in ("view", "reshape", "unflatten"):
            self._reshape(name, args, kwargs, moved)
        elif name == "unfold":
            if func is not F.unfold:
                self._all(args[0], kwargs.get("dimension", args[1] if len(args) > 1 else 0))
        elif name in _EXPECTED:
            _EXPECTED[name](self, *args, **kwargs)

    # ties and pins

    def _all(self, x: Tensor, dim: int) -> None:
        """No position along a dimension may go."""
        self._pin(x, dim, 0, x.shape[dim])

    def _note(self, size: int, x: Tensor, dim: int) -> None:
        """A size that is an attribute follows what it is the size of."""
        if isinstance(size, Noted):
            self.labels.uses.note(size, rows_of(x, dim))

    def _pin(self, x: Tensor, dim: int, start: int, stop: int) -> None:
        self.labels.pin(x, dim, (start, stop), self.reason)

    def _tie(self, x: Tensor, dims: Iterable[int]) -> None:
        """What differs in positions along `dims` alone goes together; all of it stays where there is nothing else."""
        for dim in dims:
            if any(varies(x, d) for d in range(x.ndim) if d != dim % x.ndim):
                self.labels.together(x.narrow(dim, 0, 1), x)
            else:
                self._all(x, dim)

    def _parts(self, x: Tensor, dim: int, length: int) -> None:
        """Parts of one length, which follows."""
        if length and x.shape[dim] % length == 0:
            if length < x.shape[dim]:
                parts = x.unflatten(dim, (-1, length))
                self._tie(parts, [dim % x.ndim])
        else:
            self._all(x, dim)

    def _cut(self, x: Tensor, dim: int, bounds: Iterable[int]) -> None:
        """Cut before each of some positions, as they came from the code; from the end where they are negative."""
        n, steps = x.shape[dim], []
        for bound in bounds:
            share = share_of(bound)
            if share == 1 or (share == 0 and bound < 0):
                self._pin(x, dim, n + int(bound) if bound < 0 else int(bound), n)
            elif share == 0:
                self._pin(x, dim, 0, min(int(bound), n))
            elif abs(bound) == abs(share) * n:
                steps.append(int(bound))
            else:
                self._all(x, dim)
        if steps:
            self._parts(x, dim, math.gcd(n, *steps))

    # functions

    def _chunk(self, x: Tensor, chunks: int, dim: int = 0) -> None:
        n = x.shape[dim]
        if n % chunks == 0 and not isinstance(chunks, Size):
            self._parts(x, dim, n // chunks)
        else:
            self._all(x, dim)

    def _tensor_split(self, x: Tensor, indices_or_sections: Any, dim: int = 0, **kwargs: Any) -> None:
        where = kwargs.get("indices", kwargs.get("sections", indices_or_sections))
        if isinstance(where, int):
            self._chunk(x, where, dim)
        elif isinstance(where, Tensor):
            self._all(x, dim)
        else:
            self._cut(x, dim, where)

    def _split(self, x: Tensor, split_size_or_sections: Any = None, dim: int = 0, **kwargs: Any) -> None:
        sizes = kwargs.get("split_size", kwargs.get("split_sizes", split_size_or_sections))
        n = x.shape[dim]
        if isinstance(sizes, int):
            if isinstance(sizes, Noted) or share_of(sizes) * n == sizes:
                self._parts(x, dim, int(sizes))
                self._note(sizes, x.split(int(sizes), dim)[0], dim)
            elif sizes < n:
                self._all(x, dim)
        elif any(isinstance(size, Noted) for size in sizes):
            self._segments(x, dim, sizes)
        else:
            *bounds, total = accumulate(sizes)
            if share_of(total) == 1:
                self._cut(x, dim, bounds)
            else:
                self._all(x, dim)

    def _segments(self, x: Tensor, dim: int, sizes: Sequence[int]) -> None:
        """Parts of which each has a size of its own."""
        for size, part in zip(sizes, x.split([int(size) for size in sizes], dim), strict=True):
            if isinstance(size, Noted):
                self._note(size, part, dim)
            else:
                self._all(part, dim)

    def _unbind(self, x: Tensor, dim: int = 0) -> None:
        self._tie(x, [dim])

    def _select(self, x: Tensor, dim: int, index: int) -> None:
        """One position; what lies before it, or behind it where it counts from the end, is counted."""
        n = x.shape[dim]
        self._pin(x, dim, *((n + index, n) if index < 0 else (0, index + 1)))

    def _narrow(self, x: Tensor, dim: int, start: int, length: int) -> None:
        self._cut(x, dim, (start, start + length))

    def _index_select(self, x: Tensor, dim: int, index: Tensor) -> None:
        self._all(x, dim)

    def _roll(self, x: Tensor, shifts: object, dims: Any = None) -> None:
        for dim in range(x.ndim) if dims in (None, ()) else [dims] if isinstance(dims, int) else dims:
            self._all(x, dim)

    def _expand(self, x: Tensor, *size: Any, **kwargs: object) -> None:
        sizes = _flat(size or tuple(kwargs.values()))
        for dim, given in enumerate(sizes[len(sizes) - x.ndim :]):
            if isinstance(given, Noted) and x.shape[dim] > 1:
                self._note(given, x, dim)
            elif given != -1 and not isinstance(given, Size):
                self._all(x, dim)

    def _pixel_shuffle(self, x: Tensor, upscale_factor: int) -> None:
        parts = x.unflatten(-3, (-1, upscale_factor**2))
        self._tie(parts, [-3])

    def _channel_shuffle(self, x: Tensor, groups: int) -> None:
        self._chunk(x, groups, 1)

    def _pad(self, x: Tensor, pad: Sequence[int], *_: object, **__: object) -> None:
        for i, length in enumerate(pad):
            if length < 0:
                self._all(x, x.ndim - 1 - i // 2)

    def _getitem(self, x: Tensor, index: Any) -> None:
        dim = 0
        for part, length in _by_dimension(index, x.ndim):
            for d in range(dim, dim + length):
                self._index(x, d, part)
            dim += length

    def _index(self, x: Tensor, dim: int, part: Any) -> None:
        if isinstance(part, slice):
            if part.step not in (None, 1):
                self._all(x, dim)
                return
            bounds = [b for b in (part.start, part.stop) if b is not None]
            self._cut(x, dim, (b for b in bounds if not (share_of(b) == 0 and b >= x.shape[dim])))
        elif isinstance(part, int) and not isinstance(part, bool):
            self._select(x, dim, part)
        else:
            self._all(x, dim)

    def _reshape(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], moved: Tensor | None) -> None:
        x = args[0]
        sizes = _flat((*args[1:], *kwargs.values()))
        if moved is None or not sizes or not all(isinstance(n, int) for n in sizes):
            return  # view of another type
        if name == "unflatten":
            dim = sizes.pop(0) % x.ndim
            sizes = [*[-1] * dim, *sizes, *[-1] * (x.ndim - dim - 1)]
        for before, after in _blocks(x.shape, moved.shape):
            self._block(moved, len(before), after, sizes)

    def _block(self, moved: Tensor, before: int, after: Sequence[int], sizes: Sequence[Any]) -> None:
        """Dimensions that come from `before` dimensions of as many elements."""
        from_x = [d for d in after if isinstance(sizes[d], Size) and not isinstance(sizes[d], Noted)]
        free = [d for d in after if sizes[d] == -1]
        noted = [d for d in after if isinstance(sizes[d], Noted)]
        if free and noted and before == 1 and not from_x and varies(moved, free[0]):
            self._tie(moved, [d for d in after if d not in (free[0], noted[0])])
            self.labels.choices.append((moved, free[0], noted[0], sizes[noted[0]]))
            return
        follows = from_x or free or noted[:1]
        written = [d for d in after if d not in follows]
        for dim in {*written} & {*noted}:
            sizes[dim].stay()
        if len(follows) == 1 and self._fits(moved, follows[0], sizes[follows[0]]):
            if not written:
                return
            if before == 1 and varies(moved, follows[0]):
                self._tie(moved, written)
                return
        for dim in after:
            self._all(moved, dim)

    def _fits(self, moved: Tensor, dim: int, size: int) -> bool:
        """Whether a size follows the units along a dimension; it may be that of other units, which it is tied to."""
        self._note(size, moved, dim)
        if not isinstance(size, Size) or size.rows is None:
            return True
        if torch.equal(size.rows.unique(), bare(moved).unique()):
            return True
        rows = rows_of(moved, dim)
        if not varies(moved, dim):
            self.labels.pin(size.rows, 0, (0, len(size.rows)), self.reason)
            return True
        if size.share != 1 or size.rows.shape not in (rows.shape, (len(rows), 1)):
            return False
        self.labels.together(size.rows, rows)
        return True


def unit_sizes(labels: Tensor) -> list[int]:
    """The shape of features; each size along which there are different units is a `Size`."""
    return [
        Size(n, rows=rows_of(lean(labels), dim)) if varies(labels, dim) else n for dim, n in enumerate(labels.shape)
    ]


def _flat(sizes: Iterable[Any]) -> list[Any]:
    """Sizes, given one by one or as a tuple."""
    return [n for part in sizes for n in (part if isinstance(part, (tuple, list)) else [part])]


def _blocks(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The dimensions, longer than 1, that a reshape makes of which: the fewest of the same number of elements."""
    left = [d for d, n in enumerate(before) if n > 1]
    right = [d for d, n in enumerate(after) if n > 1]
    while left and right:
        one, other = [left.pop(0)], [right.pop(0)]
        while (a := math.prod(before[d] for d in one)) != (b := math.prod(after[d] for d in other)):
            if a < b:
                one.append(left.pop(0))
            else:
                other.append(right.pop(0))
        yield one, other


def _by_dimension(index: Any, ndim: int) -> Iterator[tuple[Any, int]]:
    """The parts of an index, each with how many dimensions it takes."""
    parts = index if isinstance(index, tuple) else (index,)

    def taken(part: Any) -> int:
        if part is None or part is Ellipsis:
            return 0
        return part.ndim if isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8) else 1

    rest = ndim - sum(map(taken, parts))
    for part in parts:
        if part is Ellipsis:
            yield slice(None), rest
        elif part is not None:
            yield part, taken(part)


_EXPECTED: dict[str, Callable[..., None]] = {
    "chunk": Positions._chunk,
    "split": Positions._split,
    "split_with_sizes": Positions._split,
    "tensor_split": Positions._tensor_split,
    "unbind": Positions._unbind,
    "select": Positions._select,
    "narrow": Positions._narrow,
    "index_select": Positions._index_select,
    "roll": Positions._roll,
    "expand": Positions._expand,
    "broadcast_to": Positions._expand,
    "pixel_shuffle": Positions._pixel_shuffle,
    "channel_shuffle": Positions._channel_shuffle,
    "pad": Positions._pad,
    "__getitem__": Positions._getitem,
}
