"""The network that a command's arguments name: a recipe's model with weights, its masks, a batch of its data."""

from __future__ import annotations

import argparse
import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor, nn

from lottery.foundations import streams
from lottery.foundations.names import load_weights, parameters_of
from lottery.masks.masks import Masks
from lottery.runs.run import Run
from lottery.runs.schema import RoundSummary
from lottery.storage.directory import StorageError
from lottery.tickets.baking import baked_masks
from lottery.tickets.checkpoint_file import check_weights, read_weights
from lottery.tickets.ticket import Ticket
from lottery.training.untrained import InsteadOfTraining, fit

if TYPE_CHECKING:
    from lottery.training.lightning import Fit
    from lottery.training.recipes import RecipeCLI

Example: TypeAlias = Tensor | tuple[object, ...]

WHICH = """\
Model and data are the recipe's. The weights are those that a round of a run ended
with (default: the last round of the recipe's own run), those of a checkpoint, or the
start weights of a ticket. Settings such as --model.init_args.hidden change the recipe."""


@dataclass(frozen=True, eq=False)
class Network:
    """A network and what is needed to run it.

    Args:
        module: the recipe's model, in eval mode on the CPU, with its weights, masked.
        masks: of its prunable parameters, True = kept.
        example: what `forward` takes, a batch of the recipe's training data: a tensor or a tuple of them.
        origin: the weights in words, such as "the weights of round 7 of checkpoints/digits".
        data: the example in words.
        recipe: path of the recipe.
        round: the round that the weights are of, if they are of one.
        metric: name and value of the metric that says most of that round, at its end: of these weights.
    """

    module: nn.Module
    masks: Masks
    example: Example
    origin: str
    data: str
    recipe: str
    round: int | None = None
    metric: tuple[str, float] | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that name the weights."""
    add = parser.add_argument
    add("--run", metavar="RUN", help="the weights: those a round of this run ended with")
    add("--round", type=int, metavar="R", help="the round (default: the last one)")
    add("--checkpoint", metavar="FILE", help="the weights: a Lightning checkpoint or a state dict")
    add("--ticket", metavar="FILE", help="the masks, and without --checkpoint the weights: a ticket file")


def read(known: argparse.Namespace, recipe: str, overrides: Sequence[str]) -> Network:
    """The network that the options of `add_arguments` name.

    Raises:
        ValueError: the options contradict each other, what they name is not there, or does not fit the recipe's model.
        StorageError: a run or a ticket cannot be read.
    """
    return read_rounds(known, recipe, overrides, [known.round])[0]


def read_rounds(
    known: argparse.Namespace, recipe: str, overrides: Sequence[str], rounds: Sequence[int | None]
) -> list[Network]:
    """Networks of several rounds of one run, on the same batch; None stands for the last round.

    The recipe's model and data are made once.

    Raises:
        ValueError, StorageError: as `read`.
    """
    _check(known, rounds)
    from lottery.training.recipes import load, quieten

    quieten()
    cli = load(recipe, overrides)
    weights = [_weights(known, cli, number) for number in rounds]
    example, data = _example(cli)

    def network(found: _Weights) -> Network:
        module = copy.deepcopy(cli.model).cpu().eval()
        masks = found.load(module)
        return Network(module, masks, example, found.origin, data, recipe, found.round, found.metric)

    return [network(found) for found in weights]


@dataclass(frozen=True)
class _Weights:
    """Weights that were found, and how they get into a module, which gives the masks."""

    origin: str
    load: Callable[[nn.Module], Masks]
    round: int | None = None
    metric: tuple[str, float] | None = None


def _check(known: argparse.Namespace, rounds: Sequence[int | None]) -> None:
    other = [f"--{name}" for name in ("checkpoint", "ticket") if getattr(known, name) is not None]
    if known.run is not None and other:
        raise ValueError(f"--run and {other[0]} both name weights: give one of them")
    if other and any(number is not None for number in rounds):
        raise ValueError(f"a round is of a run, and {other[0]} names other weights: leave one of them out")


def _weights(known: argparse.Namespace, cli: RecipeCLI, number: int | None) -> _Weights:
    """What the options name, read before anything is set up."""
    if known.checkpoint is not None:
        return _of_checkpoint(known, cli)
    if known.ticket is not None:
        ticket = Ticket.load(known.ticket)

        def apply(module: nn.Module) -> Masks:
            ticket.apply(module)
            return ticket.masks

        kind = "the start weights" if ticket.weights else "the recipe's own start weights under the masks"
        return _Weights(f"{kind} of {known.ticket}", apply)
    if known.run is None and not cli.dirpath.exists():
        raise ValueError(
            f"which weights? The recipe has no run yet in {cli.dirpath}: `lottery run` makes one. Or give --run RUN,"
            " --checkpoint FILE or --ticket FILE."
        )
    return _of_run(Run(known.run or cli.dirpath), number)


def _of_run(run: Run, number: int | None) -> _Weights:
    if number is None:
        if not run.rounds:
            raise ValueError(f"{run.path} has no finished round yet")
        number = run.rounds[-1]
    try:
        weights = run.weights(number)
    except StorageError as error:
        if number not in run.rounds:
            raise
        raise ValueError(f"{error}. {_ways_out(run, number)}") from error
    masks = run.last_masks(number)
    origin = f"the weights of round {number} of {run.path}"
    return _Weights(
        origin, lambda module: _load(module, weights, masks, origin), number, _metric_at_the_end(run.summary(number))
    )


def _metric_at_the_end(summary: RoundSummary) -> tuple[str, float] | None:
    """Of the weights that a round ended with, not of those at its best step."""
    metric = summary.metric
    if metric is None:
        return None
    last = summary.test_last if metric.part == "test_best" else summary.last
    value = last.get(metric.name)
    return None if value is None else (metric.name, value)


def _of_checkpoint(known: argparse.Namespace, cli: RecipeCLI) -> _Weights:
    weights = read_weights(known.checkpoint)
    masks = None if known.ticket is None else Ticket.load(known.ticket).masks
    pruning = cli.ticket.pruning

    def load(module: nn.Module) -> Masks:
        found = _load(module, weights, masks or {}, origin)
        return found if masks is not None else baked_masks(module, pruning.include, pruning.exclude)

    origin = f"the weights in {known.checkpoint}"
    return _Weights(origin, load)


def _load(module: nn.Module, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], origin: str) -> Masks:
    check_weights(weights, module, origin)
    load_weights(module, weights, origin)
    masks, parameters = Masks(masks), parameters_of(module)
    masks.check(parameters)
    masks.apply(parameters)
    return masks


def _ways_out(run: Run, missing: int) -> str:
    """What there is in place of the weights of a round."""
    kept = []
    for number in run.rounds:
        with contextlib.suppress(StorageError):
            if number != missing:
                run.weights(number)
                kept.append(f"--round {number}")
    ways = [*kept, "--ticket FILE for start weights (Run.ticket(ROUND).save writes one)"]
    return f"There is {', '.join(ways)}"


# a batch


class _Batch(InsteadOfTraining):
    """Takes what `forward` gets from the first training batch."""

    def __init__(self) -> None:
        super().__init__()
        self.example: Any = None

    def instead(self, fit: Fit) -> None:
        batches = fit.scoring.training_batches(seed=0)
        with streams.isolated(), contextlib.closing(batches):
            batch = next(batches)
        first = batch[0] if isinstance(batch, (list, tuple)) else batch
        self.example = first.cpu() if isinstance(first, Tensor) else None


def _example(cli: RecipeCLI) -> tuple[Example, str]:
    """What the model's `forward` takes, and where it is from in words. The model is set up as for training by this."""
    known = cli.model.example_input_array
    batch = _Batch()
    why = "the first of a batch is no tensor"
    try:
        fit(cli, batch)
    except Exception as error:
        if known is None:
            raise
        why = str(error).partition("\n")[0]  # data may be missing; the model says what it takes
    takes_more = isinstance(known, (tuple, list)) and len(known) > 1
    if batch.example is not None and not takes_more:
        return batch.example, "the first training batch"
    if isinstance(known, Tensor):
        return known, f"the model's example_input_array ({why})"
    if isinstance(known, (tuple, list)):
        return tuple(known), f"the model's example_input_array ({why})"
    raise ValueError(
        f"what does {type(cli.model).__name__}.forward take? The first of a training batch is no tensor; set"
        " example_input_array in the model, a tensor or a tuple of them"
    )
