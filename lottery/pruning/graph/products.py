"""How products of features label what they make: matrix products, einsum, and attention, whose heads are units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from lottery.pruning.graph.calls import Use
from lottery.pruning.graph.labelling import Labelling, fixed
from lottery.pruning.graph.labels import FIXED, varies
from lottery.pruning.graph.layers import arguments_of, layer, product

_NAMES = "abcdefghijklmnopqrstuvw"


@dataclass(frozen=True, eq=False)
class Factor:
    """The labels of a factor, with a letter for each of its dimensions."""

    labels: Tensor
    dims: str

    def varies(self, dim: str) -> bool:
        """Whether there are different units along a dimension."""
        return dim in self.dims and varies(self.labels, self.dims.index(dim))

    def arranged(self, dims: str) -> Tensor:
        """The labels, in this order of dimensions; of length 1 where there is none, and without those left out."""
        rest = [d for d in self.dims if d not in dims]
        mine = [d for d in dims if d in self.dims]
        ordered = self.labels.permute([self.dims.index(d) for d in (*mine, *rest)])
        sizes = dict(zip(self.dims, self.labels.shape, strict=True))
        return ordered.reshape([sizes.get(d, 1) for d in dims])


def matrices(seen: Labelling, use: Use) -> list[Tensor] | None:
    """A layer where the second factor is a weight, else a product of two features."""
    made = product(seen, use)
    if made is not None or use.name == "addmm":
        return made
    given = arguments_of(use)
    x, y = given["input"], given["weight"]
    if x.ndim < 2 or y.ndim < 2:
        return None
    batch = _NAMES[: max(x.ndim, y.ndim) - 2]
    one, other = (batch[len(batch) + 2 - t.ndim :] for t in (x, y))
    return _contracted(seen, use, (x, one + "xz"), (y, other + "zy"), batch + "xy")


def einsum(seen: Labelling, use: Use) -> list[Tensor] | None:
    """A product of two features that sums over what they share; a layer where one is a weight."""
    equation, *operands = use.args
    operands = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    terms, arrow, out = str(equation).replace(" ", "").partition("->")
    names = terms.split(",")
    if not arrow or "." in terms or len(operands) != 2 or any(len(set(n)) < len(n) for n in (*names, out)):
        return None
    (x, y), (one, other) = operands, names
    if seen.own([x]):
        x, y, one, other = y, x, other, one
    if seen.own([y]):
        for name, dims in (("matmul", one[-1] + out[-1]), ("linear", out[-1] + one[-1])):
            if other == dims and out[:-1] == one[:-1]:
                return layer(seen, replace(use, name=name, args=(x, y)))
    return _contracted(seen, use, (x, one), (y, other), out)


def heads(seen: Labelling, use: Use) -> list[Tensor] | None:
    """A head of attention is one feature: query, key, value and what comes out."""
    names = ("query", "key", "value")
    given = dict(zip(names, use.args, strict=False)) | use.kwargs
    three = [given[n] for n in names]
    alike = len({x.shape[:-2] for x in three}) == 1
    mask: Any = use.kwargs.get("attn_mask", use.args[3] if len(use.args) > 3 else None)
    if not alike or (mask is not None and _tells_heads_apart(seen, mask)):
        return None
    head = seen.labels.merge(seen.swap(three[0]), (-2, -1))
    for x in three[1:]:
        other = seen.labels.merge(seen.swap(x), (-2, -1))
        head = seen.labels.meet(head, other)
    return [head.expand(use.outputs[0].shape)]


def _tells_heads_apart(seen: Labelling, mask: Tensor) -> bool:
    """Whether a mask has units of its own, or one part for each head."""
    return any(n > 1 for n in mask.shape[-3:-2]) or (seen.features(mask) and not seen.is_outside(mask))


def _contracted(
    seen: Labelling, use: Use, one: tuple[Tensor, str], other: tuple[Tensor, str], out: str
) -> list[Tensor] | None:
    """A product that sums over each dimension that `out` has not; each factor comes with the names of its dimensions.

    What is summed over in both factors hangs together, as a head of attention does. A factor that has no units, such as
    an adjacency matrix, must be alike for all units of the other.
    """
    factors = [Factor(_labels(seen, x), dims) for x, dims in (one, other)]
    summed = [d for d in dict.fromkeys(one[1] + other[1]) if d not in out]
    if any(factors[0].varies(d) != factors[1].varies(d) for d in summed):
        return None
    within = any(factors[0].varies(d) for d in summed)
    merged = [
        replace(f, labels=seen.labels.merge(f.labels, [i for i, d in enumerate(f.dims) if d in summed]))
        for f in factors
    ]
    a, b = (f.arranged(out) for f in merged)
    along = [{d for d in range(len(out)) if varies(labels, d)} for labels in (a, b)]
    if (within and not (along[0] and along[1])) or (along[0] - along[1] and along[1] - along[0]):
        return None  # all units would be one, or an element is of two
    seen.note_sized(use)
    for mine, factor, dims in ((a, b, along[0]), (b, a, along[1])):
        if not (factor > FIXED).any() and all(factor.shape[d] == 1 for d in dims):
            return [mine.expand(use.outputs[0].shape)]
    return [seen.labels.meet(a, b).expand(use.outputs[0].shape)]


def _labels(seen: Labelling, x: Tensor) -> Tensor:
    """Those of features; what else there is, is of a fixed size."""
    if seen.features(x) and x not in seen.parts:
        labels: Tensor = seen.of[x]
        return labels
    if isinstance(base := seen.turned.get(x, x), nn.Parameter) and seen.own([x]):
        seen.unfollowed[seen.name_of(base)] = f"a product in {seen.path[-1]}"
    if x in seen.parts:
        seen.labels.fix(seen.of[x], f"a product in {seen.path[-1]} is not followed")
    return fixed(x)
