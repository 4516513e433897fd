"""The state of an optimizer, made smaller with the parameters that it is of."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lottery.deploy.compaction.surgery import sliced
from lottery.deploy.distance import distance

Kept = Mapping[str, Sequence[Tensor]]
TOLERANCE = 1e-6  # of the longest way that a weight of a parameter goes; some compute in single precision


def smaller_state(optimizer: torch.optim.Optimizer, names: Sequence[str], kept: Kept) -> dict[str, Any]:
    """The state of an optimizer as it is for parameters that are cut; shown to make the same step.

    Args:
        optimizer: over parameters that are whole.
        names: of its parameters, in order; empty for one that is not cut.
        kept: name of a parameter to a boolean tensor for each of its dimensions, True = stays; others stay whole.

    Raises:
        ValueError: a state has not the shape of its parameter, or the step is another one.

    Example:
        >>> weight = torch.ones(3, 2).requires_grad_()
        >>> optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        >>> weight.sum().backward(); optimizer.step()
        >>> stays = [torch.tensor([True, False, True]), torch.tensor([True, True])]
        >>> smaller_state(optimizer, ["weight"], {"weight": stays})["state"][0]["momentum_buffer"].shape
        torch.Size([2, 2])
    """
    state = copy.deepcopy(optimizer.state_dict())
    if not kept:
        return state
    kind = type(optimizer).__name__
    for number, (name, parameter) in enumerate(zip(names, _parameters(optimizer), strict=True)):
        for key, value in state["state"].get(number, {}).items():
            if not _has_shape(value):
                continue
            if not _fits(value, parameter):
                raise ValueError(
                    f"the state {key!r} of {name} in {kind} has not the shape of its parameter, so it cannot be made"
                    " smaller with it. Start the optimizer afresh."
                )
            state["state"][number][key] = sliced(value, kept.get(name, ()))
    _check_step(optimizer, state, names, kept)
    return state


def _check_step(optimizer: torch.optim.Optimizer, state: dict[str, Any], names: Sequence[str], kept: Kept) -> None:
    """Make sure that whole and cut parameters go the same way in one step, with gradients at random.

    Those of what goes are zero, as in a masked network.
    """
    kind, cuts = type(optimizer).__name__, [kept.get(name, ()) for name in names]
    values = [p.detach().double() for p in _parameters(optimizer)]
    draws = torch.Generator().manual_seed(0)
    gradients = [
        torch.randn(x.shape, generator=draws, dtype=x.dtype).to(x.device) * _staying(x, dims)
        for x, dims in zip(values, cuts, strict=True)
    ]
    small, small_gradients = ([sliced(x, d) for x, d in zip(all_, cuts, strict=True)] for all_ in (values, gradients))
    try:
        whole = _stepped(optimizer, optimizer.state_dict(), values, gradients)
        found = _stepped(optimizer, state, small, small_gradients)
    except Exception as error:
        raise ValueError(
            f"whether {kind} makes the same step over the smaller module cannot be tried: {error}. Start the optimizer"
            " afresh."
        ) from error
    for name, before, dims, one, other in zip(names, small, cuts, whole, found, strict=True):
        apart, scale = distance(sliced(one, dims) - before, other - before)
        if not apart <= TOLERANCE * scale:
            raise ValueError(
                f"{kind} would make another step over the smaller module: weights of {name} would go"
                f" {apart / (scale or 1):.1%} of the longest way astray, as the step depends on what was removed. Start"
                " the optimizer afresh."
            )


def _stepped(
    optimizer: torch.optim.Optimizer, state: dict[str, Any], values: Sequence[Tensor], gradients: Sequence[Tensor]
) -> list[Tensor]:
    """Where one step of a copy takes parameters that have these values, gradients and state."""
    trial = copy.deepcopy(optimizer)
    trial.state.clear()
    parameters = _parameters(trial)
    for parameter, value, gradient in zip(parameters, values, gradients, strict=True):
        parameter.grad = None
        parameter.data = value.clone()
        parameter.grad = gradient.clone()
    trial.load_state_dict(copy.deepcopy(state))
    trial.step()
    return [p.detach() for p in parameters]


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _staying(tensor: Tensor, dims: Sequence[Tensor]) -> Tensor:
    """1 where an element stays, 0 where it goes."""
    stays = torch.ones_like(tensor)
    for dim, kept in enumerate(dims):
        stays *= kept.to(stays).reshape([-1 if d == dim else 1 for d in range(tensor.ndim)])
    return stays


def _has_shape(value: object) -> bool:
    """Whether a state of an optimizer is more than a number."""
    return isinstance(value, (list, tuple, dict)) or (isinstance(value, Tensor) and value.ndim > 0)


def _fits(value: object, parameter: Tensor) -> bool:
    """Whether a state has a parameter's shape, or broadcasts to it as a factor does."""
    return (
        isinstance(value, Tensor)
        and value.ndim == parameter.ndim
        and all(a in (b, 1) for a, b in zip(value.shape, parameter.shape, strict=True))
    )
