"""What each function of torch connects, so that a forward pass shows which value reaches which.

Inside `Connections` a value is 1 where the input reaches it and 0 elsewhere; a gradient is 1 where it reaches the
output. Functions that sum or move values do so as they are. The others have a rule here: a nonlinearity, a norm or a
softmax passes each unit on, a maximum is a sum, a product of two activations passes what either carries, a bias begins
no path. What has no rule is refused, so that no answer is wrong without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lottery.foundations.tensors_in import tensors_in

Function: TypeAlias = Callable[..., Any]  # of torch


class Flow(Tensor):
    """A tensor that comes from the input. Tensor's own rule makes what is computed from one another."""


class Connections(TorchFunctionMode):
    """Inside this block each function of torch does what it connects, and nothing else.

    Raises:
        ValueError: a function of the input, or of a masked parameter, that has no rule.
    """

    def __torch_function__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> object:
        kwargs = kwargs or {}
        given = list(tensors_in((args, kwargs)))
        flows = any(isinstance(t, Flow) for t in given)
        if not flows and not any(t.requires_grad for t in given):
            return func(*args, **kwargs)
        with torch.enable_grad():  # a frozen part is a part of the path
            return _connected(func, args, kwargs, flows)


def _connected(func: Any, args: tuple[Any, ...], kwargs: dict[str, object], flows: bool) -> object:
    own = func.__self__.__name__ if func.__name__ == "__get__" else func.__name__
    name = own.strip("_")
    if name in _RULES and (flows or name in _OF_WEIGHTS):
        result = _RULES[name](func, *args, **kwargs)
    else:
        result = func(*args, **kwargs)
        if name not in _MOVES and not (flows and name in _SUMS):
            what = own if flows else f"{own} of what is not from the input"
            _check_without_rule(what, (args, kwargs), result)
            return result
    if not flows:
        return result
    if own.endswith("_") and not own.startswith("_"):  # in place, x += y among them
        result = args[0].copy_(_alive(result))
    return _alive(result)


def _check_without_rule(name: str, given: object, result: object) -> None:
    """Sizes and the like need no rule, and token ids may become other integers."""
    numbers = any(t.is_floating_point() for t in tensors_in(given))
    lost = (t for t in tensors_in(result) if numbers or t.is_floating_point())
    if name.startswith("__setitem__") or any(True for _ in lost):
        raise ValueError(f"{name} has no rule in lottery/connections.py")


def _alive(value: object) -> object:
    if isinstance(value, (tuple, list)):
        return tuple(_alive(part) for part in value)
    if isinstance(value, Tensor) and value.is_floating_point():
        # a copy, because what a Function gives must not be changed in place
        return _Alive.apply(value.as_subclass(Flow)).clone()
    return value


class _Alive(torch.autograd.Function):
    """1 where there is anything, forwards and backwards, so that no count of paths can overflow."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return (x > 0).double()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return (gradient > 0).double()


# the rules; each takes the function and what it was given


def _first(func: Function, x: Tensor, *args: object, **kwargs: object) -> Tensor:
    return x


def _cast(func: Function, x: Tensor, *args: object, **kwargs: object) -> Tensor:
    if x.is_floating_point():
        return x
    result = func(x, *args, **kwargs).cpu()
    if not result.is_floating_point():
        return result
    return result.double().fill_(1)


def _silent(bias: object) -> Tensor | float:
    """Zero, with the gradient of a bias."""
    return bias - bias.detach() if isinstance(bias, Tensor) else 0.0


def _pattern(factor: object) -> Any:
    """Where a factor lets anything through; what has a gradient or comes from the input is 0 or 1 already."""
    if not isinstance(factor, Tensor):
        return 1.0
    ready = factor.requires_grad or isinstance(factor, Flow)
    return factor if ready else factor.ne(0).double()


def _plus(func: Function, x: Any, y: Any, **kwargs: object) -> object:
    x, y = (t if isinstance(t, Flow) else _silent(t) for t in (x, y))
    return x + y


def _times(func: Function, x: object, y: object, **kwargs: object) -> object:
    if isinstance(x, Flow) and isinstance(y, Flow):
        return x + y
    return _pattern(x) * _pattern(y)


def _product(func: Function, *args: object, **kwargs: object) -> object:
    if sum(isinstance(t, Flow) for t in tensors_in(args)) > 1:
        raise ValueError(f"{func.__name__} of two activations, as in attention")

    def patterns(value: object) -> object:
        if isinstance(value, (tuple, list)):
            return [patterns(part) for part in value]
        return _pattern(value) if isinstance(value, Tensor) else value

    return func(*map(patterns, args), **kwargs)


def _layer(func: Function, x: object, weight: object, bias: object = None, *args: object, **kwargs: object) -> object:
    bias = None if bias is None else _silent(bias)
    return _product(func, x, weight, bias, *args, **kwargs)


def _embedding(func: Function, x: Tensor, weight: Tensor, *args: object, **kwargs: object) -> Tensor:
    return weight.sum(0).expand(*x.shape, -1)  # any token may come


def _max_pool(
    func: Function,
    x: object,
    kernel_size: object,
    stride: object = None,
    padding: object = 0,
    dilation: object = 1,
    ceil_mode: bool = False,
    **kwargs: object,
) -> Tensor:
    if set(dilation if isinstance(dilation, (tuple, list)) else [dilation]) != {1}:
        raise ValueError(f"{func.__name__} with dilation={dilation}")
    average = getattr(F, func.__name__.replace("max", "avg"))
    return average(x, kernel_size, stride, padding, ceil_mode)


def _interpolate(func: Function, x: object, *args: object, **kwargs: object) -> Tensor:
    if "bicubic" in (*args, *kwargs.values()):
        raise ValueError("interpolate with mode='bicubic', which subtracts")
    return func(x, *args, **kwargs)


def _norm(before: int, per_channel: bool) -> Callable[..., Tensor]:
    """The rule of a norm with so many arguments between its input and its weight."""

    def rule(func: Function, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        given = dict(zip(("weight", "bias"), args[before:]), **kwargs)  # fmt: skip
        weight, bias = (spread(x, given.get(part)) for part in ("weight", "bias"))
        return x * _pattern(weight) + _silent(bias)

    def spread(x: Tensor, part: object) -> object:
        if not isinstance(part, Tensor) or not per_channel:
            return part
        return part.reshape(-1, *[1] * (x.ndim - 2))

    return rule


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


def _named(rule: Callable[..., object], names: str) -> dict[str, Callable[..., object]]:
    return dict.fromkeys(_words(names), rule)


_MOVES = _words(
    """reshape view flatten unflatten ravel squeeze unsqueeze permute transpose t T mT swapaxes swapdims movedim
    moveaxis cat concat concatenate stack hstack vstack chunk split tensor_split unbind getitem select narrow
    index_select expand expand_as broadcast_to repeat repeat_interleave tile flip roll contiguous clone
    """
)
"""Functions that put values elsewhere, of activations and of weights."""

_SUMS = _words(
    """mean sum cumsum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    pixel_shuffle pixel_unshuffle channel_shuffle unfold fold zeros_like new_zeros"""
)
"""Functions that add up values, none of them with a minus, or that make zeros."""

_RULES: dict[str, Callable[..., object]] = {
    **_named(
        _first,
        """relu relu6 leaky_relu rrelu elu celu selu gelu silu mish softplus softsign softshrink hardshrink tanhshrink
        threshold tanh sigmoid hardtanh hardsigmoid hardswish logsigmoid softmax softmin log_softmax gumbel_softmax
        normalize local_response_norm dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout
        clamp clamp_min clamp_max clip abs neg square sqrt rsqrt pow exp log log1p erf sin cos sign masked_fill""",
    ),
    **_named(_cast, "to type type_as float double half bfloat16"),
    **_named(_plus, "add sub radd rsub subtract maximum minimum"),
    **_named(_times, "mul div rmul rdiv rtruediv multiply divide true_divide"),
    **_named(_product, "matmul rmatmul mm bmm mv einsum tensordot"),
    **_named(_layer, "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"),
    **_named(_max_pool, "max_pool1d max_pool2d max_pool3d"),
    **_named(_norm(2, per_channel=True), "batch_norm instance_norm"),
    **_named(_norm(1, per_channel=True), "group_norm"),
    **_named(_norm(1, per_channel=False), "layer_norm rms_norm"),
    **_named(_norm(0, per_channel=True), "prelu"),
    "weight_norm": _first,
    "interpolate": _interpolate,
    "embedding": _embedding,
    "glu": lambda func, x, dim=-1: sum(x.chunk(2, dim)),
    "amax": lambda func, x, *args, **kwargs: x.sum(*args, **kwargs),
    "pad": lambda func, x, pad, mode="constant", value=0: func(x, pad, mode),
    **_named(
        lambda func, x, size, *_: getattr(F, func.__name__.replace("max", "avg"))(x, size),
        "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d",
    ),
}

_OF_WEIGHTS = _words("weight_norm normalize mul rmul div")
"""Rules that also hold where a weight is computed from parameters alone."""
