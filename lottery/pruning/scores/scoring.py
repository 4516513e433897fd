"""Run a score: what it needs is there, the module comes out as it went in, and the result is sound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from lottery.foundations.names import buffers_of, parameters_of
from lottery.foundations.substitution import substituted
from lottery.foundations.undisturbed import undisturbed
from lottery.masks.masks import Masks
from lottery.pruning.scores.context import NEEDS, Context
from lottery.pruning.scores.registry import Score, name_of, needs_of, resolve


def compute(score: str | Mapping[str, object] | Score, context: Context) -> dict[str, Tensor]:
    """Score the prunable weights of a module, which is afterwards as it was before.

    What is narrower than float32 is scored in float32, from the same weights.

    Args:
        score: whatever `resolve` takes.
        context: the module, its masks, and what the score needs.

    Returns:
        Parameter name to tensor of the parameter's shape, detached, on its device; high = keep. Those of pruned weights
        mean nothing.

    Raises:
        ValueError: an unknown score, one that needs what the context lacks, scores that `check_scores` refuses, or a
            module in half precision that cannot run in float32.
    """
    score = resolve(score)
    for need in needs_of(score):
        if getattr(context, need) is None:
            raise ValueError(f"the score {name_of(score)!r} needs {NEEDS[need]}: give Context({need}=...)")
    with undisturbed(context.module, context.masks), _widened(context) as wide:
        try:
            return check_scores(score(wide), context.masks, name_of(score))
        except RuntimeError as error:
            if wide is context:
                raise
            raise ValueError(
                f"the score {name_of(score)!r} is made in float32, as its products would vanish in the half precision"
                f" of {type(context.module).__name__}, and the module cannot run so: {error}"
            ) from error


@contextmanager
def _widened(context: Context) -> Iterator[Context]:
    """The context with module, batches and inputs in float32 where they are narrower; itself where none is.

    A product of gradients is soon too small for float16, and its digits too few in bfloat16. Other parameters take the
    places of the module's own, since a change of type would cut the latter from what hangs on their gradients.
    """
    owned: dict[str, Tensor] = {**parameters_of(context.module), **buffers_of(context.module)}
    narrow = {name: tensor for name, tensor in owned.items() if _is_narrow(tensor)}
    if not narrow:
        yield context
        return
    values = {
        name: nn.Parameter(t.detach().float(), t.requires_grad) if isinstance(t, nn.Parameter) else t.float()
        for name, t in narrow.items()
    }
    batches = context.batches
    with substituted(context.module, values):
        yield replace(
            context,
            batches=batches and (lambda: map(_wide, batches())),
            example_input=_wide(context.example_input),
        )


def _is_narrow(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and torch.finfo(tensor.dtype).bits < 32


def _wide(value: Any) -> Any:
    return apply_to_collection(value, Tensor, lambda t: t.float() if _is_narrow(t) else t)


def check_scores(scores: Mapping[str, Tensor], masks: Masks, name: str) -> dict[str, Tensor]:
    """Make sure that there is a finite score for each surviving weight; returns them in the masks' order, detached.

    Args:
        scores: what a score gave.
        masks: the masks it was given.
        name: the score's name, for messages.

    Raises:
        TypeError: it is not a mapping to floating tensors.
        ValueError: parameters are missing, left over or of another shape, or a surviving weight's score is NaN or
            infinite; the message names each.
    """
    if not isinstance(scores, Mapping):
        raise TypeError(
            f"the score {name!r} gave a {type(scores).__name__}; it must give a mapping from parameter name to tensor"
        )
    wrong = [f"{n}: no score" for n in masks if n not in scores]
    wrong += [f"{n}: not a prunable parameter" for n in scores if n not in masks]
    there = [n for n in masks if n in scores]
    for n in there:
        if not isinstance(scores[n], Tensor) or not scores[n].is_floating_point():
            what = getattr(scores[n], "dtype", type(scores[n]).__name__)
            raise TypeError(f"the score {name!r} gave {what} for {n}; scores are floating tensors")
    wrong += [
        f"{n}: scores of shape {tuple(scores[n].shape)}, weights of shape {tuple(masks[n].shape)}"
        for n in there
        if scores[n].shape != masks[n].shape
    ]
    if wrong:
        raise ValueError(f"the score {name!r} does not fit the masks:\n  " + "\n  ".join(wrong))
    for n, mask in masks.items():
        count = int((~torch.isfinite(scores[n]).cpu() & mask).sum())
        if count:
            raise ValueError(
                f"the score {name!r} is NaN or infinite for {count} of the {int(mask.sum())} weights of {n}. Look for"
                " NaN or very large weights there, or for batches that overflow; or exclude the layer."
            )
    return {n: scores[n].detach() for n in masks}
