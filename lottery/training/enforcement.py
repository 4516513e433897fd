"""Pruned weights stay at zero: gradients are masked as the last thing before an optimizer reads them, and no step moves
a pruned weight. What is written into weights by anything else is counted, and named.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from lottery.masks.masks import Masks
from lottery.training.copies import Copies

# These move a weight by its own gradient and state alone: where both are zero, and the weight is, it stays zero. So it
# is enough to mask their state once, which saves a pass over the weights in every step (2 % of a LeNet step).
_SEPARATE = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class RegrowthError(RuntimeError):
    """Pruned weights are not zero, so something that is no optimizer has changed them."""


class Enforcement:
    """Masks at work on the parameters of a module while optimizers train it; a context manager.

    Every optimizer that steps one of the parameters is seen, also one that is made later. Parameters that are kept
    whole cost nothing.

    Args:
        masks: the masks.
        parameters: the module's parameters by name, in order.
        optimizers: those that are known; their state is masked, too.
        keepers: objects that may keep copies of the weights, such as averages of them. They are masked as soon as they
            are seen to change: what stays as it is may be another network.
        going_on: whether a training goes on in which the masks have been at work: then the optimizers' state is as it
            was, also where it is not zero at pruned weights, as in optimizers that rotate it.
        unmoved: of copies, those that had not changed yet where a training goes on, by path; None for all.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.RMSprop(layer.parameters())
        >>> with Enforcement(Masks({"weight": torch.tensor([[True, False]])}), {"weight": layer.weight}, [optimizer]):
        ...     layer(torch.ones(1, 2)).sum().backward()
        ...     optimizer.step()
        >>> bool(layer.weight[0, 1] == 0)
        True
    """

    def __init__(
        self,
        masks: Masks,
        parameters: Mapping[str, Tensor],
        optimizers: Iterable[Optimizer],
        keepers: Iterable[object] = (),
        going_on: bool = False,
        unmoved: Collection[str] | None = None,
    ) -> None:
        self._of = {name: parameters[name] for name in masks}
        self._optimizers = list(optimizers)
        self._keepers = list(keepers)
        self._going_on = going_on
        self._may_move = unmoved
        self._copies = Copies(parameters)
        self._unmoved: dict[str, int] = {}
        self._masked: dict[int, object] = {}  # optimizers whose state was, by id
        self._moving: set[int] = set()  # optimizers that may move zeros, as of their last step
        self._undo = ExitStack()
        self._hold(masks)

    def __enter__(self) -> Enforcement:  # noqa: PYI034 (typing.Self is of Python 3.11)
        self.begin()
        if not self._parameters:
            return self
        before = register_optimizer_step_pre_hook(self._before_step)
        self._undo.callback(before.remove)
        after = register_optimizer_step_post_hook(self._after_step)
        self._undo.callback(after.remove)
        for optimizer in self._optimizers:
            step = getattr(type(optimizer), "step", None)
            if not getattr(step, "hooked", False):
                self._undo.callback(self._hook(optimizer))
        return self

    def begin(self) -> None:
        """Mask the weights, the optimizers' state and averages of the weights, as they are where training begins."""
        self.mask_weights()
        self._mask_states()
        self._note_copies()

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def replace(self, masks: Masks) -> None:
        """Enforce other masks from now on.

        Weights, gradients and optimizer state are set to zero where either masks prune: a weight that comes back starts
        from zero, and learns from the next gradient on.
        """
        self.__exit__()
        self._hold(self._masks & masks)
        self._going_on = False
        self.mask_gradients()
        self._mask_states()
        self.mask_weights()
        self._hold(masks)
        self.__enter__()

    def _hold(self, masks: Masks) -> None:
        pruned = [name for name, mask in masks.items() if not mask.all()]
        self._masks = masks
        self._parameters = {name: self._of[name] for name in pruned}
        self._ids = {id(parameter) for parameter in self._parameters.values()}
        self._kept = [_words(masks[n], p) for n, p in self._parameters.items()]

    # weights and gradients

    def mask_weights(self) -> None:
        """Set pruned weights to zero."""
        with torch.no_grad():
            for parameter, kept in zip(self._parameters.values(), self._kept, strict=True):
                _mask(parameter.detach(), kept)

    def mask_gradients(self) -> None:
        """Set the gradients of pruned weights to zero; parameters without a gradient are passed over."""
        with torch.no_grad():
            for parameter, kept in zip(self._parameters.values(), self._kept, strict=True):
                gradient = parameter.grad
                if gradient is None:
                    continue
                if gradient.is_sparse:
                    gradient = parameter.grad = gradient.coalesce()
                    _mask(gradient.values(), kept[tuple(gradient.indices())])
                else:
                    _mask(gradient, kept)

    # optimizer steps

    def _before_step(
        self, optimizer: Optimizer, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]] | None:
        """The hook before a step: gradients that the step itself computes are masked when it has them."""
        if not self._steps(optimizer):
            return None
        if _keeps_zeros(optimizer):
            self._moving.discard(id(optimizer))
        else:
            self._moving.add(id(optimizer))
        self._mask_state(optimizer)
        if callable(closure := kwargs.get("closure")):
            return args, {**kwargs, "closure": self._closure(optimizer, closure)}
        if len(args) > 1 and callable(args[1]):
            return (args[0], self._closure(optimizer, args[1]), *args[2:]), kwargs
        self.mask_gradients()
        return None

    def _after_step(self, optimizer: Optimizer, *_: object) -> None:
        if id(optimizer) in self._moving:
            self.mask_weights()

    def _closure(self, optimizer: Optimizer, closure: Callable[..., object]) -> Callable[..., object]:
        moves = id(optimizer) in self._moving  # between evaluations, as a line search

        def masked(*args: object, **kwargs: object) -> object:
            if moves:
                self.mask_weights()
            result = closure(*args, **kwargs)
            self.mask_gradients()
            return result

        return masked

    def _steps(self, optimizer: Optimizer) -> bool:
        """Whether an optimizer has one of the parameters."""
        ids = self._ids  # in loops rather than `any`: asked in every step
        for group in getattr(optimizer, "param_groups", ()):
            for parameter in group.get("params", ()):
                if id(parameter) in ids:
                    return True
        return False

    def _hook(self, optimizer: Any) -> Callable[[], None]:
        """Do for one optimizer what torch's hooks do for those whose `step` calls them; what takes it back."""
        own, step = getattr(optimizer, "__dict__", {}).get("step"), optimizer.step
        at_work = True

        @functools.wraps(step)
        def hooked(self_: Any, *args: object, **kwargs: object) -> object:
            if not at_work:  # a scheduler has wrapped it in the meantime
                return step(*args, **kwargs)
            args = (self_, *args)
            args, kwargs = self._before_step(self_, args, kwargs) or (args, kwargs)
            result = step(*args[1:], **kwargs)
            self._after_step(self_)
            return result

        optimizer.step = bound = types.MethodType(hooked, optimizer)

        def undo() -> None:
            nonlocal at_work
            at_work = False
            if vars(optimizer).get("step") is bound:
                del optimizer.step
                if own is not None:
                    optimizer.step = own

        return undo

    # copies of the weights

    def _mask_states(self) -> None:
        self._masked.clear()
        for optimizer in self._optimizers:
            self._mask_state(optimizer)

    def _mask_state(self, optimizer: Optimizer) -> None:
        """Mask the state of an optimizer, once: it may be seen for the first time when it steps."""
        if self._going_on or id(optimizer) in self._masked:
            return
        self._masked[id(optimizer)] = optimizer
        for copy in self._copies.kept_by(optimizer) if self._parameters else ():
            self._mask_copy(copy.name, copy.values)

    def _note_copies(self) -> None:
        self._unmoved = {}
        for keeper in self._keepers if self._parameters else ():
            for copy in self._copies.kept_by(keeper):
                if copy.averaged:
                    self._mask_copy(copy.name, copy.values)
                elif copy.name in self._parameters and (self._may_move is None or copy.path in self._may_move):
                    self._unmoved[copy.path] = _fingerprint(copy.values)

    @property
    def unmoved(self) -> list[str]:
        """The copies that have not changed since the masks came to work."""
        return list(self._unmoved)

    def mask_copies(self) -> None:
        """Set pruned weights to zero in the copies that have changed since the masks came to work."""
        for keeper in self._keepers if self._unmoved else ():
            for copy in self._copies.kept_by(keeper):
                before = self._unmoved.get(copy.path)
                if before is not None and _fingerprint(copy.values) != before:
                    self._mask_copy(copy.name, copy.values)
                    del self._unmoved[copy.path]

    def alive_in_copies(self) -> list[str]:
        """The attributes that hold copies of the weights in which pruned ones are not zero, such as
        ``MyCallback.best``.
        """
        found = (
            copy.path.partition("[")[0].removesuffix(f".{copy.name}")
            for keeper in self._keepers
            for copy in self._copies.kept_by(keeper)
            if copy.name in self._parameters and regrown(self._masks, {copy.name: copy.values})
        )
        return list(dict.fromkeys(found))

    def _mask_copy(self, name: str, values: Tensor) -> None:
        if name in self._parameters:
            with torch.no_grad():
                pruned = ~self._masks[name].to(values.device)
                values.detach().masked_fill_(pruned, 0)


def regrown(masks: Masks, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Pruned weights that are not zero: parameter name to their number and that of all pruned weights of the parameter.

    What is not a number is set to zero, and not counted: it came from nothing but a training that diverged.

    Args:
        masks: the masks.
        tensors: weights by name; those without a mask, or of another shape, are passed over.

    Example:
        >>> regrown(Masks({"w": torch.tensor([True, False, False])}), {"w": torch.tensor([1.0, 0.0, 0.5])})
        {'w': (1, 2)}
    """
    found = {}
    for name, mask in masks.items():
        values = tensors.get(name)
        if values is None or values.shape != mask.shape or mask.all():
            continue
        values = values.detach()
        pruned = ~mask.to(values.device)
        alive = (values != 0) & pruned
        if bool(alive.any()):
            diverged = alive & values.isnan()
            with torch.no_grad():
                values.masked_fill_(diverged, 0)
            count = int((alive & ~diverged).sum())
            if count:
                found[name] = count, int(pruned.sum())
    return found


def _words(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as integers as wide as a weight, in the weights' order: all bits where one is kept, none where not."""
    width = like.element_size() // (2 if like.is_complex() else 1)
    kept = torch.empty_like(like, dtype=torch.bool).copy_(mask)
    return kept.to(_WORDS[width]).neg_()


def _mask(values: Tensor, kept: Tensor) -> None:
    """Set values that are not kept to zero.

    By bits: as fast as a product, and what is infinite or not a number becomes zero, too.
    """
    if values.is_complex():
        values, kept = torch.view_as_real(values), kept.unsqueeze(-1)
    values.view(kept.dtype).bitwise_and_(kept)


def _keeps_zeros(optimizer: Optimizer) -> bool:
    """Whether a pruned weight surely stays at zero in a step with masked gradients and state."""
    if type(optimizer) not in _SEPARATE or (
        optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    ):
        return False
    for group in optimizer.param_groups:  # an eps that vanishes makes 0 / 0
        eps = group.get("eps")
        if eps is None or not group["params"]:
            continue
        if not eps > torch.finfo(group["params"][0].dtype).tiny:
            return False
    return True


def _fingerprint(values: Tensor) -> int:
    values = values.detach()
    parts = torch.view_as_real(values) if values.is_complex() else values
    return int(parts.view(_WORDS[parts.element_size()]).sum())
