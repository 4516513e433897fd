"""Layers that no followed forward calls, as a projector that only `training_step` reads, and what may go into them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from lottery.foundations.names import canonical, parameters_of
from lottery.foundations.tensors_in import tensors_in, with_tensors
from lottery.foundations.undisturbed import undisturbed
from lottery.pruning.graph.tracer import UnitTracer


def keep_for_uncalled(
    module: nn.Module, tracer: UnitTracer, inputs: Sequence[object], named: Mapping[str, object] | None = None
) -> dict[str, list[str]]:
    """Fix, in the tracer's labels, what layers that forward does not call may read: the last units of their width.

    A network that gives back features of this width is taken to be read from outside alone, as a backbone is.

    Args:
        module: that the tracer ran.
        tracer: after its runs.
        inputs: what `forward` takes, which is called in training too.
        named: the arguments that it takes by name.

    Returns:
        Such a layer, or parameter of none, to the layers that make units which stay for its sake.
    """
    found: dict[str, list[str]] = {}
    used = set(tracer.used)
    if used.issuperset(parameters_of(module)):
        return found
    used |= _used_in_training(module, tracer, (tuple(inputs), dict(named or {})))
    read = {name: labels for name, widths in _entries(module, used) for labels in _last_of(tracer, widths)}
    for name, labels in read.items():
        tracer.labels.fix(labels, f"{name} may read them, which forward does not call")
    joined = tracer.labels.components()
    for name, labels in read.items():
        makers = [c.weight for c in tracer.calls if torch.isin(joined[c.made.flatten().long()], joined[labels]).any()]
        found[name] = list(dict.fromkeys(weight.rpartition(".")[0] or weight for weight in makers))
    return found


def _last_of(tracer: UnitTracer, widths: set[int]) -> list[Tensor]:
    """The last units of one of these widths that a layer takes or makes; none where the network gives such back."""
    if not tracer.widths & widths:
        for call in reversed(tracer.calls):
            for units in (call.made, call.takes):
                if units is not None and units.numel() in widths:
                    return [units.flatten().long()]
    return []


class _Used(TorchFunctionMode):
    """Notes the names of owned tensors that functions take."""

    def __init__(self, owned: Mapping[int, str]) -> None:
        super().__init__()
        self.owned, self.used = owned, set[str]()

    def __torch_function__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> object:
        self.used.update(self.owned[id(x)] for x in tensors_in((args, kwargs)) if id(x) in self.owned)
        return func(*args, **(kwargs or {}))


def _used_in_training(
    module: nn.Module, tracer: UnitTracer, given: tuple[tuple[object, ...], dict[str, object]]
) -> set[str]:
    """What forward takes in training, as far as it runs; some norms take no single sample then."""
    seen = _Used(tracer.owned)
    for change in (torch.clone, lambda x: torch.cat([x, x]) if x.ndim else x.clone()):
        args, kwargs = with_tensors(given, change)
        with undisturbed(module, {}), suppress(Exception):  # whatever forward does
            module.train()
            with seen:
                module(*args, **kwargs)
            break
    return seen.used


def _entries(module: nn.Module, used: set[str]) -> Iterator[tuple[str, set[int]]]:
    """The first layer of each part that is not called, and the widths that its inputs may have."""
    idle = {name: p for name, p in parameters_of(module).items() if name not in used}
    for name, own in module.named_parameters(recurse=False):
        if name in idle and own.ndim > 1:
            yield name, set(own.shape)
    if idle:
        yield from _inside(module, "", used)


def _inside(module: nn.Module, path: str, used: set[str]) -> Iterator[tuple[str, set[int]]]:
    for key, part in module.named_children():
        name = canonical(f"{path}.{key}".removeprefix("."))
        names = [f"{name}.{own}" for own in parameters_of(part)]
        if not names:
            continue
        if used.intersection(names) or isinstance(part, (nn.ModuleList, nn.ModuleDict)):
            yield from _inside(part, name, used)
        else:
            first, layer = next(
                (p, m) for p, m in part.named_modules() if any(True for _ in m.parameters(recurse=False))
            )
            yield canonical(f"{name}.{first}".removesuffix(".")), _widths(layer)


def _widths(layer: nn.Module) -> set[int]:
    """What may be the number of features that a layer reads."""
    if isinstance(layer, nn.Linear):
        return {layer.in_features}
    if isinstance(layer, _ConvNd):
        return {layer.in_channels}
    if isinstance(layer, _NormBase):
        return {layer.num_features}
    return {size for p in layer.parameters(recurse=False) for size in p.shape[-2:]}
