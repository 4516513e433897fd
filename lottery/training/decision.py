"""The decision between two rounds: what a score sees of a fit, and the masks that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lottery.foundations import streams
from lottery.foundations.names import load_weights, parameters_of, shape_buffers, weights_of
from lottery.masks.masks import Masks
from lottery.pruning import scores
from lottery.pruning.graph.paths import Connectivity, followed
from lottery.pruning.scores import Context
from lottery.pruning.scores.context import fresh

if TYPE_CHECKING:
    from lottery.pruning.pruning import Pruning
    from lottery.training.lightning import Fit


_TRIED = {"batches", "example_input"}  # what the first training step has, of all that a score may need


def check(pruning: Pruning, fit: Fit, masks: Masks, rounds: int) -> dict[str, str]:
    """Make sure, before anything is trained, that the masks of so many rounds can be made.

    Returns:
        As `Pruning.check`; empty where the first training step must show it.

    Raises:
        ValueError: as `Pruning.check`, or the score needs data and the module optimizes manually.
    """
    # training data must not be touched before the user's own first epoch
    known = fit.module.example_input_array is not None
    example = fit.scoring.example_input(seed=0) if known else None
    plan = pruning.check(masks, rounds, fit.module, example)
    if "batches" in pruning.needs:
        fit.scoring.check_loss()
    return plan


def try_out(pruning: Pruning, fit: Fit, masks: Masks, rounds: int, seed: int) -> dict[str, str]:
    """Make sure, in the first step of a training, that structure and score can do with its module and a batch.

    A score that needs what only training gives is not tried.

    Returns:
        As `Pruning.check`; empty where `check` gave it.

    Raises:
        ValueError: they cannot; the message says why.
    """
    module, needs = fit.module, set(pruning.needs)
    first, fit.scoring.first_batch = fit.scoring.first_batch, None
    if not needs & _TRIED:
        return {}
    known = module.example_input_array is not None  # and followed before
    with streams.isolated(), fit.states.undisturbed(), scores.undisturbed(module, masks):
        example = fit.scoring.example_input(seed) if "example_input" in needs else None
        try:
            plan = {} if known else pruning.check(masks, rounds, module, example)
            needed = set(scores.needs_of(scores.resolve(pruning.score)))
            if needed and needed <= _TRIED:
                context = Context(
                    module,
                    masks,
                    batches=lambda: [fresh(first)],  # which is trained on afterwards
                    loss=fit.scoring.training_loss,
                    example_input=example,
                )
                scores.compute(pruning.score, context)
            return plan
        except (TypeError, ValueError, RuntimeError) as error:
            name = scores.name_of(scores.resolve(pruning.score))
            what = f"the score {name!r} cannot be had: " if isinstance(error, RuntimeError) else ""
            raise ValueError(
                f"{what}{error}\nThis was found in the first training step; nothing was trained."
            ) from error


def next_masks(
    pruning: Pruning,
    fit: Fit,
    masks: Masks,
    number: int,
    *,
    weights: Mapping[str, Tensor],
    initial: Mapping[str, Tensor],
    accumulated: Mapping[str, Tensor] | None,
    seed: int,
) -> Masks:
    """The masks of a round. Module, data order and random streams are afterwards as they were.

    Args:
        pruning: what to prune.
        fit: the fit, whose module and training data are used.
        masks: the masks of the round before.
        number: 1, 2, ....
        weights: the state dict to score.
        initial: the state dict that the run started from.
        accumulated: what the score gathered in the round before, where it gathers anything.
        seed: of the order in which the score sees training data, and of its random draws.

    Raises:
        ValueError: scores are not finite, need what is not there, or would empty a layer.
    """
    module = fit.module
    generator = torch.Generator()
    with streams.isolated(), fit.states.undisturbed(), scores.undisturbed(module, masks):
        _load(module, weights, masks)
        example = fit.scoring.example_input(seed) if "example_input" in pruning.needs else None

        def score(current: Masks) -> dict[str, Tensor]:
            current.apply(parameters_of(module))
            context = Context(
                module,
                current,
                batches=lambda: fit.scoring.training_batches(seed),
                loss=fit.scoring.training_loss,
                example_input=example,
                initial=initial,
                accumulated=accumulated,
                generator=generator.manual_seed(seed),
            )
            with fit.scoring.some_loss():
                return scores.compute(pruning.score, context)

        return pruning.next_masks(
            score,
            masks,
            number,
            module=module,
            example_input=example,
            follow=lambda current: followed(module, current, lambda: fit.scoring.example_input(seed)),
        )


def _load(module: nn.Module, weights: Mapping[str, Tensor], masks: Masks) -> None:
    """Load the weights to score; what training has added to the module, or taken from it, has no part in that."""
    if gone := [name for name in masks if name not in weights]:
        raise ValueError(
            f"training left {type(module).__name__} without {', '.join(gone)}, so there is nothing to score. Leave that"
            f" out with Pruning(exclude={gone})."
        )
    shape_buffers(module, weights)
    own = weights_of(module)
    found = {name: weights.get(name, value) for name, value in own.items()}
    load_weights(module, found, "the weights to score")


def connectivity(fit: Fit, masks: Masks, seed: int) -> Connectivity:
    """What masks leave of the fit's module, as far as its paths can be followed."""
    if masks.kept == masks.total:
        return Connectivity(masks, masks)

    def example() -> object:
        with fit.states.undisturbed(), scores.undisturbed(fit.module, masks):
            return fit.scoring.example_input(seed)

    return followed(fit.module, masks, example)
