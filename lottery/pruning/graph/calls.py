"""What is seen of a forward pass: functions of torch that are called, and layers at work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lottery.pruning.graph.functions import IN_PLACE


@dataclass(frozen=True, eq=False)
class Call:
    """A layer at work: its weights take units and make others.

    Attributes:
        weight: the name of its weight.
        bias: the name of its bias, if it has one.
        made: labels of the units that it makes; they broadcast to the weight, such as (out, 1, 1, 1).
        column: the dimension of the weight along which it makes units.
        takes: labels of the units that it takes, such as (1, in, 1, 1), or (out, in / groups, 1, 1) of a convolution in
            groups; None for an embedding.
        groups: the groups of a convolution, else 1.
        low: the least value of each unit that it takes, shape (in,).
        high: the greatest value.
        uniform: whether constant inputs add the same everywhere: no zero padding, no transposed convolution.
    """

    weight: str
    bias: str | None
    made: Tensor
    column: int
    takes: Tensor | None = None
    groups: int = 1
    low: Tensor | None = None
    high: Tensor | None = None
    uniform: bool = True


@dataclass(frozen=True, eq=False)
class Use:
    """A torch function that was called.

    Attributes:
        func: the function.
        name: the name that torch gives it.
        args: its arguments.
        kwargs: those by name.
        given: the tensors among them.
        outputs: the tensors in its result.
    """

    func: Any
    name: str
    args: Any
    kwargs: dict[str, object]
    given: Sequence[Tensor]
    outputs: Sequence[Tensor]

    @property
    def overwrites(self) -> bool:
        """Whether it writes into what it was given."""
        return bool(IN_PLACE.fullmatch(self.name)) or "out" in self.kwargs

    @property
    def target(self) -> object:
        """What it writes into then."""
        return self.kwargs.get("out", self.args[0] if self.args else None)
