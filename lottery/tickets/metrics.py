"""torchmetrics of a module's own sparsity, for a LightningModule to log.

They look at the module as it is: a weight counts as kept where it is not zero. Each update replaces what the one before
saw, so an average over an epoch is not taken: what is logged is the state at the last update. They have no part in the
module's `state_dict`, and under DDP, where all processes hold the same weights, all of them give the same value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lottery.foundations.names import parameters_of
from lottery.masks.masks import Masks
from lottery.masks.prunable import prunable_parameters


class _Share(Metric):
    """A share of a whole, both of them counts."""

    is_differentiable = False
    full_state_update = True  # an update replaces the state: nothing to merge
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    part: Tensor
    whole: Tensor

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        for name in ("part", "whole"):
            # equal on all processes, so the maximum is each one's own
            self.add_state(name, torch.tensor(0), dist_reduce_fx="max")

    def _set(self, part: list[Tensor], whole: list[Tensor]) -> None:
        # layers may lie on different devices
        self.part = torch.stack([n.to(self.device) for n in part]).sum()
        self.whole = torch.stack([n.to(self.device) for n in whole]).sum()

    def compute(self) -> Tensor:
        """The share as a scalar; 1 where the whole is nothing."""
        return torch.where(self.whole > 0, self.part / self.whole.clamp(min=1), 1.0)

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """A plot of one value or several, as with every torchmetric."""
        return self._plot(val, ax)


class Density(_Share):
    """Share of a module's prunable weights that are not zero: kept / prunable.

    Args:
        include: glob patterns of parameters, as in `Pruning`.
        exclude: glob patterns of parameters to leave out.
        settings: of every torchmetric.

    Raises:
        ValueError: on update, a pattern matches nothing, or nothing is prunable.

    Example:
        >>> layer = nn.Linear(4, 2)
        >>> _ = nn.init.eye_(layer.weight)
        >>> float(Density()(layer))
        0.25

    In a LightningModule::

        def __init__(self):
            ...
            self.density = Density()

        def on_train_epoch_end(self):
            self.density.update(self)
            self.log("density", self.density)
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = (), **settings: object) -> None:
        super().__init__(**settings)
        self.include, self.exclude = tuple(include), tuple(exclude)

    def update(self, module: nn.Module) -> None:
        """Look at a module's weights."""
        weights = prunable_parameters(module, self.include, self.exclude).values()
        self._set(
            [w.detach().count_nonzero() for w in weights], [torch.tensor(w.numel(), device=w.device) for w in weights]
        )


class MaskOverlap(_Share):
    """How alike the weights that a module keeps and those of a mask are.

    "jaccard": kept in both / kept in either, 1 for equal ones. "hamming": share of all weights that are kept in one
    and not in the other, 0 for equal ones.

    Args:
        masks: parameter name to boolean tensor, True = kept, such as `ticket.masks`.
        kind: "jaccard" or "hamming".
        settings: of every torchmetric.

    Raises:
        ValueError: an unknown kind; on update, masks that do not fit the module.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> layer.weight.data = torch.tensor([[1.0, 0.0]])
        >>> float(MaskOverlap({"weight": torch.tensor([[True, True]])})(layer))
        0.5
    """

    def __init__(
        self, masks: Mapping[str, Tensor], kind: Literal["jaccard", "hamming"] = "jaccard", **settings: object
    ) -> None:
        super().__init__(**settings)
        if kind not in ("jaccard", "hamming"):
            raise ValueError(f"kind={kind!r}; choose 'jaccard' or 'hamming'")
        self.kind = kind
        self.masks = Masks(masks)

    def update(self, module: nn.Module) -> None:
        """Look at a module's weights."""
        parameters = parameters_of(module)
        self.masks.check(parameters)
        part, whole = [], []
        for name, mask in self.masks.items():
            there = mask.to(parameters[name].device)
            kept = parameters[name].detach() != 0
            jaccard = self.kind == "jaccard"
            part.append((kept & there if jaccard else kept ^ there).sum())
            whole.append((kept | there if jaccard else torch.ones_like(there)).sum())
        self._set(part, whole)
