"""Pruned weights stay at zero: gradients are masked before clipping, and no optimizer step moves a pruned weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lottery.masks import Masks

# These move a weight by its own gradient and state alone: where both are zero, and the weight is, it stays zero. So it
# is enough to mask their state once, which saves a pass over the weights in every step (2 % of a LeNet step).
_SEPARATE = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)


class Enforcement:
    """Masks at work on the parameters of a module while optimizers train it; a context manager.

    Parameters that are kept whole cost nothing.

    Args:
        masks: the masks.
        parameters: the module's parameters by name.
        optimizers: every optimizer that steps them.

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
    ) -> None:
        self._of = {name: parameters[name] for name in masks}
        self._optimizers = list(optimizers)
        self._handles: list[Any] = []
        self._hold(masks)

    def __enter__(self) -> Enforcement:  # noqa: PYI034 (typing.Self is of Python 3.11)
        self.mask_weights()
        for optimizer in self._optimizers if self._parameters else ():
            if type(optimizer) in _SEPARATE:
                self._mask_state(optimizer)
            else:
                self._handles.append(
                    optimizer.register_step_post_hook(lambda *_: self.mask_weights())
                )
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def replace(self, masks: Masks) -> None:
        """Enforce other masks from now on.

        Weights, gradients and optimizer state are set to zero where either masks prune: a weight that comes back starts
        from zero, and learns from the next gradient on.
        """
        self.__exit__()
        self._hold(self._masks & masks)
        self.mask_gradients()
        for optimizer in self._optimizers:
            self._mask_state(optimizer)
        self.mask_weights()
        self._hold(masks)
        self.__enter__()

    def _hold(self, masks: Masks) -> None:
        pruned = [name for name, mask in masks.items() if not mask.all()]
        self._masks = masks
        self._parameters = [self._of[name] for name in pruned]
        # of the parameters' dtype: mixed dtypes would take torch's slow path
        self._factors = [masks[name].to(self._of[name]) for name in pruned]

    def mask_weights(self) -> None:
        """Set pruned weights to zero."""
        if self._parameters:
            with torch.no_grad():
                torch._foreach_mul_(self._parameters, self._factors)

    def _mask_state(self, optimizer: Optimizer) -> None:
        for parameter, factor in zip(self._parameters, self._factors, strict=True):
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value.mul_(factor)

    def mask_gradients(self) -> None:
        """Set the gradients of pruned weights to zero; parameters without a gradient are passed over."""
        gradients, factors = [], []
        for parameter, factor in zip(self._parameters, self._factors, strict=True):
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.is_sparse:
                gradient = parameter.grad = gradient.coalesce()
                rows = gradient.indices()
                gradient.values().mul_(factor[tuple(rows)])
            else:
                gradients.append(gradient)
                factors.append(factor)
        if gradients:
            torch._foreach_mul_(gradients, factors)
