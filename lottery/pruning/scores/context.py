"""What a score may look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lottery.foundations.names import parameters_of, renamed
from lottery.foundations.tensors_in import with_tensors
from lottery.masks.masks import Masks

# the optional fields that a score may be unable to do without
NEEDS = {
    "batches": "data, from a function that returns batches",
    "example_input": "the shape of an input, from a tensor that `forward` takes",
    "initial": "the weights before training, a state dict",
    "accumulated": "what its accumulator gathered during training",
    "generator": "a torch.Generator of the run's own",
}


def supervised_logits(module: nn.Module, batch: object) -> tuple[Tensor, Tensor]:
    """Logits and targets of an (input, target) batch.

    Raises:
        ValueError: the batch is not a pair.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ValueError(
            f"a batch is a {type(batch).__name__}, not a pair (input, target). Give Context(loss=...), a"
            " function of (module, batch)."
        )
    x, y = batch
    return module(x), y


def cross_entropy(module: nn.Module, batch: object) -> Tensor:
    """Cross entropy of an (input, target) batch, mean over the batch."""
    return F.cross_entropy(*supervised_logits(module, batch))


def fresh(batch: Any) -> Any:
    """A copy of a batch, for a pass of its own: a loss may change what it is given."""
    return with_tensors(batch, torch.clone)


def _one_rank(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True, eq=False)
class Context:
    """A module with its masks, and what some scores need besides.

    Args:
        module: the module, its weights as they are to be scored, already masked.
        masks: a mask per prunable parameter; its names say what is scored.
        batches: returns fresh batches each time it is called, on the module's device.
        loss: (module, batch) to a scalar, mean over the batch.
        logits: (module, batch) to logits and class targets whose cross entropy the loss is, for scores that scale
            logits. Default: module(x) and the target, where that is so.
        example_input: what the module's `forward` takes: a tensor, a tuple, or a mapping by name; the first dimension
            is the batch.
        initial: a state dict of the weights before training.
        accumulated: what the score's own accumulator gathered during training, by parameter; see `movement`.
        generator: the run's own random generator, on the CPU.
        reduce: the sum of a tensor over all ranks.

    Raises:
        ValueError: the masks do not fit the module.
    """

    module: nn.Module
    masks: Masks
    batches: Callable[[], Iterable[Any]] | None = None
    loss: Callable[[nn.Module, Any], Tensor] = cross_entropy
    logits: Callable[[nn.Module, Any], tuple[Tensor, Tensor]] | None = None
    example_input: Any = None
    initial: Mapping[str, Tensor] | None = None
    accumulated: Mapping[str, Tensor] | None = None
    generator: torch.Generator | None = None
    reduce: Callable[[Tensor], Tensor] = _one_rank

    def __post_init__(self) -> None:
        self.masks.check(parameters_of(self.module))

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The prunable parameters, by name."""
        parameters = parameters_of(self.module)
        return {name: parameters[name] for name in self.masks}

    @property
    def weights(self) -> dict[str, Tensor]:
        """The prunable weights, detached."""
        return {name: p.detach() for name, p in self.parameters.items()}

    @property
    def initial_weights(self) -> dict[str, Tensor]:
        """The prunable weights before training, on the module's device.

        Raises:
            ValueError: one is missing or of another shape.
        """
        initial = renamed(self.initial or {})
        self.masks.check(initial, of="mask of the module, beside its initial weights,")
        return {name: initial[name].to(p) for name, p in self.weights.items()}

    def take(self, count: int) -> Iterator[Any]:
        """The first `count` batches, or all where there are fewer.

        Raises:
            ValueError: there is none, or none is asked for.
        """
        if count < 1:
            raise ValueError(f"batches={count} is too few to score with: give 1 or more")
        none = object()
        batch = none
        for batch in islice(self.batches() if self.batches else (), count):
            yield batch
        if batch is none:
            raise ValueError("there is no batch to score with: batches() of the Context gives none")
