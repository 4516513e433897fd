"""Follows the units of a network through one forward pass: each element of each tensor carries the label of its unit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from lottery.foundations.tensors_in import tensors_in
from lottery.pruning.graph.functions import (
    ARGUMENTS,
    CONSTANTS,
    ELEMENTWISE,
    IN_PLACE,
    LAYERS,
    MIXING,
    MOVES,
    PER_CHANNEL,
    POOLS,
    QUERIES,
    REDUCTIONS,
    VALUES,
    is_padded,
    limits_norms,
    pads_with_constants,
)
from lottery.pruning.graph.labels import FIXED, NOTHING, Labels, ends, pairs

GIVEN_BACK = "the network gives them back"  # the reason why its outputs stay


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


class Follower(TorchFunctionMode):
    """Sees each call of a torch function and labels its results.

    Args:
        module: the module that will run.
        owned: its tensors, by name, whose units are followed where they are a layer's weight.
        exact: follow for removal that changes no output. Functions in which units mix fix them, owned tensors that take
            part element by element are followed too, heads of attention are units, and a forward that decides by values
            is refused.

    Attributes:
        labels: the labels, and what hangs together.
        calls: the layers, in the order of the forward pass.
        elements: name of an owned tensor that is no layer's weight to the labels of its elements; `exact` only.
        meets: pairs of a label of such an element and one of a feature that it is combined with, as numbers.
        unknown: functions that fixed units, with the module that called them.
        unfollowed: name of an owned tensor to the function in which it was lost sight of.
    """

    def __init__(
        self, module: nn.Module, owned: Mapping[str, Tensor], exact: bool = False
    ) -> None:
        super().__init__()
        self.owned = {id(t): name for name, t in owned.items()}
        self.exact = exact
        self.labels = Labels()
        self.calls: list[Call] = []
        self.elements: dict[str, Tensor] = {}
        self.meets: list[Tensor] = []
        self.unknown: set[str] = set()
        self.unfollowed: dict[str, str] = {}
        self.of = WeakTensorKeyDictionary()  # features to labels; None: a constant
        self.parts = WeakTensorKeyDictionary()  # what is computed from elements alone
        self.path = [type(module).__name__]

    def run(
        self,
        module: nn.Module,
        inputs: Sequence[Any],
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        """One forward pass; what it takes is fixed, and what it gives.

        Raises:
            ValueError: forward fails; the message names the module in which it does.
        """
        for x in tensors_in([inputs, named or {}]):
            self.of[x] = _fixed(x)
        with ExitStack() as stack:
            for path, part in module.named_modules():
                stack.callback(part.register_forward_pre_hook(self._enter(path)).remove)
                stack.callback(part.register_forward_hook(self._leave).remove)
            try:
                with self:
                    output = module(*inputs, **(named or {}))
            except Exception as error:  # whatever forward does
                raise ValueError(
                    f"the channels of {type(module).__name__} cannot be followed; in {self.path[-1]} forward stopped"
                    f" with: {error}"
                ) from error
        self.fix(output, GIVEN_BACK)
        return output

    def _enter(self, path: str) -> Callable[..., None]:
        """A hook for the beginning of the forward of the module at `path`."""
        return lambda *_: self.path.append(path or self.path[0])

    def _leave(self, *_: Any) -> None:
        """A hook for the end of a forward."""
        self.path.pop()

    def fix(self, features: Any, reason: str) -> None:
        """These must stay."""
        for x in tensors_in(features):
            if self.of.get(x) is not None:
                self.labels.fix(self.of[x], reason)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if name == "__get__":  # a property
            name = func.__self__.__name__
        given = list(tensors_in((args, kwargs)))
        if any(x.grad_fn is not None and x not in self.of for x in given):
            raise ValueError(
                f"{name} was given what no function of torch computed in sight, as in compiled or scripted parts"
            )
        if self.exact and VALUES.fullmatch(name) and self._known(given):
            raise ValueError(
                f"it hands values to Python ({name.strip('_')}), by which it may decide what to do with other inputs"
            )
        result = func(*args, **kwargs)
        if isinstance(result, QUERIES):
            return result
        if CONSTANTS.fullmatch(name):
            self.of[result] = None
            return result
        outputs = list(tensors_in(result))
        labels: list[Tensor] | None = None
        if layer := LAYERS.fullmatch(name):
            labels = self._layer(name, args, kwargs, outputs[0])
        elif outputs and any(self._features(x) or self._owned([x]) for x in given):
            labels = self._follow(func, name, args, kwargs, outputs[0])
        known = self._known(given) or bool(self._owned(given))
        if labels is None and known:
            self._lose(name, given)
            if IN_PLACE.fullmatch(name) or "out" in kwargs:
                self._overwritten(kwargs.get("out", args[0] if args else None))
        part = not layer and all(x in self.parts for x in given if self._features(x))
        for x in outputs:
            if labels and x.is_floating_point():
                self.of[x] = labels.pop(0).expand(x.shape)
                if part:
                    self.parts[x] = True
            else:
                self.of[x] = _fixed(x) if known else None
        return result

    def _lose(self, name: str, given: Sequence[Tensor]) -> None:
        """A function that is not followed took these."""
        place = f"{name} in {self.path[-1]}"
        self.fix(given, f"{place} is not followed")
        if any((self.of[x] > FIXED).any() for x in given if self._features(x)):
            self.unknown.add(place)
        for x in self._owned(given):
            self.unfollowed[self.owned[id(x)]] = place

    def _overwritten(self, target: Any) -> None:
        """A function that is not followed wrote into this."""
        for x in tensors_in(target):
            for written in (x, x._base):
                if written is not None:
                    if self.of.get(written) is not None:
                        self.labels.join(self.of[written], FIXED)
                    self.of[written] = _fixed(written)

    def _follow(
        self, func: Any, name: str, args: Any, kwargs: Any, output: Tensor
    ) -> list[Tensor] | None:
        """The labels of the floating results; None where they are not known."""
        moves, elementwise = MOVES.fullmatch(name), ELEMENTWISE.fullmatch(name)
        if self.exact:
            choices = [
                x for x in tensors_in((args, kwargs)) if not x.is_floating_point()
            ]
            if MIXING.fullmatch(name) or self._known(choices):
                return None
        if moves or elementwise:
            for x in self._owned(tensors_in((args, kwargs))):
                self._label_elements(x)
        if moves and not pads_with_constants(name, args, kwargs):
            return list(tensors_in(func(*self._swap(args), **self._swap(kwargs))))
        if elementwise:
            if (
                IN_PLACE.fullmatch(name)
                and output._is_view()
                and not self._all_units(output)
            ):
                return None  # it writes into constants that others may read
            return self._elementwise(name, (args, kwargs), output)
        if self.exact and name == "scaled_dot_product_attention":
            return self._heads(args, kwargs, output)
        x = args[0] if args else kwargs.get("input")
        if not isinstance(x, Tensor) or not self._features(x):
            return None
        if pool := POOLS.fullmatch(name):
            spatial = int(pool[1] or x.ndim - 2)
            return [self.labels.merge(self.of[x], range(x.ndim - spatial, x.ndim))]
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if REDUCTIONS.fullmatch(name) and isinstance(dim, (int, list, tuple)):
            dims = [dim] if isinstance(dim, int) else dim
            return [self.labels.merge(self.of[x], dims).reshape(output.shape)]
        return None

    def _layer(
        self, name: str, args: Any, kwargs: Any, output: Tensor
    ) -> list[Tensor] | None:
        given = dict(zip(ARGUMENTS, args, strict=False)) | kwargs
        x, weight = given["input"], given["weight"]
        bias = None if name == "embedding" else given.get("bias")
        owner = self.owned.get(id(weight))
        if owner is None or weight.ndim < 2:
            return None
        if self.exact and bias is not None and id(bias) not in self.owned:
            return None
        if self.exact and name == "embedding" and limits_norms(args, kwargs):
            return None  # a column's values need the others
        column = int(name == "embedding" or "transpose" in name)  # of what is made
        spatial = 0 if name == "embedding" else weight.ndim - 2
        feature = output.ndim - 1 - spatial
        units = output.shape[feature]
        if column and weight.shape[1] != units:
            return None  # a transposed convolution in groups
        fresh = self.labels.fresh(units)
        made = _along(fresh, column, weight.ndim)
        if name == "embedding":
            self.calls.append(Call(owner, None, made, column))
        else:
            others = [d for d in range(x.ndim) if d != x.ndim - 1 - spatial]
            takes = self.labels.merge(self._swap(x), others).flatten()
            groups = len(takes) // weight.shape[1 - column]
            if groups == 1:
                axis = _along(takes, 1 - column, weight.ndim)
            else:
                each = takes.reshape(groups, 1, -1).expand(-1, units // groups, -1)
                axis = each.reshape(units, -1, *[1] * spatial)
            low, high = (
                x.detach().movedim(x.ndim - 1 - spatial, 0).flatten(1).aminmax(dim=1)
                if x.ndim > 1
                else (x.detach(), x.detach())
            )
            uniform = "transpose" not in name and not is_padded(given.get("padding"))
            known = None if bias is None else self.owned.get(id(bias))
            self.calls.append(
                Call(owner, known, made, column, axis, groups, low, high, uniform)
            )
        return [_along(fresh, feature, output.ndim)]

    def _elementwise(
        self, name: str, arguments: Any, output: Tensor
    ) -> list[Tensor] | None:
        units: list[Tensor] = []
        parts: list[Tensor] = []
        for x in tensors_in(arguments):
            if self._features(x):
                labels = self.of[x]
                if PER_CHANNEL.fullmatch(name) and x.ndim == 1 < output.ndim:
                    labels = _along(labels, 1, output.ndim)
                (parts if x in self.parts else units).append(labels)
        if not units:  # elements of the module's own tensors with each other
            units = [t for t in parts if t.shape == output.shape][:1]
            parts = [t for t in parts if t is not units[0]] if units else []
        joined = torch.zeros(output.shape, dtype=torch.float64)
        for labels in units:
            self.labels.join(joined, labels)
            joined = torch.maximum(joined, labels)
        if not units or joined.shape != output.shape:
            return None
        for labels in parts:
            self.meets.append(pairs(labels, joined))
            element, feature = ends(self.meets[-1:])
            _, which, times = element.unique(return_inverse=True, return_counts=True)
            alone = times[which] == 1  # no scalar that meets many
            self.labels.tie(element[alone].double(), feature[alone].double())
        if self.exact:
            for labels in units:
                if (blank := (labels == NOTHING) & (joined != NOTHING)).any():
                    place = f"{self.path[-1]} puts zeros of a fixed size beside them"
                    self.labels.fix(joined[blank], place)
            if name == "instance_norm":
                return [self.labels.merge(joined, range(2, joined.ndim))]
        return [joined]

    def _heads(self, args: Any, kwargs: Any, output: Tensor) -> list[Tensor] | None:
        """A head of attention is one feature: query, key, value and what comes out."""
        given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
        three = [given[n] for n in ("query", "key", "value")]
        if (
            len({x.shape[:-2] for x in three}) > 1
            or kwargs.get("attn_mask") is not None
        ):
            return None
        head = self.labels.merge(self._swap(three[0]), (-2, -1))
        for x in three[1:]:
            other = self.labels.merge(self._swap(x), (-2, -1))
            self.labels.join(head, other)
            head = torch.maximum(head, other)
        return [head.expand(output.shape)]

    def _label_elements(self, x: Tensor) -> None:
        """An owned tensor that takes part in the computation itself."""
        if x not in self.of and x.is_floating_point():
            self.of[x] = self.labels.fresh(x.numel()).reshape(x.shape)
            self.parts[x] = True
            self.elements[self.owned[id(x)]] = self.of[x]

    def _owned(self, given: Iterable[Tensor]) -> list[Tensor]:
        return [x for x in given if self.exact and id(x) in self.owned]

    def _known(self, given: Iterable[Tensor]) -> bool:
        return any(self.of.get(x) is not None for x in given)

    def _features(self, x: Tensor) -> bool:
        return x.is_floating_point() and self.of.get(x) is not None

    def _all_units(self, x: Tensor) -> bool:
        return self._features(x) and bool((self.of[x] != NOTHING).all())

    def _swap(self, value: Any) -> Any:
        """Arguments with labels in place of features."""
        if isinstance(value, Tensor):
            if self._features(value):
                return self.of[value].contiguous()  # so that each view is one
            index = not value.is_floating_point()
            return value.cpu() if index else torch.zeros_like(_fixed(value))
        if isinstance(value, (list, tuple)):
            return type(value)(self._swap(v) for v in value)
        if isinstance(value, dict):
            return {key: self._swap(v) for key, v in value.items()}
        return value


def _fixed(x: Tensor) -> Tensor:
    return torch.full(x.shape, FIXED, dtype=torch.float64)


def _along(vector: Tensor, dim: int, ndim: int) -> Tensor:
    """A vector as a tensor of `ndim` dimensions that has it along `dim`."""
    shape = [1] * ndim
    shape[dim] = -1
    return vector.reshape(shape)
