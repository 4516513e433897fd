"""Whether a zero in a parameter is a zero in the weight that its layer computes with: found by experiment.

A layer may compute its weight from a parameter: by `torch.nn.utils.parametrize`, by an older hook that runs before
forward, or in a forward of its own. Weight norm and spectral norm scale, and keep zeros. What orthogonalizes,
standardises or adds something makes a full weight of a pruned parameter, and a mask there prunes nothing.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lottery.foundations.names import owner_of, uncompiled
from lottery.foundations.substitution import substituted
from lottery.foundations.undisturbed import undisturbed
from lottery.masks.masks import Masks

_PARAMETRIZED = re.compile(r"(?:(?P<of>.*)\.)?parametrizations\.(?P<weight>[^.]+)\.\w+")
_COMPUTED = re.compile(r"(?P<weight>.+)_(v|orig)")  # by older hooks
_PRODUCT = re.compile(r"linear|conv(_transpose)?[123]d")


def check_maskable(module: nn.Module, parameters: Mapping[str, Tensor]) -> None:
    """Make sure that what is masked is what layers compute with, as far as their weights can be seen.

    The module and the random streams are afterwards as they were.

    Args:
        module: the module.
        parameters: those to prune, by canonical name.

    Raises:
        ValueError: the zeros of a parameter would not be zeros of its layer's weight; the message names each.

    Example:
        >>> net = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4))
        >>> check_maskable(net, {"parametrizations.weight.original": net.parametrizations.weight.original})
        Traceback (most recent call last):
        ValueError: zeros in these parameters are no zeros in the weights that their layers compute with:
          parametrizations.weight.original: ParametrizedLinear computes 'weight' from it by _Orthogonal
        Masks there would prune nothing. Leave them out with Pruning(exclude=['parametrizations.weight.original']), or
        use layers without it.
    """
    wrong = {name: how for name in parameters if (how := _filled_by(module, name))}
    if wrong:
        raise ValueError(
            "zeros in these parameters are no zeros in the weights that their layers compute with:\n  "
            + "\n  ".join(f"{name}: {how}" for name, how in wrong.items())
            + f"\nMasks there would prune nothing. Leave them out with Pruning(exclude={list(wrong)}), or\nuse layers"
            " without it."
        )


def norms_of(module: nn.Module, names: Iterable[str]) -> dict[str, int | None]:
    """Parameters by whose norm their layer divides: to the dimension whose slices have a norm each, None for one of
    all.

    A slice there that has no weight left makes no zeros but NaN.

    Example:
        >>> net = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        >>> norms_of(net, ["parametrizations.weight.original1", "bias"])
        {'parametrizations.weight.original1': 0}
    """
    found: dict[str, int | None] = {}
    for name in names:
        computed = _computed(module, name)
        if computed is None or not computed.breaks(slice(None)):
            continue
        slices = range(computed.parameter.ndim)
        found[name] = next((d for d in slices if computed.breaks((slice(None),) * d + (0,))), None)
    return found


def kept_norms(scores: Mapping[str, Tensor], masks: Masks, norms: Mapping[str, int | None]) -> dict[str, Tensor]:
    """Scores by which each norm keeps its best weight: infinite ones there.

    Example:
        >>> scores = {"w": torch.tensor([[1.0, 2.0], [8.0, 9.0]])}
        >>> kept_norms(scores, Masks.ones(scores), {"w": 0})["w"].tolist()
        [[1.0, inf], [8.0, inf]]
    """
    found = dict(scores)
    for name, dim in norms.items():
        if name not in found:
            continue
        alive = masks[name].to(found[name].device)
        norms_first = _norms_first(found[name].masked_fill(~alive, -math.inf), dim)
        best = torch.zeros(norms_first.shape, dtype=torch.bool, device=alive.device)
        best.flatten(1).scatter_(1, norms_first.flatten(1).argmax(1, keepdim=True), True)
        best = best[0] if dim is None else best.movedim(0, dim)
        found[name] = found[name].masked_fill(best & alive, math.inf)
    return found


def check_norms(masks: Masks, norms: Mapping[str, int | None]) -> None:
    """Make sure that masks leave a weight to every norm.

    Raises:
        ValueError: they do not; the message names each parameter.
    """
    empty = {
        name: int((~_norms_first(masks[name], dim).flatten(1).any(1)).sum())
        for name, dim in norms.items()
        if name in masks
    }
    if any(empty.values()):
        raise ValueError(
            "layers divide by norms of weights that are all pruned, which gives NaN: "
            + ", ".join(f"{name} ({n} norms)" for name, n in empty.items() if n)
            + ". Keep more weights, leave these parameters out with Pruning(exclude=[...]), or use layers without"
            " weight norm."
        )


def _norms_first(values: Tensor, dim: int | None) -> Tensor:
    """The values with a first dimension that goes over norms."""
    return values[None] if dim is None else values.movedim(dim, 0)


@dataclass(frozen=True)
class _Computed:
    """How a layer comes from a parameter to the weights that it computes with."""

    layer: nn.Module
    own: str
    how: str
    used: Callable[[], list[Tensor]]

    @property
    def parameter(self) -> Tensor:
        return dict(uncompiled(self.layer).named_parameters())[self.own]

    def weights(self, value: Tensor) -> list[Tensor]:
        """What the layer computes with where the parameter has a value; nothing where it cannot be tried out."""
        attributes = dict(vars(self.layer))
        try:
            with undisturbed(self.layer, {}), substituted(self.layer, {self.own: value}), torch.no_grad():
                return [w for w in self.used() if w.shape == value.shape]
        except Exception:  # noqa: BLE001 (a layer that cannot be tried out shows nothing)
            return []
        finally:
            vars(self.layer).update(attributes)

    def breaks(self, where: Any) -> bool:
        """Whether zeros at an index, among ones, give weights that are no numbers."""
        value = torch.ones_like(self.parameter)
        value[where] = 0
        return any(bool(w.isnan().any()) for w in self.weights(value))


def _computed(module: nn.Module, name: str) -> _Computed | None:
    """How the layer of a parameter makes its weight of it; None where the parameter is the weight."""
    if found := _PARAMETRIZED.fullmatch(name):
        path, weight = found["of"] or "", found["weight"]
        layer: Any = owner_of(module, f"{path}.weight" if path else "weight")
        steps = ", ".join(type(s).__name__ for s in layer.parametrizations[weight])
        return _Computed(
            layer,
            name[len(path) + 1 :] if path else name,
            f"{type(layer).__name__} computes {weight!r} from it by {steps}",
            lambda: [getattr(layer, weight)],
        )
    layer, own = owner_of(module, name), name.rpartition(".")[2]
    kind, computed = type(layer), _COMPUTED.fullmatch(own)
    if computed and isinstance(vars(layer).get(computed["weight"]), Tensor):
        weight = computed["weight"]
        how = f"{kind.__name__} computes {weight!r} from it in a hook"
        return _Computed(layer, own, how, lambda: _after_hooks(layer, weight))
    forward = inspect.getattr_static(kind, "forward")
    if inspect.isfunction(forward) and not forward.__module__.startswith("torch."):
        how = f"the forward of {kind.__name__} computes another weight from it"
        return _Computed(layer, own, how, lambda: _reaching_products(layer))
    return None


def _filled_by(module: nn.Module, name: str) -> str | None:
    """What makes other values of the zeros of a parameter, in words; None where they stay."""
    computed = _computed(module, name)
    if computed is None:
        return None
    parameter = computed.parameter
    draws = torch.rand(parameter.shape, generator=torch.Generator().manual_seed(0))
    zeros = (draws < 0.5).to(parameter.device)
    weights = computed.weights(parameter.detach().masked_fill(zeros, 0))
    # a row of zeros has no norm, and what comes of it is no number
    filled = any(bool(((w != 0) & ~w.isnan() & zeros).any()) for w in weights)
    return computed.how if filled else None


def _after_hooks(layer: nn.Module, weight: str) -> list[Tensor]:
    for hook in layer._forward_pre_hooks.values():
        hook(layer, ())
    return [getattr(layer, weight)]


def _reaching_products(layer: object) -> list[Tensor]:
    """The tensors that a forward of the layer's own multiplies or convolves with."""
    if isinstance(layer, nn.Linear):
        x = torch.ones(2, layer.in_features)
    elif isinstance(layer, nn.modules.conv._ConvNd):
        reach = zip(layer.kernel_size, layer.dilation, strict=True)
        x = torch.ones(2, layer.in_channels, *(d * (k - 1) + 2 for k, d in reach))
    else:
        return []
    seen: list[Tensor] = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: object, args: Any = (), kwargs: Any = None) -> object:
            if _PRODUCT.fullmatch(getattr(function, "__name__", "")):
                given = (*args, *(kwargs or {}).values())
                seen.extend(t for t in given if isinstance(t, Tensor))
            return function(*args, **(kwargs or {}))

    with Watch():
        layer(x.to(layer.weight))
    return seen
