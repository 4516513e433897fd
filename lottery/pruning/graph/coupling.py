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
from lottery.pruning.graph.labels import Labels
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
    for name, own in axes.items():
        made = own[0].flatten().long()
        if (found[made] == found[made[0]]).all():
            tracer.labels.fix(
                made, f"all units of {name.rpartition('.')[0] or name} hang together, and none goes alone"
            )
    whys, of_label, of_group = _reasons(tracer.labels, found)
    kept = {}
    for name, own in axes.items():
        made = own[0].flatten().long()
        why = torch.where(of_label[made] >= 0, of_label[made], of_group[found[made]])
        kept[name] = dict(Counter(whys[i] for i in why.tolist() if i >= 0))
    for name in set(names) & tracer.unfollowed.keys() - kept.keys():
        kept[name] = {f"{tracer.unfollowed[name]} is not followed": len(owned[name])}
    kept |= {name: {_COMPUTED: len(owned[name])} for name in set(names) - axes.keys() if _computes(name)}
    found[of_group[found] >= 0] = -1
    labels = {name: tuple(found[t.long()] for t in axes[name]) for name in names if name in axes}
    if not any((t >= 0).any() for own in labels.values() for t in own):
        raise ValueError(_nothing_goes(module, kept, tracer.lines))
    return Coupling(labels, kept)


_COMPUTED = "their weights are computed from it, as by weight norm"


def _computes(name: str) -> bool:
    """Whether a layer's weight is computed from this parameter."""
    return ".parametrizations." in f".{name}" or name.endswith(("weight_v", "weight_orig"))


def _reasons(labels: Labels, found: Tensor) -> tuple[list[str], Tensor, Tensor]:
    """Why units stay, in words, and by label and by group which of these it is; -1 where none does."""
    whys = ["they are one with what comes from outside"]
    of_label, of_group = torch.full((2, len(found)), -1)
    for fixed, reason in labels.fixed:
        mine = fixed[of_label[fixed] < 0]
        of_label[mine] = len(whys)
        groups = found[fixed]
        of_group[groups] = torch.where(of_group[groups] < 0, len(whys), of_group[groups])
        whys.append(reason)
    of_label[:2], of_group[found[:2]] = -1, 0
    return whys, of_label, of_group


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


def _nothing_goes(module: nn.Module, stays: Mapping[str, Mapping[str, int]], lines: Mapping[str, str]) -> str:
    words = dict.fromkeys(why for own in stays.values() for why in own if why != GIVEN_BACK)

    def with_line(why: str) -> str:
        return f"{why} ({line})" if (line := lines.get(why)) else why

    norms = any("needs all of them" in why for why in words)
    return (
        f"no channel of {type(module).__name__} can be removed:"
        f" {'; '.join(map(with_line, words)) or 'each is an input or an output'}. Choose another structure, such as"
        " 'element'"
        + (", or structure={'name': 'channel', 'norms': 'over survivors'}: such channels go too then, as zeros" * norms)
        + "."
    )
