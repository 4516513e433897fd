"""Which outputs of one layer meet which inputs of the next, position by position."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from lottery.foundations.names import buffers_of, parameters_of
from lottery.foundations.tensors_in import arguments, tensors_in, with_tensors
from lottery.foundations.undisturbed import plain_attention, undisturbed
from lottery.pruning.graph.calls import Call, Use
from lottery.pruning.graph.labels import FIXED, NOTHING, Labels
from lottery.pruning.graph.tracer import UnitTracer


class Sources(Labels):
    """Labels that stay apart where features meet: what comes of it has a label of its own, which knows its sources.

    Attributes:
        of: label of a sum or the like to the labels that layers gave, and that it comes from.
    """

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[int, frozenset[int]] = {}

    def origins(self, label: int) -> frozenset[int]:
        """The labels that layers gave; none of what comes from the network's input or from constants."""
        if label in (NOTHING, FIXED):
            return frozenset()
        return self.of.get(label, frozenset([label]))

    def meet(self, one: Tensor, other: Tensor) -> Tensor:
        """A label for each pair that meets; what comes from the input adds no source."""
        one, other = torch.broadcast_tensors(one, other)
        met = torch.maximum(one, other)
        differ = (one != other) & (torch.minimum(one, other) > FIXED)
        if differ.any():
            pairs, which = torch.stack([one[differ], other[differ]]).unique(dim=1, return_inverse=True)
            met = met.masked_scatter(differ, self._combined(pairs.T)[which])
        return met

    def merge(self, labels: Tensor, dims: Iterable[int]) -> Tensor:
        """A label for what meets along dimensions, which stay with length 1."""
        dims = tuple(d % labels.ndim for d in dims)
        merged = labels.amax(dims, keepdim=True) if dims else labels
        differ = ((labels != merged) & (labels > FIXED)).any(dims, keepdim=True) if dims else labels != merged
        if differ.any():
            rest = [d for d in range(labels.ndim) if d not in dims]
            rows = labels.permute(*rest, *dims).reshape(merged.numel(), -1)
            merged = merged.masked_scatter(differ, self._combined(rows[differ.flatten()]))
        return merged

    def _combined(self, rows: Tensor) -> Tensor:
        """A label for each row of labels, shape (rows,)."""
        made = self.fresh(len(rows))
        for label, row in zip(made.long().tolist(), rows.long().tolist(), strict=True):
            self.of[label] = frozenset().union(*map(self.origins, set(row)))
        return made


@dataclass(frozen=True)
class Norm:
    """A BatchNorm right after a layer.

    Attributes:
        variance: its running variance, with ε.
        weight: its weight, if it has one.
    """

    variance: Tensor
    weight: Tensor | None


@dataclass(frozen=True, eq=False)
class Neighbours:
    """How the layers of a network follow each other.

    Attributes:
        calls: the linear layers and convolutions, in the order of the forward pass.
        labels: of their units.
        norms: name of a weight to the BatchNorm right after its layer.
    """

    calls: list[Call]
    labels: Sources
    norms: dict[str, Norm]

    def meetings(self) -> tuple[dict[tuple[str, str], Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """Which rows of which weights meet which columns of which others.

        Returns:
            Two names, of a weight and of one that takes what it makes, to the pairs of a row and a column that meet,
            each once, shape (pairs, 2). Name to which of its columns take what comes from the network's input, shape
            (in,), where columns of groups follow each other. Name to which of its rows are given back, shape (out,).
        """
        rows: dict[int, tuple[str, int]] = {}
        given: dict[str, Tensor] = {}
        for call in self.calls:
            made = call.made.flatten().long().tolist()
            rows.update({label: (call.weight, row) for row, label in enumerate(made)})
            back = torch.tensor([label in self.given_back for label in made])
            given[call.weight] = given.get(call.weight, torch.zeros_like(back)) | back
        found: dict[tuple[str, str], set[tuple[int, int]]] = {}
        outside: dict[str, Tensor] = {}
        for call in self.calls:
            columns = columns_of(call)
            first = outside.setdefault(call.weight, torch.zeros(len(columns), dtype=torch.bool))
            for column, label in enumerate(columns.long().tolist()):
                origins = self.labels.origins(label) & rows.keys()
                first[column] |= not origins and label != NOTHING
                for origin in origins:
                    name, row = rows[origin]
                    found.setdefault((name, call.weight), set()).add((row, column))
        return {names: torch.tensor(sorted(pairs)) for names, pairs in sorted(found.items())}, outside, given

    @cached_property
    def given_back(self) -> set[int]:
        """Labels of layers' units that the network gives back, as they are or after a last function."""
        return {origin for t, _ in self.labels.fixed for label in t.tolist() for origin in self.labels.origins(label)}


def neighbours(module: nn.Module, names: Collection[str], example_input: object) -> Neighbours:
    """Follow one forward pass of one sample.

    Args:
        module: the module; it comes out as it was.
        names: its prunable parameters.
        example_input: what `forward` takes: a tensor, a tuple, or a mapping by name; the first dimension is the batch.

    Raises:
        ValueError: forward fails, or a layer takes what comes from a function that is not followed, which is named.
    """
    kinds = [p.dtype for p in module.parameters() if p.is_floating_point()]
    inputs, named = arguments(
        with_tensors(example_input, lambda x: x[:1].to(kinds[0]) if kinds and x.is_floating_point() else x[:1])
    )
    with undisturbed(module, dict.fromkeys(names)), plain_attention():
        tracer = _Tracer(module)
        tracer.run(module, inputs, named)
        calls = [call for call in tracer.calls if call.takes is not None]
        return Neighbours(calls, tracer.sources, tracer.norms)


class _Tracer(UnitTracer):
    """Refuses a layer that takes what was not followed, and notes the BatchNorm after each layer."""

    recurrent = False

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module, {**parameters_of(module), **buffers_of(module)}, exact=False)
        self.labels = self.sources = Sources()
        self.norms: dict[str, Norm] = {}
        self._lost = WeakTensorKeyDictionary()  # features to the function in which they were lost sight of
        self._losing: str | None = None
        self._made = WeakTensorKeyDictionary()  # outputs of layers to the names of their weights

    def _lose(self, name: str, given: Iterable[Tensor]) -> None:
        given = list(given)
        super()._lose(name, given)
        self._losing = f"{name} in {self.path[-1]}"

    def _label(self, use: Use) -> None:
        self._losing = next((self._lost[x] for x in use.given if x in self._lost), None)
        lost, before = self._losing, len(self.calls)
        inside = lost or self.own(use.given) or any(self.features(x) and not self.is_outside(x) for x in use.given)
        written = [(x, self.of.get(x)) for x in tensors_in(use.target)] if use.overwrites and inside else []
        super()._label(use)
        self._spread(use, written)
        if lost and len(self.calls) > before:
            raise ValueError(f"{use.name} takes what comes from {lost}, which is not followed")
        for x in use.outputs if self._losing else ():
            self._lost[x] = self._losing
        if len(self.calls) > before:
            self._made[use.outputs[0]] = self.calls[-1].weight
        if use.name == "batch_norm" and use.args[0] in self._made:
            self._note(self._made[use.args[0]], use)

    def _spread(self, use: Use, written: Iterable[tuple[Tensor, Tensor | None]]) -> None:
        """What a function writes into is lost sight of where it is not followed, and else in other views of it.

        Args:
            use: the function.
            written: what it writes into, with the labels from before.
        """
        for x, before in written:
            now = self.of.get(x)
            if not self._losing and (now is before or now is not None and before is not None and now.equal(before)):
                continue
            place = self._losing or f"a view that {use.name} in {self.path[-1]} writes into"
            others = [other for other in self.of if other.layout is x.layout is torch.strided]
            for other in others if self._losing else [other for other in others if other is not x]:
                if other.untyped_storage().data_ptr() == x.untyped_storage().data_ptr():
                    self._lost[other] = place

    def _note(self, name: str, use: Use) -> None:
        eps: Any = use.kwargs.get("eps", use.args[7] if len(use.args) > 7 else 1e-5)
        given = dict(zip(("input", "running_mean", "running_var", "weight"), use.args, strict=False)) | use.kwargs
        variance, weight = given.get("running_var"), given.get("weight")
        if isinstance(variance, Tensor):
            scale = weight.detach().double() if isinstance(weight, Tensor) else None
            self.norms.setdefault(name, Norm(variance.double() + eps, scale))


def columns_of(call: Call) -> Tensor:
    """Labels of the units that a layer takes, shape (in,); those of its groups follow each other."""
    assert call.takes is not None
    takes = call.takes.flatten(2).squeeze(2) if call.takes.ndim > 2 else call.takes
    if call.groups > 1:
        return takes[:: len(takes) // call.groups].flatten()
    return takes.flatten()
