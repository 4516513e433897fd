"""Which units of a network go together, for pruning: the labels of what each parameter makes and takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lottery.foundations.names import buffers_of, parameters_of
from lottery.foundations.tensors_in import arguments
from lottery.foundations.undisturbed import plain_attention
from lottery.pruning.graph.bundles import bundle
from lottery.pruning.graph.labels import FIXED, NOTHING
from lottery.pruning.graph.tracer import GIVEN_BACK, UnitTracer, traced
from lottery.pruning.graph.uncalled import keep_for_uncalled


@dataclass(frozen=True, eq=False)
class Coupling:
    """Units that go together.

    Attributes:
        labels: parameter name to int64 tensors that broadcast to its shape, first of the units that it makes, then of
            those that it takes; equal ones go together, -1 is for those that stay. Parameters without units are left
            out.
        stays: parameter name to how many of the units that it makes stay for which reason, in words.
    """

    labels: Mapping[str, tuple[Tensor, ...]]
    stays: Mapping[str, Mapping[str, int]]

    def plan(self) -> dict[str, str]:
        """Parameter name to how many of the units that it makes may go, and why the others stay, in words."""
        words = {}
        for name, stays in self.stays.items():
            made = self.labels[name][0] if name in self.labels else torch.zeros(0)
            free = made[made >= 0]
            together = len(free.unique())
            parts = [f"{len(free)} of {len(free) + sum(stays.values())} units"]
            parts += [f"in {together} groups"] if together < len(free) else []
            words[name] = ", ".join(parts) + "".join(f"; {n} stay: {why}" for why, n in stays.items())
        return words


def couple(module: nn.Module, names: Collection[str], example_input: object, *, exact: bool = True) -> Coupling:
    """The units that each parameter makes and takes, and which go together.

    A forward pass of one sample runs, and each feature carries a label: a layer gives its output units new ones, sums
    join labels, and what moves features moves labels. What stays is what `lottery.deploy.compact` would keep: units
    that the network takes or gives back, that a layer outside `names` makes, that the code of forward counts, that go
    into a function that mixes them or is not known here, or that may go into a layer that forward does not call.

    Args:
        module: the module, in eval mode and with gradients enabled.
        names: the parameters whose units may go.
        example_input: what `forward` takes: a tensor, a tuple, or a mapping by name; the first dimension is the batch.
        exact: as of `UnitTracer`.

    Raises:
        ValueError: forward fails, hides what it computes from torch, or has no unit that may go.
    """
    owned: dict[str, Tensor] = {**parameters_of(module), **buffers_of(module)}
    with plain_attention():
        tracer = traced(module, owned, *arguments(example_input), exact=exact)
        keep_for_uncalled(module, tracer, *arguments(example_input))
    axes = _axes(tracer, names)
    bundle(tracer)
    found = tracer.labels.components(tied=True)
    reasons = {int(b): "they are one with what comes from outside" for b in found[[NOTHING, FIXED]]}
    for fixed, reason in tracer.labels.fixed:
        for number in found[fixed].unique().tolist():
            reasons.setdefault(number, reason)
    stays = {name: Counter(map(reasons.get, found[own[0].long()].flatten().tolist())) for name, own in axes.items()}
    kept = {name: {why: n for why, n in counts.items() if why is not None} for name, counts in stays.items()}
    for name in set(names) & tracer.unfollowed.keys() - kept.keys():
        kept[name] = {f"{tracer.unfollowed[name]} is not followed": len(owned[name])}
    kept |= {name: {_COMPUTED: len(owned[name])} for name in set(names) - axes.keys() if _computes(module, name)}
    found[torch.isin(found, torch.tensor(list(reasons)))] = -1
    labels = {name: tuple(found[t.long()] for t in axes[name]) for name in names if name in axes}
    if not any((t >= 0).any() for own in labels.values() for t in own):
        raise ValueError(_nothing_goes(module, kept))
    return Coupling(labels, kept)


_COMPUTED = (
    "their weights are computed from them, as by weight norm, and compact takes the module only when these are plain"
    " (remove_parametrizations, remove_weight_norm)"
)


def _computes(module: nn.Module, name: str) -> bool:
    """Whether a layer's weight is computed from a parameter."""
    return ".parametrizations." in f".{name}" or name.endswith(("weight_v", "weight_orig"))


def _axes(tracer: UnitTracer, names: Collection[str]) -> dict[str, list[Tensor]]:
    """The labels of what each parameter makes and takes; what stays for the sake of layers outside `names` is fixed."""
    labels = tracer.labels
    axes: dict[str, dict[torch.Size, Tensor]] = {}
    for call in tracer.calls:
        if call.weight not in names:
            labels.fix(call.made, "its layer is not pruned")
            if call.takes is not None and (call.bias is None or not call.uniform):
                labels.fix(call.takes, f"{call.weight} reads them, is not pruned, and can take no constant in")
        for own in [call.made] if call.takes is None else [call.made, call.takes]:
            # labels of one shape are of the same weights and joined, as in a depthwise layer
            known = axes.setdefault(call.weight, {}).setdefault(own.shape, own)
            labels.join(known, own)
    return {name: list(own.values()) for name, own in axes.items() if name in names}


def _nothing_goes(module: nn.Module, stays: Mapping[str, Mapping[str, int]]) -> str:
    words = dict.fromkeys(why for own in stays.values() for why in own if why != GIVEN_BACK)
    norms = any("needs all of them" in why for why in words)
    return (
        f"no channel of {type(module).__name__} can be removed:"
        f" {'; '.join(words) or 'each is an input or an output'}. Choose another structure, such as 'element'"
        + (", or structure={'name': 'channel', 'norms': 'over survivors'}: such channels go too then, as zeros" * norms)
        + "."
    )
