"""The labels of features and of a module's own tensors: each element carries the label of its unit."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from lottery.foundations.tensors_in import tensors_in
from lottery.pruning.graph.calls import Call, Use
from lottery.pruning.graph.functions import CHOICES, FACTORS, IN_PLACE, PICKS
from lottery.pruning.graph.labels import FIXED, NOTHING, Labels, bare


class Labelling:
    """What is known of a forward pass so far.

    Args:
        owned: tensors of a module, by name, whose units are followed where they are a layer's weight.
        exact: as of `UnitTracer`.
        name: what the module is called.

    Attributes:
        labels: the labels, and what hangs together.
        calls: the layers, in the order of the forward pass.
        elements: name of an owned tensor that is no layer's weight to the labels of its elements.
        meets: pairs of a label of such an element and one of a feature that it is combined with, as numbers.
        sized: function whose results depend on how many positions there are, or on other inputs, with the module that
            called it, to the labels of what went in that was not zero; `exact` only.
        unfollowed: name of an owned tensor to the function in which it was lost sight of.
        lines: reason why units stay to the line of code that it comes from, as "net.py:12"; empty if unknown.
        path: the modules at work, from the outermost on.
        chosen: what is computed from elements alone, at places that an input chooses: other inputs choose others.
        unseen: whether a layer was given no element at all, as an expert that no sample goes to.
    """

    recurrent = True  # whether recurrent layers are followed

    def __init__(self, owned: Mapping[str, Tensor], exact: bool, name: str) -> None:
        self.owned = {id(t): name for name, t in owned.items()}
        self.exact = exact
        self.labels = Labels()
        self.calls: list[Call] = []
        self.elements: dict[str, Tensor] = {}
        self.meets: list[Tensor] = []
        self.sized: dict[str, Tensor] = {}
        self.unfollowed: dict[str, str] = {}
        self.lines: dict[str, str] = {}
        self.of = WeakTensorKeyDictionary()  # features to labels; None: a constant
        self.parts = WeakTensorKeyDictionary()  # what is computed from elements alone, to the names of their tensors
        self.chosen = WeakTensorKeyDictionary()
        self.turned = WeakTensorKeyDictionary()  # transposes of owned matrices to these
        self.like = WeakTensorKeyDictionary()  # constants to the labels of the features that they have the shape of
        self.path = [name]
        self.unseen = False

    def because(self, reason: str) -> str:
        """The reason, once the line of code that it comes from is noted."""
        if reason not in self.lines:
            self.lines[reason] = _line()
        return reason

    def features(self, x: object) -> bool:
        """Whether these are features, or elements of owned tensors, with labels."""
        return isinstance(x, Tensor) and x.is_floating_point() and self.of.get(x) is not None

    def first_features(self, use: Use) -> Tensor | None:
        """The first argument, if it is features."""
        x = use.args[0] if use.args else use.kwargs.get("input")
        return x if isinstance(x, Tensor) and self.features(x) else None

    def own(self, given: Iterable[Tensor]) -> list[Tensor]:
        """Those that the module owns, and transposes of these."""
        return [x for x in given if id(x) in self.owned or x in self.turned]

    def name_of(self, x: Tensor) -> str:
        """The name of an owned tensor, or of that which it is the transpose of."""
        return self.owned[id(self.turned.get(x, x))]

    def known(self, given: Iterable[Tensor]) -> bool:
        """Whether any is no constant."""
        return any(self.of.get(x) is not None for x in given)

    def is_outside(self, x: Tensor) -> bool:
        """Whether no element is of a unit."""
        return bool((bare(self.of[x]) <= FIXED).all())

    def writes_into_constants(self, use: Use) -> bool:
        """Whether a function writes into a view of what others may read, and that is not all units."""
        x = use.outputs[0]
        within = bool(IN_PLACE.fullmatch(use.name)) and x._is_view()
        return within and not (self.features(x) and bool((bare(self.of[x]) != NOTHING).all()))

    def label_elements(self, use: Use) -> None:
        """Owned tensors that take part in the computation themselves."""
        for x in self.own(use.given):
            base = self.turned.get(x, x)
            for tensor in {id(base): base, id(x): x}.values():
                if self.of.get(tensor) is None and tensor.is_floating_point():
                    fresh = self.labels.fresh(x.numel()).reshape(base.shape) if tensor is base else self.of[base].mT
                    self.of[tensor] = fresh
                    self.parts[tensor] = frozenset([self.name_of(x)])
            if self.of.get(base) is not None:
                self.elements[self.name_of(x)] = self.of[base]

    def note_sized(self, use: Use, zeros: bool = False) -> None:
        """What it makes of constants, that are not zero or of all, may be another thing with other inputs."""
        if self.exact:
            self._note_labels(use, [self._with_values(x, zeros) for x in use.given if self.features(x)])

    def _note_labels(self, use: Use, found: list[Tensor]) -> None:
        place = f"{use.name} in {self.path[-1]}"
        self.sized[place] = torch.cat([self.sized.get(place, torch.zeros(0)), *found]).unique().long()

    def note_chosen(self, use: Use) -> None:
        """What is not the same everywhere is no constant at places that an input chooses, nor is what meets it."""
        if not self.exact:
            return
        features = [x for x in use.given if self.features(x)]
        if any(x in self.chosen for x in features):
            if all(x in self.parts for x in features):
                self.chosen.update(dict.fromkeys(use.outputs, True))
            else:
                self.note_sized(use, zeros=not FACTORS.fullmatch(use.name) or bool(CHOICES.fullmatch(use.name)))
        elif PICKS.fullmatch(use.name) and self.known(x for x in use.given if not x.is_floating_point()):
            if features and all(x in self.parts for x in features):
                self.chosen.update(dict.fromkeys(use.outputs, True))
            self._note_labels(
                use, [bare(self.of[x]).flatten() if x in self.parts else _uneven(x, self.of[x]) for x in features]
            )

    def _with_values(self, x: Tensor, zeros: bool) -> Tensor:
        """The labels of what is not zero, or of all."""
        labels = bare(self.of[x])
        if zeros:
            return labels.flatten()
        same = [d for d, n in enumerate(labels.shape) if n < x.shape[d]]
        return labels[(x != 0).amax(same, keepdim=True) if same else x != 0]

    def swap(self, value: object) -> Any:
        """Arguments with labels in place of features."""
        if isinstance(value, Tensor):
            if self.features(value):
                return self.of[value].contiguous()  # so that each view is one
            index = not value.is_floating_point()
            return value.cpu() if index else torch.zeros_like(fixed(value))
        if isinstance(value, (list, tuple)):
            return type(value)(self.swap(v) for v in value)
        if isinstance(value, dict):
            return {key: self.swap(v) for key, v in value.items()}
        return value

    def taken(self, x: Tensor) -> Tensor:
        """The labels of what a layer takes; a constant may have the shape of features, as a first state."""
        labels: Tensor | None = None if self.features(x) else self.like.get(x)
        return self.swap(x) if labels is None else labels

    def start(self, given: object) -> None:
        """What comes from outside."""
        for x in tensors_in(given):
            self.of[x] = fixed(x)


def _line() -> str:
    """Where the code of a network has called a function of torch."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_name != "run":  # of the tracer
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in ("torch", "lottery", "contextlib"):
            return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _uneven(x: Tensor, labels: Tensor) -> Tensor:
    """The labels that stand for different values."""
    found, places = labels.unique(return_inverse=True)
    values = x.detach().to("cpu", torch.float64).flatten()
    low, high = (
        values.new_zeros(len(found)).scatter_reduce(0, places.flatten(), values, how, include_self=False)
        for how in ("amin", "amax")
    )
    return found[low != high]


def fixed(x: Tensor) -> Tensor:
    """Labels of units that must stay."""
    return torch.tensor(FIXED, dtype=torch.float64).expand(x.shape)


def nothing(x: Tensor) -> Tensor:
    """Labels of no unit."""
    return torch.zeros((), dtype=torch.float64).expand(x.shape)


def along(vector: Tensor, dim: int, ndim: int) -> Tensor:
    """A vector as a tensor of `ndim` dimensions that has it along `dim`."""
    shape = [1] * ndim
    shape[dim] = -1
    return vector.reshape(shape)
