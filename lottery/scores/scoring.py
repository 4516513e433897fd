"""Run a score: what it needs is there, the module comes out as it went in, and the result is sound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lottery.masks import Masks
from lottery.names import parameters_of
from lottery.scores.context import NEEDS, Context
from lottery.scores.registry import Score, name_of, needs_of, resolve
from lottery.streams import isolated


def compute(
    score: str | Mapping[str, Any] | Score, context: Context
) -> dict[str, Tensor]:
    """Score the prunable weights of a module, which is afterwards as it was before.

    Args:
        score: whatever `resolve` takes.
        context: the module, its masks, and what the score needs.

    Returns:
        Parameter name to tensor of the parameter's shape, detached, on its device; high = keep. Those of pruned weights
        mean nothing.

    Raises:
        ValueError: an unknown score, one that needs what the context lacks, or scores that `check_scores` refuses.
    """
    score = resolve(score)
    for need in needs_of(score):
        if getattr(context, need) is None:
            raise ValueError(
                f"the score {name_of(score)!r} needs {NEEDS[need]}: give Context({need}=...)"
            )
    with undisturbed(context.module, context.masks):
        return check_scores(score(context), context.masks, name_of(score))


def check_scores(
    scores: Mapping[str, Tensor], masks: Masks, name: str
) -> dict[str, Tensor]:
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
            raise TypeError(
                f"the score {name!r} gave {what} for {n}; scores are floating tensors"
            )
    wrong += [
        f"{n}: scores of shape {tuple(scores[n].shape)}, weights of shape {tuple(masks[n].shape)}"
        for n in there
        if scores[n].shape != masks[n].shape
    ]
    if wrong:
        raise ValueError(
            f"the score {name!r} does not fit the masks:\n  " + "\n  ".join(wrong)
        )
    for n, mask in masks.items():
        count = int((~torch.isfinite(scores[n]).cpu() & mask).sum())
        if count:
            raise ValueError(
                f"the score {name!r} is NaN or infinite for {count} of the {int(mask.sum())} weights of {n}. Look for NaN"
                " or very large weights there, or for batches that overflow; or exclude the layer."
            )
    return {n: scores[n].detach() for n in masks}


@contextmanager
def undisturbed(module: nn.Module, names: Mapping[str, Any]) -> Iterator[None]:
    """Inside the block the module is in eval mode, has no gradients, and the parameters `names` require them.

    Weights, buffers and gradients are set aside and copies take their places, so that after the block, also after an
    exception, the same tensors come back, with modes, `requires_grad` and the global random streams.
    """
    modes = [(m, m.training) for m in module.modules()]
    buffers = [
        (owner, name, buffer, buffer.data)
        for owner in module.modules()
        for name, buffer in owner.named_buffers(recurse=False, remove_duplicate=False)
    ]
    parameters = [
        (name, p, p.data, p.grad, p.requires_grad)
        for name, p in parameters_of(module).items()
    ]
    with ExitStack() as stack:
        stack.enter_context(isolated())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if any(isinstance(m, nn.RNNBase) for m in module.modules()):
            # cuDNN's recurrent layers have no backward pass in eval mode
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        try:
            module.eval()
            for name, parameter, data, _, required in parameters:
                parameter.grad = None
                parameter.data = data.clone()
                parameter.requires_grad_(required or name in names)
            for *_, buffer, data in buffers:
                buffer.data = data.clone()
            yield
        finally:
            for _, parameter, data, gradient, required in parameters:
                parameter.data = data
                parameter.grad = gradient
                parameter.requires_grad_(required)
            for owner, name, buffer, data in buffers:
                buffer.data = data
                setattr(owner, name, buffer)
            for part, training in modes:
                part.training = training
