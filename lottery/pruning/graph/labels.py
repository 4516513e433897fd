"""Labels of units, and which of them hang together."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lottery.pruning.graph.attributes import Noted, Uses
from lottery.pruning.graph.sizes import Size

NOTHING, FIXED = (0, 1)  # no unit, as zeros and constants; features that come from outside


class Labels:
    """Gives out labels of units and notes which are joined, which are tied, and which must stay.

    Tensors of labels are float64, because every torch function that moves features takes that.

    Attributes:
        count: how many labels there are.
        fixed: labels that must stay, each tensor with the reason in words.
        uses: where attributes of modules are sizes of features.
        choices: features of which one of two dimensions follows their units, of which the second has a noted size.
        sizes: after `settle`, place of such an attribute that follows to the labels of which it is the number.
    """

    def __init__(self) -> None:
        self.count = 2
        self.fixed: list[tuple[Tensor, str]] = []
        self.uses = Uses()
        self.choices: list[tuple[Tensor, int, int, Noted]] = []
        self.sizes: dict[str, Tensor] = {}
        self._pinned: list[tuple[Tensor, tuple[int, int], str]] = []
        self._joined: list[Tensor] = []
        self._tied: list[Tensor] = []

    def fresh(self, count: int) -> Tensor:
        """New labels, shape (count,)."""
        self.count += count
        return torch.arange(self.count - count, self.count, dtype=torch.float64)

    def join(self, one: Tensor, other: Tensor | float) -> None:
        """What stands in the same place, after broadcasting, is one feature; nothing joins with nothing."""
        self._joined.append(pairs(one, other))

    def meet(self, one: Tensor, other: Tensor) -> Tensor:
        """Join, and the labels of what comes of it where features meet, as in a sum."""
        self.join(one, other)
        return torch.maximum(bare(one), bare(other))

    def tie(self, one: Tensor, other: Tensor | float) -> None:
        """What stands in the same place, after broadcasting, goes or stays together, though the values are apart."""
        self._tied.append(pairs(one, other))

    def together(self, one: Tensor, other: Tensor) -> None:
        """Tie, and what stands in the place of nothing must stay: there are zeros of a fixed size."""
        self.tie(one, other)
        one, other = torch.broadcast_tensors(bare(one), bare(other))
        for here, there in ((one, other), (other, one)):
            if (alone := (there == NOTHING) & (here != NOTHING)).any():
                self.fix(here[alone], "zeros of a fixed size are in their place elsewhere")

    def pin(self, labels: Tensor, dim: int, places: tuple[int, int], reason: str) -> None:
        """Along a dimension no unit may go from these places: from the first on, up to the other.

        That a dimension has different units along it is known in the end: `settle` fixes them then.
        """
        rows = rows_of(labels, dim)
        if places[0] < places[1] and (rows != rows[:1]).any():
            self._pinned.append((rows, places, reason))

    def size(self, size: Size, labels: Tensor, dim: int) -> None:
        """Constants were made that have the size of units along a dimension."""
        if isinstance(size, Noted):
            self.uses.note(size, rows_of(labels, dim))
            return
        rows = rows_of(labels, dim)
        if size.rows is not None and size.share == 1 and len(size.rows) == len(rows):
            self.together(size.rows[:, :1], rows)
        else:
            self.pin(labels, dim, (0, labels.shape[dim]), "a tensor has a size that is computed from theirs")

    def settle(self, made: Tensor) -> None:
        """Fix what is pinned, by all that is joined and tied, and what has no unit of those that layers have made."""
        self._choose()
        self.sizes = self.uses.settle(self)
        found = self.components(tied=True)
        for rows in self.sizes.values():
            own = rows[~torch.isin(found[rows.long()], found[made])]
            self.fix(own, "no layer makes them")
        for rows, (start, stop), reason in self._pinned:
            own = found[rows.long()]
            if (own != own[:1]).any():
                self.fix(rows[start:stop], reason)
        self._pinned.clear()

    def _choose(self) -> None:
        """The first of two dimensions follows the units, unless they are all one then, as the places of a head."""
        noted = len(self._tied), len(self.fixed)
        for x, _, other, _ in self.choices:
            self.together(x.narrow(other, 0, 1), x)
        found = self.components(tied=True)
        del self._tied[noted[0] :], self.fixed[noted[1] :]
        for x, dim, other, size in self.choices:
            own = found[x.long()]
            if (own != own.flatten()[0]).any():
                size.stay()
                self.together(x.narrow(other, 0, 1), x)
            else:
                self.uses.note(size, rows_of(x, other))
                self.together(x.narrow(dim, 0, 1), x)
        self.choices.clear()

    def merge(self, labels: Tensor, dims: Iterable[int]) -> Tensor:
        """Join along dimensions, which stay with length 1."""
        dims = tuple(d % labels.ndim for d in dims)
        merged = bare(labels).amax(dims, keepdim=True) if dims else labels
        self.join(labels, merged)
        return merged.expand([1 if d in dims else n for d, n in enumerate(labels.shape)])

    def fix(self, labels: Tensor, reason: str) -> None:
        """These must stay."""
        self.fixed.append((bare(labels).unique().long(), reason))

    def components(self, tied: bool = False) -> Tensor:
        """For each label the number of all that it is joined with, or joined and tied with. Shape (count,)."""
        from scipy.sparse import coo_array  # type: ignore[import-untyped]
        from scipy.sparse.csgraph import (  # type: ignore[import-untyped]
            connected_components,
        )

        noted = [*self._joined, *(self._tied if tied else [])]
        one, other = ends(noted)
        edges = one.numpy(), other.numpy()
        there = torch.ones(len(one), dtype=torch.bool).numpy()
        graph = coo_array((there, edges), shape=(self.count, self.count))
        found = connected_components(graph, directed=False)[1]
        return torch.from_numpy(found).long()


def bare(labels: Tensor) -> Tensor:
    """Labels of which each dimension that they are expanded along has length 1."""
    for dim, (length, step) in enumerate(zip(labels.shape, labels.stride(), strict=True)):
        if length > 1 and step == 0:
            labels = labels.narrow(dim, 0, 1)
    return labels


def lean(labels: Tensor) -> Tensor:
    """The same labels, expanded along each dimension that they are the same along."""
    few = bare(labels)
    for dim, length in enumerate(few.shape):
        if length > 1 and bool((few == (first := few.narrow(dim, 0, 1))).all()):
            few = first
    return few.expand(labels.shape)


def rows_of(labels: Tensor, dim: int) -> Tensor:
    """The labels at each place along a dimension, shape (places, any number)."""
    rows = bare(labels).movedim(dim, 0)
    return rows.expand(labels.shape[dim], *rows.shape[1:]).reshape(labels.shape[dim], -1)


def varies(labels: Tensor, dim: int) -> bool:
    """Whether there are different labels along a dimension."""
    if labels.shape[dim] < 2 or labels.stride(dim) == 0:
        return False
    labels = bare(labels)
    return bool((labels != labels.narrow(dim, 0, 1)).any())


def pairs(one: Tensor, other: Tensor | float) -> Tensor:
    """The different pairs of unequal labels in the same place, each as one number, a * 2**31 + b; none with nothing."""
    a, b = torch.broadcast_tensors(bare(one), bare(torch.as_tensor(other)))
    differ = (a != b) & (a != NOTHING) & (b != NOTHING)
    return (a[differ].long() * 2**31 + b[differ].long()).unique()


def ends(found: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """The labels on both sides of pairs."""
    numbers = torch.cat([torch.zeros(0, dtype=torch.int64), *found])
    return numbers // 2**31, numbers % 2**31
