"""Labels of units, and which of them hang together."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

NOTHING, FIXED = 0, 1  # no unit, as zeros and constants; features that must stay


class Labels:
    """Gives out labels of units and notes which are joined.

    Tensors of labels are float64, because every torch function that moves features takes that.
    """

    def __init__(self) -> None:
        self.count = 2
        self._pairs: list[Tensor] = []

    def fresh(self, count: int) -> Tensor:
        """New labels, shape (count,)."""
        self.count += count
        return torch.arange(self.count - count, self.count, dtype=torch.float64)

    def join(self, one: Tensor, other: Tensor | float) -> None:
        """What stands in the same place, after broadcasting, hangs together; nothing joins with nothing."""
        a, b = torch.broadcast_tensors(one, torch.as_tensor(other))
        differ = (a != b) & (a != NOTHING) & (b != NOTHING)
        pairs = a[differ].long() * 2**31 + b[differ].long()
        self._pairs.append(pairs.unique())

    def merge(self, labels: Tensor, dims: Iterable[int]) -> Tensor:
        """Join along dimensions, which stay with length 1."""
        merged = labels.amax(tuple(dims), keepdim=True)
        self.join(labels, merged)
        return merged

    def components(self) -> Tensor:
        """For each label the number of all that it hangs together with, -1 for the fixed and for nothing."""
        from scipy.sparse import coo_array  # type: ignore[import-untyped]
        from scipy.sparse.csgraph import (  # type: ignore[import-untyped]
            connected_components,
        )

        pairs = torch.cat([torch.zeros(0, dtype=torch.int64), *self._pairs])
        edges = (pairs // 2**31).numpy(), (pairs % 2**31).numpy()
        graph = coo_array((pairs.bool().numpy(), edges), shape=(self.count, self.count))
        found = torch.from_numpy(connected_components(graph, directed=False)[1]).long()
        return found.masked_fill(
            (found == found[FIXED]) | (found == found[NOTHING]), -1
        )
