"""Which units of a network go together: labels that follow its features through one forward pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from lottery.structures.labels import FIXED, NOTHING, Labels

# the functions whose features are followed, by the names that torch gives them; all others fix what they take
_LAYERS = re.compile(r"linear|embedding|conv(_transpose)?[123]d")
_MOVES = re.compile(
    r"__getitem__|view|view_as|reshape|flatten|ravel|unflatten|permute|transpose|swapaxes|swapdims|movedim|t|T|mT|data"
    r"|squeeze|unsqueeze|cat|concat|concatenate|stack|hstack|chunk|split|tensor_split|unbind|narrow|select|index_select"
    r"|contiguous|clone|detach|expand|expand_as|broadcast_to|repeat|tile|repeat_interleave|roll|flip|unfold|pad"
    r"|pixel_shuffle|pixel_unshuffle|channel_shuffle"
)
_ELEMENTWISE = re.compile(
    r"_*(add|sub|rsub|mul|multiply|div|true_divide|rdiv|maximum|minimum|where|lerp|addcmul|pow|square|sqrt|rsqrt|abs|neg|exp"
    r"|log|log1p|sign|sin|cos|erf|clamp|clamp_min|clamp_max|relu|relu6|leaky_relu|prelu|rrelu|elu|selu|celu|gelu|silu|mish"
    r"|softplus|softsign|sigmoid|logsigmoid|hardsigmoid|hardswish|tanh|hardtanh|tanhshrink|threshold|dropout[123]?d?"
    r"|alpha_dropout|feature_alpha_dropout|batch_norm|layer_norm|group_norm|instance_norm|rms_norm|float|double|half"
    r"|bfloat16|to|type|type_as)_*"
)
_POOLS = re.compile(r"(?:adaptive_)?(?:max|avg|lp)_pool([123])d|interpolate|upsample")
_REDUCTIONS = re.compile(r"mean|sum|amax|amin|max|min|std|var|logsumexp")
# what tells nothing of a tensor's values: functions, and the types of results
_CONSTANTS = re.compile(
    r"(zeros|ones|empty|full|rand|randn)_like|new_(zeros|ones|empty|full)"
)
_QUERIES = (int, str, torch.Size, torch.dtype, torch.device, torch.layout)


def couple(
    module: nn.Module, names: Collection[str], example_input: Any
) -> dict[str, tuple[Tensor, ...]]:
    """Labels of the units that each parameter makes and takes; equal labels go together.

    A forward pass of one sample runs, and each feature carries a label: a layer gives its output units new ones, sums
    join labels, and what moves features moves labels. Fixed are units that the network takes or gives back, that a layer
    outside `names` makes, or that go into a function that is not known here.

    Args:
        module: the module, in eval mode and with gradients enabled.
        names: the parameters whose units may go.
        example_input: a tensor, or a tuple of them, that `forward` takes; the first dimension is the batch.

    Returns:
        Parameter name to int64 tensors that broadcast to its shape, first of the units that it makes, then of those that
        it takes; -1 for fixed ones. Parameters without units are left out.

    Raises:
        ValueError: forward fails, hides what it computes from torch, or has no unit that may go.
    """
    single = isinstance(example_input, Tensor)
    inputs = [
        x[:1] if isinstance(x, Tensor) else x
        for x in ([example_input] if single else example_input)
    ]
    follower = _Follower(module, names)
    for x in _tensors(inputs):
        follower.of[x] = torch.full(x.shape, FIXED, dtype=torch.float64)
    with ExitStack() as stack:
        for path, part in module.named_modules():
            stack.callback(part.register_forward_pre_hook(follower.enter(path)).remove)
            stack.callback(part.register_forward_hook(follower.leave).remove)
        try:
            with follower:
                output = module(*inputs)
        except Exception as error:  # whatever forward does
            raise ValueError(
                f"the channels of {type(module).__name__} cannot be followed; in {follower.path[-1]} forward stopped with:"
                f" {error}"
            ) from error
    if not any(True for _ in _tensors(output)):
        raise ValueError(
            f"{type(module).__name__}.forward gives a {type(output).__name__}, in which no tensor is found: it must give a"
            " tensor, or tensors in tuples, lists or mappings"
        )
    follower.fix(output)
    components = follower.labels.components()
    found = {
        name: tuple(components[t.long()] for t in follower.axes[name].values())
        for name in names
        if name in follower.axes
    }
    if not any((t >= 0).any() for own in found.values() for t in own):
        raise ValueError(
            f"no channel of {type(module).__name__} can be removed: each is an input or an output, belongs to a layer that"
            f" is not pruned, or goes into what is not followed: {', '.join(sorted(follower.unknown)) or 'nothing'}."
            " Choose another structure."
        )
    return found


class _Follower(TorchFunctionMode):
    """Sees each call of a torch function and labels its results.

    Args:
        module: whose parameters are looked for.
        names: the parameters whose units may go.
    """

    def __init__(self, module: nn.Module, names: Collection[str]) -> None:
        super().__init__()
        self.names = names
        self.owned = {id(p): name for name, p in module.named_parameters()}
        self.labels = Labels()
        self.of = WeakTensorKeyDictionary()  # features to labels; None: a constant
        self.axes: dict[str, dict[torch.Size, Tensor]] = {}
        self.unknown: set[str] = set()
        self.path = [type(module).__name__]

    def enter(self, path: str) -> Callable[..., None]:
        """A hook for the beginning of the forward of the module at `path`."""
        return lambda *_: self.path.append(path or self.path[0])

    def leave(self, *_: Any) -> None:
        """A hook for the end of a forward."""
        self.path.pop()

    def fix(self, features: Any) -> None:
        """These must stay."""
        for x in _tensors(features):
            if self.of.get(x) is not None:
                self.labels.join(self.of[x], FIXED)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if name == "__get__":  # a property
            name = func.__self__.__name__
        given = list(_tensors((args, kwargs)))
        if any(x.grad_fn is not None and x not in self.of for x in given):
            raise ValueError(
                f"{name} was given what no function of torch computed in sight, as in compiled or scripted parts"
            )
        result = func(*args, **kwargs)
        if isinstance(result, _QUERIES):
            return result
        if _CONSTANTS.fullmatch(name):
            self.of[result] = None
            return result
        outputs = list(_tensors(result))
        labels: list[Tensor] | None = None
        if _LAYERS.fullmatch(name):
            labels = self._layer(name, args, kwargs, outputs[0])
        elif outputs and any(self._features(x) for x in given):
            labels = self._follow(func, name, args, kwargs, outputs[0])
        known = any(self.of.get(x) is not None for x in given)
        if labels is None and known:
            self.fix(given)
            if any((self.of[x] > FIXED).any() for x in given if self._features(x)):
                self.unknown.add(f"{name} in {self.path[-1]}")
        for x in outputs:
            if labels and x.is_floating_point():
                self.of[x] = labels.pop(0).expand(x.shape)
            else:
                self.of[x] = _fixed(x) if known else None
        return result

    def _follow(
        self, func: Any, name: str, args: Any, kwargs: Any, output: Tensor
    ) -> list[Tensor] | None:
        """The labels of the floating results; None where they are not known."""
        if _MOVES.fullmatch(name) and not _pads_with_constants(name, args, kwargs):
            return list(_tensors(func(*self._swap(args), **self._swap(kwargs))))
        if _ELEMENTWISE.fullmatch(name):
            in_place = name.endswith("_") and not name.endswith("__")
            if in_place and output._is_view() and not self._all_units(output):
                return None  # it writes into constants that others may read
            return self._elementwise((args, kwargs), output)
        x = args[0] if args else kwargs.get("input")
        if not isinstance(x, Tensor) or not self._features(x):
            return None
        if pool := _POOLS.fullmatch(name):
            spatial = int(pool[1] or x.ndim - 2)
            return [self.labels.merge(self.of[x], range(x.ndim - spatial, x.ndim))]
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if _REDUCTIONS.fullmatch(name) and isinstance(dim, (int, list, tuple)):
            dims = [dim] if isinstance(dim, int) else dim
            return [self.labels.merge(self.of[x], dims).reshape(output.shape)]
        return None

    def _layer(
        self, name: str, args: Any, kwargs: Any, output: Tensor
    ) -> list[Tensor] | None:
        given = dict(zip(("input", "weight"), args, strict=False)) | kwargs
        x, weight = given["input"], given["weight"]
        parameter = self.owned.get(id(weight))
        if parameter is None or weight.ndim < 2:
            return None
        made = int(name == "embedding" or "transpose" in name)  # weight's dimension
        spatial = 0 if name == "embedding" else weight.ndim - 2
        feature = output.ndim - 1 - spatial
        units = output.shape[feature]
        if made and weight.shape[1] != units:
            return None  # a transposed convolution in groups
        fresh = _along(self.labels.fresh(units), made, weight.ndim)
        makes = self._axis(parameter, fresh)
        if parameter not in self.names:
            self.labels.join(makes, FIXED)
        if name != "embedding":
            others = [d for d in range(x.ndim) if d != x.ndim - 1 - spatial]
            takes = self.labels.merge(self._swap(x), others).flatten()
            groups = len(takes) // weight.shape[1 - made]
            if groups == 1:
                self._axis(parameter, _along(takes, 1 - made, weight.ndim))
            else:
                each = takes.reshape(groups, 1, -1).expand(-1, units // groups, -1)
                self._axis(parameter, each.reshape(units, -1, *[1] * spatial))
        return [_along(makes.flatten(), feature, output.ndim)]

    def _axis(self, parameter: str, labels: Tensor) -> Tensor:
        """Note labels of a parameter. Those of one shape are of the same weights and joined, as in a depthwise layer."""
        known = self.axes.setdefault(parameter, {}).setdefault(labels.shape, labels)
        self.labels.join(known, labels)
        return known

    def _elementwise(self, arguments: Any, output: Tensor) -> list[Tensor] | None:
        joined = torch.zeros(output.shape, dtype=torch.float64)
        for x in _tensors(arguments):
            if self._features(x):
                self.labels.join(joined, self.of[x])
                joined = torch.maximum(joined, self.of[x])
        return [joined] if joined.shape == output.shape else None

    def _features(self, x: Tensor) -> bool:
        return x.is_floating_point() and self.of.get(x) is not None

    def _all_units(self, x: Tensor) -> bool:
        return self._features(x) and bool((self.of[x] != NOTHING).all())

    def _swap(self, value: Any) -> Any:
        """Arguments with labels in place of features."""
        if isinstance(value, Tensor):
            if self._features(value):
                return self.of[value].contiguous()  # so that each view is one
            index = not value.is_floating_point()
            return value.cpu() if index else torch.zeros_like(_fixed(value))
        if isinstance(value, (list, tuple)):
            return type(value)(self._swap(v) for v in value)
        if isinstance(value, dict):
            return {key: self._swap(v) for key, v in value.items()}
        return value


def _pads_with_constants(name: str, args: Any, kwargs: Any) -> bool:
    """Whether constants are put in that would look like labels."""
    return name == "pad" and bool(kwargs.get("value", args[3] if len(args) > 3 else 0))


def _fixed(x: Tensor) -> Tensor:
    return torch.full(x.shape, FIXED, dtype=torch.float64)


def _along(vector: Tensor, dim: int, ndim: int) -> Tensor:
    """A vector as a tensor of `ndim` dimensions that has it along `dim`."""
    shape = [1] * ndim
    shape[dim] = -1
    return vector.reshape(shape)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
