"""Whether a zero in a parameter is a zero in the weight that its layer computes with: found by experiment.

A layer may compute its weight from a parameter: by `torch.nn.utils.parametrize`, by an older hook that runs before forward,
or in a forward of its own. Weight norm and spectral norm scale, and keep zeros. What orthogonalizes, standardises or adds
something makes a full weight of a pruned parameter, and a mask there prunes nothing.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lottery.names import owner_of, uncompiled
from lottery.scores import undisturbed
from lottery.substitution import substituted

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
        Masks there would prune nothing. Leave them out with Pruning(exclude=['parametrizations.weight.original']), or use
        layers without it.
    """
    wrong = {name: how for name in parameters if (how := _filled_by(module, name))}
    if wrong:
        raise ValueError(
            "zeros in these parameters are no zeros in the weights that their layers compute with:\n  "
            + "\n  ".join(f"{name}: {how}" for name, how in wrong.items())
            + f"\nMasks there would prune nothing. Leave them out with Pruning(exclude={list(wrong)}), or use\nlayers without"
            " it."
        )


def _filled_by(module: nn.Module, name: str) -> str | None:
    """What makes other values of the zeros of a parameter, in words; None where they stay."""
    if found := _PARAMETRIZED.fullmatch(name):
        path, weight = found["of"] or "", found["weight"]
        layer: Any = owner_of(module, f"{path}.weight" if path else "weight")
        own = name[len(path) + 1 :] if path else name
        if _fills(layer, own, lambda: [getattr(layer, weight)]):
            steps = layer.parametrizations[weight]
            by = ", ".join(type(step).__name__ for step in steps)
            return f"{type(layer).__name__} computes {weight!r} from it by {by}"
        return None
    layer, own = owner_of(module, name), name.rpartition(".")[2]
    kind, computed = type(layer), _COMPUTED.fullmatch(own)
    if computed and isinstance(vars(layer).get(computed["weight"]), Tensor):
        weight = computed["weight"]
        if _fills(layer, own, lambda: _after_hooks(layer, weight)):
            return f"{kind.__name__} computes {weight!r} from it in a hook"
        return None
    forward = inspect.getattr_static(kind, "forward")
    of_users = inspect.isfunction(forward) and not forward.__module__.startswith(
        "torch."
    )
    if of_users and _fills(layer, own, lambda: _reaching_products(layer)):
        return f"the forward of {kind.__name__} computes another weight from it"
    return None


def _fills(layer: nn.Module, own: str, used: Callable[[], list[Tensor]]) -> bool:
    """Whether half of a parameter's weights, at zero, are other values in a weight that is used."""
    parameter = dict(uncompiled(layer).named_parameters())[own]
    draws = torch.rand(parameter.shape, generator=torch.Generator().manual_seed(0))
    zeros = (draws < 0.5).to(parameter.device)
    attributes = dict(vars(layer))
    values = {own: parameter.detach().masked_fill(zeros, 0)}
    try:
        with undisturbed(layer, {}), substituted(layer, values), torch.no_grad():
            weights = [w for w in used() if w.shape == zeros.shape]
        # a row of zeros has no norm, and what comes of it is no number
        return any(bool(((w != 0) & ~w.isnan() & zeros).any()) for w in weights)
    except Exception:  # noqa: BLE001 (a layer that cannot be tried out shows nothing)
        return False
    finally:
        vars(layer).update(attributes)


def _after_hooks(layer: nn.Module, weight: str) -> list[Tensor]:
    for hook in layer._forward_pre_hooks.values():
        hook(layer, ())
    return [getattr(layer, weight)]


def _reaching_products(layer: Any) -> list[Tensor]:
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
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if _PRODUCT.fullmatch(getattr(function, "__name__", "")):
                given = (*args, *(kwargs or {}).values())
                seen.extend(t for t in given if isinstance(t, Tensor))
            return function(*args, **(kwargs or {}))

    with Watch():
        layer(x.to(layer.weight))
    return seen
