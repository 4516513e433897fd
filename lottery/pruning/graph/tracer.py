"""Follows the units of a network through one forward pass: sees each function of torch that it calls."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.overrides import TorchFunctionMode

from lottery.foundations.tensors_in import outputs_in, read, tensors_in, with_tensors
from lottery.pruning.graph.attributes import noted, noted_in
from lottery.pruning.graph.calls import Use
from lottery.pruning.graph.functions import (
    CONSTANTS,
    LAYERS,
    MIXING,
    QUERIES,
    SIZED,
    TURNS,
    VALUES,
    depends_on_size,
)
from lottery.pruning.graph.labelling import Labelling, fixed
from lottery.pruning.graph.labels import FIXED, bare, lean, varies
from lottery.pruning.graph.positions import unit_sizes
from lottery.pruning.graph.rules import follow
from lottery.pruning.graph.sizes import Size

GIVEN_BACK = "the network gives them back"  # the reason why its outputs stay


class UnitTracer(TorchFunctionMode, Labelling):
    """Sees each call of a torch function and labels its results; what it found is in the attributes of `Labelling`.

    Args:
        module: the module that will run.
        owned: its tensors, by name, whose units are followed where they are a layer's weight.
        exact: functions in which units mix, such as a layer normalisation, fix them; else they are taken to keep units
            apart.

    Attributes:
        unknown: functions that fixed units, with the module that called them.
        used: names of the owned tensors that functions took.
        widths: how many units the network gives back.
    """

    def __init__(self, module: nn.Module, owned: Mapping[str, Tensor], exact: bool = True) -> None:
        TorchFunctionMode.__init__(self)
        Labelling.__init__(self, owned, exact, type(module).__name__)
        self.unknown: set[str] = set()
        self.used: set[str] = set()
        self.widths: set[int] = set()

    def run(self, module: nn.Module, inputs: Sequence[object], named: Mapping[str, object] | None = None) -> None:
        """One forward pass; what it takes is fixed, and what it gives.

        Raises:
            ValueError: forward fails; the message names the module in which it does. Or it gives no tensor.
        """
        del self.path[1:]  # what another pass left that failed
        self.start([inputs, named or {}])
        with ExitStack() as stack:
            stack.enter_context(noted(module, self.labels.uses))
            for path, part in module.named_modules():
                stack.enter_context(_without_backward_hooks(part))
                stack.callback(part.register_forward_pre_hook(self._enter(path)).remove)
                stack.callback(part.register_forward_hook(self._leave).remove)
            try:
                with self:
                    output = read(module(*inputs, **(named or {})))
            except Exception as error:  # whatever forward does
                raise ValueError(
                    f"the channels of {type(module).__name__} cannot be followed; in {self.path[-1]} forward stopped"
                    f" with: {error}"
                ) from error
        given_back = outputs_in(output, type(module).__name__)
        known = [self.of[x] for x in given_back if self.of.get(x) is not None]
        self.widths |= {n for labels in known for d, n in enumerate(labels.shape) if varies(labels, d)}
        self.fix(given_back, GIVEN_BACK)

    def _enter(self, path: str) -> Callable[..., None]:
        """A hook for the beginning of the forward of the module at `path`."""
        return lambda *_: self.path.append(path or self.path[0])

    def _leave(self, *_: object) -> None:
        """A hook for the end of a forward."""
        self.path.pop()

    def fix(self, features: object, reason: str) -> None:
        """These must stay."""
        for x in tensors_in(features):
            if self.of.get(x) is not None:
                self.labels.fix(self.of[x], reason)

    def __torch_function__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> object:
        kwargs = kwargs or {}
        name = _name_of(func)
        given = list(tensors_in((args, kwargs)))
        self.used.update(self.owned[id(x)] for x in given if id(x) in self.owned)
        self._check(name, given)
        result = func(*args, **kwargs)
        if isinstance(result, QUERIES):
            return self._sizes_of_units(name, args, kwargs, result)
        if CONSTANTS.fullmatch(name):
            self.of[result] = self._made_of_units(name, args, kwargs, result)
            return result
        if not (SIZED.fullmatch(name) and self.features(args[0])):
            for size in noted_in((args, kwargs)):
                size.stay()
        outputs = list(tensors_in(result))
        self._label(Use(func, name, args, kwargs, given, outputs))
        return result

    def _sizes_of_units(self, name: str, args: Any, kwargs: Any, result: Any) -> Any:
        """Sizes that shrink with units are told apart from numbers that are written into the code."""
        if name not in ("shape", "size") or not self.features(args[0]):
            return result
        sizes = unit_sizes(self.of[args[0]])
        if isinstance(result, torch.Size):
            return torch.Size(sizes)
        dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        return sizes[dim]

    def _check(self, name: str, given: Sequence[Tensor]) -> None:
        """Refuse what was computed out of sight, and what is decided by values."""
        if not torch.compiler.is_compiling() and any(is_functorch_wrapped_tensor(x) for x in given):
            raise ValueError(f"{name} is called inside vmap or another function of torch.func, which hides the batch")
        if any(x.grad_fn is not None and x not in self.of for x in given):
            raise ValueError(
                f"{name} was given what no function of torch computed in sight, as in compiled or scripted parts"
            )
        if VALUES.fullmatch(name) and self.known(given):
            raise ValueError(
                f"it hands values to Python ({name.strip('_')}), by which it may decide what to do with other inputs"
            )

    def _label(self, use: Use) -> None:
        """Label the results of a function, or note that it is not followed."""
        if depends_on_size(use.name, use.args, use.kwargs):
            self.note_sized(use)
        if self._turns(use):
            return
        labels = follow(self, use)
        self.note_chosen(use)
        known = self.known(use.given) or bool(self.own(use.given))
        if labels is None and known:
            self._lose(use.name, use.given)
            if use.overwrites:
                self._overwritten(use.target)
        part = frozenset().union(*(self.parts[x] for x in use.given if x in self.parts)) if self._is_part(use) else None
        for x in use.outputs:
            if labels and x.is_floating_point():
                self.of[x] = lean(labels.pop(0).expand(x.shape))
                if part is not None:
                    self.parts[x] = part
            else:
                self.of[x] = fixed(x) if known else None

    def _turns(self, use: Use) -> bool:
        """Whether this is but the transpose of a matrix that the module owns, which another layer may take."""
        x = use.args[0] if use.args else None
        if not (TURNS.fullmatch(use.name) and isinstance(x, Tensor) and id(x) in self.owned and x.ndim == 2):
            return False
        if turned := use.outputs[0].stride() == x.stride()[::-1] and use.outputs[0].shape == x.shape[::-1]:
            self.turned[use.outputs[0]], self.of[use.outputs[0]] = x, None
        return turned

    def _made_of_units(self, name: str, args: Any, kwargs: Any, x: Tensor) -> Tensor | None:
        """Labels of constants that have the size of units; None where they are of a fixed size."""
        if name.endswith("_like"):
            like = args[0] if args else kwargs["input"]
            if self.features(like) and not self.is_outside(like):
                self.like[x] = self.of[like]
            return None
        given = args[name.startswith("new_") :]
        sizes = [n for part in given for n in (part if isinstance(part, (tuple, list)) else [part])][: x.ndim]
        dims = {d: n for d, n in enumerate(sizes) if isinstance(n, Size)}
        if len(sizes) != x.ndim or not dims or not x.is_floating_point() or not x.numel():
            for attribute in noted_in((args, kwargs)):
                attribute.stay()
            return None
        labels = self.labels.fresh(x.numel()).reshape(x.shape)
        others = [d for d in range(x.ndim) if d not in dims]
        labels = self.labels.merge(labels, others).expand(x.shape)
        for dim, size in dims.items():
            self.labels.size(size, labels, dim)
        return labels

    def _is_part(self, use: Use) -> bool:
        """Whether the results are computed from elements alone."""
        features = (x for x in use.given if self.features(x))
        return not LAYERS.fullmatch(use.name) and all(x in self.parts for x in features)

    def _lose(self, name: str, given: Sequence[Tensor]) -> None:
        """A function that is not followed took these."""
        place = f"{name} in {self.path[-1]}"
        reason = f"{place} {'needs all of them' if MIXING.fullmatch(name) else 'is not followed'}"
        self.fix(given, self.because(reason))
        if any((bare(self.of[x]) > FIXED).any() for x in given if self.features(x)):
            self.unknown.add(place)
        for x in self.own(given):
            self.unfollowed[self.name_of(x)] = place
        for x in given:
            self.unfollowed |= dict.fromkeys(self.parts.get(x, ()), place)

    def _overwritten(self, target: object) -> None:
        """A function that is not followed wrote into this."""
        for x in tensors_in(target):
            for written in (x, x._base):
                if written is not None:
                    if self.of.get(written) is not None:
                        self.labels.join(self.of[written], FIXED)
                    self.of[written] = fixed(written)


def traced(
    module: nn.Module,
    owned: Mapping[str, Tensor],
    inputs: Sequence[object],
    named: Mapping[str, object] | None = None,
    exact: bool = False,
) -> UnitTracer:
    """One sample followed through a forward pass.

    All of the example where forward takes no part of it, as of a graph, or where some layer gets nothing of the sample.

    Raises:
        ValueError: forward fails; see `UnitTracer.run`.
    """

    def first(x: Tensor) -> Tensor:
        return x[:1].clone() if x.ndim else x

    given = tuple(inputs), dict(named or {})
    tracer = UnitTracer(module, owned, exact)
    with suppress(ValueError):
        tracer.run(module, *with_tensors(given, first))
        if not tracer.unseen:
            return tracer
    tracer = UnitTracer(module, owned, exact)
    tracer.run(module, *with_tensors(given, torch.clone))
    return tracer


@contextmanager
def _without_backward_hooks(part: nn.Module) -> Iterator[None]:
    """A forward that does not ask for gradients' hooks, which hide what goes through them."""
    own = part._backward_hooks, part._backward_pre_hooks
    part._backward_hooks, part._backward_pre_hooks = OrderedDict(), OrderedDict()
    try:
        yield
    finally:
        part._backward_hooks, part._backward_pre_hooks = own


def _name_of(func: Any) -> str:
    """The name that torch gives a function; of the getter of a property, that of the property."""
    name = getattr(func, "__name__", str(func))
    return func.__self__.__name__ if name == "__get__" else name
