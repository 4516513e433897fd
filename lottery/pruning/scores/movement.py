"""Movement: gathered while training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from lottery.foundations.names import parameters_of
from lottery.pruning.scores.context import Context
from lottery.pruning.scores.registry import register


class MovementAccumulator:
    """The running sums −Σ_t θ_t ⊙ g_t. Call `update` after each backward pass, before the optimizer's step.

    Args:
        names: the prunable parameters.
        sums: what an earlier accumulator had gathered, to go on from there. Its tensors are copied.

    Example:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> _ = net.load_state_dict({"weight": torch.tensor([[2.0]])})
        >>> accumulator = MovementAccumulator(["weight"])
        >>> net(torch.ones(1, 1)).sum().backward()
        >>> accumulator.update(net)
        >>> accumulator.sums
        {'weight': tensor([[-2.]])}
    """

    def __init__(self, names: Iterable[str], sums: Mapping[str, Tensor] | None = None) -> None:
        self.names = list(names)
        self.sums = {name: total.clone() for name, total in (sums or {}).items()}

    @torch.no_grad()
    def update(self, module: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Add this step's −θ ⊙ g; parameters without a gradient add nothing.

        Args:
            module: the module, after its backward pass.
            optimizer: the optimizer that is about to step, where there are several: only its parameters add.
        """
        groups = [] if optimizer is None else optimizer.param_groups
        own = {id(p) for group in groups for p in group["params"]}
        parameters = parameters_of(module)
        for name in self.names:
            parameter = parameters[name]
            total = self.sums.get(name)
            if total is None:
                wide = torch.promote_types(parameter.dtype, torch.float32)  # half precision loses small terms
                total = torch.zeros_like(parameter, dtype=wide, requires_grad=False)
            total = self.sums[name] = total.to(parameter.device)
            stepped = optimizer is None or id(parameter) in own
            if stepped and parameter.grad is not None:
                gradient = parameter.grad
                dense = gradient.to_dense() if gradient.is_sparse else gradient
                total.sub_(parameter.to(total.dtype) * dense)


@register("movement", "accumulated")
def movement(context: Context) -> dict[str, Tensor]:
    """−Σ_t θ_t g_t over training: weights that moved away from zero stay (Sanh et al. 2020).

    The sums are a `MovementAccumulator`'s. The learning rate, a constant factor in the paper, is left out.

    Source: Sanh, Wolf & Rush, "Movement Pruning: Adaptive Sparsity by Fine-Tuning", NeurIPS 2020, section 3.
    """
    return dict(context.accumulated or {})
