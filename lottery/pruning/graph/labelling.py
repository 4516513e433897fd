"""What the results of a torch function are labelled with: each element carries the label of its unit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from lottery.foundations.tensors_in import tensors_in
from lottery.pruning.graph.functions import (
    ALONG,
    ARGUMENTS,
    ATTENTION,
    ELEMENTWISE,
    IN_PLACE,
    LAYERS,
    MIXING,
    MOVES,
    PER_CHANNEL,
    POOLS,
    PRODUCT_ARGUMENTS,
    PRODUCTS,
    REDUCTIONS,
    is_padded,
    limits_norms,
    pads_with_constants,
)
from lottery.pruning.graph.labels import FIXED, NOTHING, Labels, ends, pairs
from lottery.pruning.graph.positions import Positions, varies


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


class Labelling:
    """Labels of features and of owned tensors, and how functions hand them on.

    Args:
        owned: tensors of a module, by name, whose units are followed where they are a layer's weight.
        exact: as of `UnitTracer`.
        name: what the module is called.

    Attributes:
        labels: the labels, and what hangs together.
        calls: the layers, in the order of the forward pass.
        elements: name of an owned tensor that is no layer's weight to the labels of its elements.
        meets: pairs of a label of such an element and one of a feature that it is combined with, as numbers.
        path: the modules at work, from the outermost on.
    """

    def __init__(self, owned: Mapping[str, Tensor], exact: bool, name: str) -> None:
        self.owned = {id(t): name for name, t in owned.items()}
        self.exact = exact
        self.labels = Labels()
        self.calls: list[Call] = []
        self.elements: dict[str, Tensor] = {}
        self.meets: list[Tensor] = []
        self.of = WeakTensorKeyDictionary()  # features to labels; None: a constant
        self.parts = WeakTensorKeyDictionary()  # what is computed from elements alone
        self.path = [name]

    def follow(self, use: Use) -> list[Tensor] | None:
        """The labels of the floating results; None where they are not known."""
        if LAYERS.fullmatch(use.name):
            return self._layer(use)
        if not self._concerns(use) or self._mixes(use):
            return None
        if PRODUCTS.fullmatch(use.name):
            return self._product(use)
        for names, labels in _FOLLOWED:
            if names.fullmatch(use.name):
                return labels(self, use)
        return None

    def _concerns(self, use: Use) -> bool:
        """Whether features or owned tensors go in, and anything comes out."""
        followed = any(self._features(x) or self._owned([x]) for x in use.given)
        return bool(use.outputs) and followed

    def _mixes(self, use: Use) -> bool:
        """Whether a unit's value needs the others, or features choose what goes where."""
        choices = [x for x in use.given if not x.is_floating_point()]
        return (self.exact and bool(MIXING.fullmatch(use.name))) or self._known(choices)

    def _product(self, use: Use) -> list[Tensor] | None:
        """A matrix of the module's own that features are multiplied with is a layer, its columns make units."""
        x, weight = _arguments(use)["input"], _arguments(use)["weight"]
        plain = weight.ndim == 2 and not self._owned([x]) and x not in self.parts
        return self._layer(use) if plain and self._features(x) and not use.kwargs.keys() & {"beta", "alpha"} else None

    def _layer(self, use: Use) -> list[Tensor] | None:
        """Units that a layer takes, and fresh ones that it makes."""
        name, output = use.name, use.outputs[0]
        given = _arguments(use)
        weight = given["weight"]
        bias = None if name == "embedding" else given.get("bias")
        if not self._can_follow_layer(use, weight, bias):
            return None
        # of what is made
        column = int(name == "embedding" or "transpose" in name or bool(PRODUCTS.fullmatch(name)))
        spatial = 0 if name == "embedding" else weight.ndim - 2
        feature = output.ndim - 1 - spatial
        units = output.shape[feature]
        if column and weight.shape[1] != units:
            return None  # a transposed convolution in groups
        fresh = self.labels.fresh(units)
        made = _along(fresh, column, weight.ndim)
        call = Call(self.owned[id(weight)], None, made, column)
        if name != "embedding":
            call = self._taking(call, given, units, spatial)
        self.calls.append(call)
        return [_along(fresh, feature, output.ndim)]

    def _can_follow_layer(self, use: Use, weight: Tensor, bias: Tensor | None) -> bool:
        """Whether the layer's weight is followed, and all that shapes its outputs is known."""
        if id(weight) not in self.owned or weight.ndim < 2:
            return False
        if bias is not None and id(bias) not in self.owned:
            return False
        # where norms are limited, a column's values need the others
        return not (use.name == "embedding" and limits_norms(use.args, use.kwargs))

    def _taking(self, call: Call, given: Mapping[str, Any], units: int, spatial: int) -> Call:
        """The call of a linear layer or convolution, with what it takes."""
        x, weight, bias = given["input"], given["weight"], given.get("bias")
        feature = x.ndim - 1 - spatial
        others = [d for d in range(x.ndim) if d != feature]
        takes = self.labels.merge(self._swap(x), others).flatten()
        groups = len(takes) // weight.shape[1 - call.column]
        if groups == 1:
            axis = _along(takes, 1 - call.column, weight.ndim)
        else:
            each = takes.reshape(groups, 1, -1).expand(-1, units // groups, -1)
            axis = each.reshape(units, -1, *[1] * spatial)
        values = x.detach()
        low, high = values.movedim(feature, 0).flatten(1).aminmax(dim=1) if x.ndim > 1 else (values, values)
        transposed = call.column == 1 and weight.ndim > 2
        return replace(
            call,
            bias=None if bias is None else self.owned.get(id(bias)),
            takes=axis,
            groups=groups,
            low=low,
            high=high,
            uniform=not transposed and not is_padded(given.get("padding")),
        )

    def _moved(self, use: Use) -> list[Tensor] | None:
        """Elements that change places take their labels along: the function itself moves the labels."""
        self._label_elements(use)
        if pads_with_constants(use.name, use.args, use.kwargs):
            return None
        args, kwargs = self._swap(use.args), self._swap(use.kwargs)
        moved = list(tensors_in(use.func(*args, **kwargs)))
        if (x := self._first_features(use)) is not None:
            positions = Positions(
                self.labels, f"{use.name.strip('_')} in {self.path[-1]} has sizes or positions written into the code"
            )
            positions.expect(use.func, use.name, (self.of[x], *use.args[1:]), use.kwargs, moved[0] if moved else None)
        return moved

    def _elementwise(self, use: Use) -> list[Tensor] | None:
        """What meets in one element hangs together."""
        self._label_elements(use)
        output = use.outputs[0]
        writes = IN_PLACE.fullmatch(use.name) and output._is_view()
        if writes and not self._all_units(output):
            return None  # it writes into constants that others may read
        units, parts = self._operands(use)
        joined = torch.zeros(output.shape, dtype=torch.float64)
        for labels in units:
            joined = self.labels.meet(joined, labels)
        if not units or joined.shape != output.shape:
            return None
        for labels in parts:
            self._meet(labels, joined)
        self._fix_beside_blanks(units, joined)
        if use.name == "instance_norm":
            return [self.labels.merge(joined, range(2, joined.ndim))]
        return [joined]

    def _operands(self, use: Use) -> tuple[list[Tensor], list[Tensor]]:
        """Labels of the features that go in, and those of elements that they are combined with."""
        output = use.outputs[0]
        units: list[Tensor] = []
        parts: list[Tensor] = []
        for x in use.given:
            if self._features(x):
                labels = self.of[x]
                if PER_CHANNEL.fullmatch(use.name) and x.ndim == 1 < output.ndim:
                    labels = _along(labels, 1, output.ndim)
                (parts if x in self.parts else units).append(labels)
        if not units:  # elements of the module's own tensors with each other
            units = [t for t in parts if t.shape == output.shape][:1]
            parts = [t for t in parts if t is not units[0]] if units else []
        return units, parts

    def _meet(self, labels: Tensor, joined: Tensor) -> None:
        """Elements of an owned tensor and the features that they are combined with."""
        self.meets.append(pairs(labels, joined))
        element, feature = ends(self.meets[-1:])
        _, which, times = element.unique(return_inverse=True, return_counts=True)
        alone = times[which] == 1  # no scalar that meets many
        self.labels.tie(element[alone].double(), feature[alone].double())

    def _fix_beside_blanks(self, units: Iterable[Tensor], joined: Tensor) -> None:
        """What zeros of a fixed size are put beside has to stay."""
        for labels in units:
            if (blank := (labels == NOTHING) & (joined != NOTHING)).any():
                place = f"{self.path[-1]} puts zeros of a fixed size beside them"
                self.labels.fix(joined[blank], place)

    def _pooled(self, use: Use) -> list[Tensor] | None:
        """The places of a channel are one."""
        x = self._first_features(use)
        pool = POOLS.fullmatch(use.name)
        if x is None or pool is None:
            return None
        spatial = int(pool[1] or x.ndim - 2)
        return [self.labels.merge(self.of[x], range(x.ndim - spatial, x.ndim))]

    def _reduced(self, use: Use) -> list[Tensor] | None:
        """What is reduced to one element is one."""
        x = self._first_features(use)
        dim = use.kwargs.get("dim", use.args[1] if len(use.args) > 1 else None)
        if x is None or not isinstance(dim, (int, list, tuple)):
            return None
        dims = [dim] if isinstance(dim, int) else dim
        return [self.labels.merge(self.of[x], dims).reshape(use.outputs[0].shape)]

    def _together_along(self, use: Use) -> list[Tensor] | None:
        """What a softmax or the like computes from each other goes together; where all units are, it mixes them."""
        x = self._first_features(use)
        place = 2 if use.name == "normalize" else 1
        default = 1 if use.name == "normalize" else None
        dim = use.kwargs.get("dim", use.args[place] if len(use.args) > place else default)
        if x is None or not isinstance(dim, int):
            return None
        labels = self.of[x]
        others = [d for d in range(labels.ndim) if d != dim % labels.ndim]
        if varies(labels, dim) and not any(varies(labels, d) for d in others):
            return None
        return [self.labels.merge(labels, [dim])]

    def _heads(self, use: Use) -> list[Tensor] | None:
        """A head of attention is one feature: query, key, value and what comes out."""
        names = ("query", "key", "value")
        given = dict(zip(names, use.args, strict=False)) | use.kwargs
        three = [given[n] for n in names]
        alike = len({x.shape[:-2] for x in three}) == 1
        mask: Any = use.kwargs.get("attn_mask", use.args[3] if len(use.args) > 3 else None)
        if not alike or (mask is not None and self._tells_heads_apart(mask)):
            return None
        head = self.labels.merge(self._swap(three[0]), (-2, -1))
        for x in three[1:]:
            other = self.labels.merge(self._swap(x), (-2, -1))
            head = self.labels.meet(head, other)
        return [head.expand(use.outputs[0].shape)]

    def _tells_heads_apart(self, mask: Tensor) -> bool:
        """Whether a mask has units of its own, or one part for each head."""
        return any(n > 1 for n in mask.shape[:-2]) or (self._features(mask) and bool((self.of[mask] > FIXED).any()))

    def _label_elements(self, use: Use) -> None:
        """Owned tensors that take part in the computation themselves."""
        for x in self._owned(use.given):
            if x not in self.of and x.is_floating_point():
                self.of[x] = self.labels.fresh(x.numel()).reshape(x.shape)
                self.parts[x] = True
                self.elements[self.owned[id(x)]] = self.of[x]

    def _first_features(self, use: Use) -> Tensor | None:
        """The first argument, if it is features."""
        x = use.args[0] if use.args else use.kwargs.get("input")
        return x if isinstance(x, Tensor) and self._features(x) else None

    def _owned(self, given: Iterable[Tensor]) -> list[Tensor]:
        return [x for x in given if id(x) in self.owned]

    def _known(self, given: Iterable[Tensor]) -> bool:
        return any(self.of.get(x) is not None for x in given)

    def _features(self, x: Tensor) -> bool:
        return x.is_floating_point() and self.of.get(x) is not None

    def _all_units(self, x: Tensor) -> bool:
        return self._features(x) and bool((self.of[x] != NOTHING).all())

    def _swap(self, value: object) -> Any:
        """Arguments with labels in place of features."""
        if isinstance(value, Tensor):
            if self._features(value):
                return self.of[value].contiguous()  # so that each view is one
            index = not value.is_floating_point()
            return value.cpu() if index else torch.zeros_like(fixed(value))
        if isinstance(value, (list, tuple)):
            return type(value)(self._swap(v) for v in value)
        if isinstance(value, dict):
            return {key: self._swap(v) for key, v in value.items()}
        return value


_Handler = Callable[[Labelling, Use], "list[Tensor] | None"]
# how the results of functions are labelled, by their names; all others fix what they take
_FOLLOWED: tuple[tuple[re.Pattern[str], _Handler], ...] = (
    (MOVES, Labelling._moved),
    (ELEMENTWISE, Labelling._elementwise),
    (ATTENTION, Labelling._heads),
    (ALONG, Labelling._together_along),
    (POOLS, Labelling._pooled),
    (REDUCTIONS, Labelling._reduced),
)


def _arguments(use: Use) -> dict[str, Any]:
    """What a layer or a product is given, by the names that layers have for it."""
    own = PRODUCT_ARGUMENTS.get(use.name, {name: name for name in ARGUMENTS})
    by_name = {own.get(name, name): value for name, value in use.kwargs.items()}
    return dict(zip(own.values(), use.args, strict=False)) | by_name


def fixed(x: Tensor) -> Tensor:
    """Labels of units that must stay."""
    return torch.full(x.shape, FIXED, dtype=torch.float64)


def _along(vector: Tensor, dim: int, ndim: int) -> Tensor:
    """A vector as a tensor of `ndim` dimensions that has it along `dim`."""
    shape = [1] * ndim
    shape[dim] = -1
    return vector.reshape(shape)
