"""The units of a network: which hang together, and which are live by the weights that are not zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lottery.pruning.graph.bundles import bundle
from lottery.pruning.graph.calls import Call
from lottery.pruning.graph.labels import FIXED
from lottery.pruning.graph.tracer import UnitTracer


@dataclass(frozen=True, eq=False)
class LayerUnits:
    """A layer at work, with which of its weights are not zero.

    Attributes:
        call: its labels as the follower found them.
        made: labels of the units that it makes, shape (out,).
        takes: labels of the units that it takes, shape (1, in), or (out, in / groups) in groups; None for an embedding.
        alive: True where some weight is not zero, shape (out, in / groups).
    """

    call: Call
    made: Tensor
    takes: Tensor | None
    alive: Tensor

    @classmethod
    def of(cls, call: Call, weight: Tensor) -> LayerUnits:
        """From the call and its weight."""
        alive = (weight.detach() != 0).flatten(2).any(2) if weight.ndim > 2 else weight.detach() != 0
        takes = None
        if call.takes is not None:
            takes = call.takes.reshape(call.takes.shape[:2]).long()
            takes = takes.mT if call.column else takes
        return cls(call, call.made.flatten().long(), takes, alive.mT if call.column else alive)

    @property
    def name(self) -> str:
        """The path of the module, or the name of a weight that the whole network owns."""
        return layer_of(self.call.weight)


class Units:
    """The units of a network, in bundles that go or stay together.

    A unit is live when it is driven and read. The network's inputs and what functions that are not followed give are
    driven, and so is what a weight that is not zero takes from a driven unit; a bias alone drives nothing. What the
    network gives back and what goes into functions that are not followed is read, and so is what a weight that is not
    zero carries to a unit that is read. What goes together is as `lottery.pruning.graph.bundles` has it.

    Args:
        follower: after its runs, `exact`: in eval mode, and then in training.
        owned: the module's tensors by name, in double precision.
        evaluated: how many of the calls that it saw were in eval mode; default: all.
        awaited: as of `keep_for_uncalled`.

    Attributes:
        layers: in the order of the forward pass; one that is used twice is there twice.
        reading: those in eval mode, and those that only training uses: in which constants are looked at.
        along: name of a tensor and dimension to the labels of the units that it has along it.
        bundle: by label, the number of the bundle.
        driven, read, live: by label.
        sized: place of a function whose results depend on how many positions there are, to the labels that went into it
            with values that are not zero, and those that take from them, by label.
    """

    def __init__(
        self,
        follower: UnitTracer,
        owned: Mapping[str, Tensor],
        evaluated: int | None = None,
        awaited: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.awaited = awaited or {}
        self.follower = follower
        self.owned = owned
        self.layers = [LayerUnits.of(c, owned[c.weight]) for c in follower.calls]
        ours = {layer.call.weight for layer in self.layers[:evaluated]}
        number = len(self.layers) if evaluated is None else evaluated
        self.reading = [x for n, x in enumerate(self.layers) if n < number or x.call.weight not in ours]
        self.along = bundle(follower)
        self.bundle = follower.labels.components(tied=True)
        node = follower.labels.components()
        self.driven, self.read = self._liveness(node)
        self.live = self.driven & self.read
        self.sized = {place: self._reached(node, labels) for place, labels in follower.sized.items()}

    @property
    def uncalled(self) -> list[str]:
        """Layers of which no function took a parameter."""
        called = {layer_of(name) for name in self.follower.used}
        parameters = (name for name, tensor in self.owned.items() if isinstance(tensor, nn.Parameter))
        return [name for name in dict.fromkeys(map(layer_of, parameters)) if name not in called]

    def _liveness(self, node: Tensor) -> tuple[Tensor, Tensor]:
        """Which labels are driven and which are read, by the weights that are not zero."""
        driven = torch.zeros(len(node), dtype=torch.bool)
        driven[node[FIXED]] = True
        read = driven.clone()
        for fixed, _ in self.follower.labels.fixed:
            read[node[fixed]] = True

        def drive() -> None:
            for layer in self.layers:
                taken = layer.alive
                if layer.takes is not None:
                    taken = taken & driven[node[layer.takes]]
                driven[node[layer.made[taken.any(1)]]] = True

        def trace() -> None:
            for layer in reversed(self.layers):
                if layer.takes is not None:
                    carries = layer.alive & read[node[layer.made]][:, None]
                    if layer.call.groups == 1:
                        carries = carries.any(0, keepdim=True)
                    read[node[layer.takes[carries]]] = True

        until_stable(drive, driven)
        until_stable(trace, read)
        return driven[node], read[node]

    def _reached(self, node: Tensor, labels: Tensor) -> Tensor:
        """Which labels these are, or take from them by weights that are not zero, over any number of layers."""
        reached = torch.zeros(len(node), dtype=torch.bool)
        reached[node[labels]] = True

        def carry() -> None:
            for layer in self.layers:
                if layer.takes is not None:
                    taken = layer.alive & reached[node[layer.takes]]
                    reached[node[layer.made[taken.any(1)]]] = True

        until_stable(carry, reached)
        return reached[node]


def layer_of(name: str) -> str:
    """The path of the module that owns a tensor; the name itself where that is the whole network."""
    return name.rpartition(".")[0] or name


def until_stable(step: Callable[[], None], flags: Tensor) -> None:
    """Repeat until no more flags are set."""
    before = -1
    while before != int(flags.sum()):
        before = int(flags.sum())
        step()
