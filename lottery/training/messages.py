"""What a run says in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lottery.foundations.steps import Step
from lottery.pruning.scores import name_of, resolve
from lottery.runs.round_table import names_tested, round_table, values_tested
from lottery.runs.run import Run
from lottery.runs.schema import RoundSummary
from lottery.text.numbers import number, percent
from lottery.text.terminal import fitted, light_table, show

if TYPE_CHECKING:
    from lottery.masks.masks import Masks
    from lottery.pruning.pruning import Pruning
    from lottery.training.options import Options


def prunable(masks: Masks, parameters: Mapping[str, Tensor], options: Options, rewind: Step) -> None:
    """The table of prunable parameters and what will be done with them."""
    pruning = options.pruning
    amounts = pruning.amounts.of_each(list(masks))
    table = light_table(("parameter", "shape", "weights", "kept", "per round"))
    for name, mask in masks.items():
        share = "by density" if amounts is None else f"{100 * amounts[name]:g} %"
        if options.dynamic is not None:
            share = "none"
        shape = " x ".join(map(str, parameters[name].shape))
        table.add_row(name, shape, f"{mask.numel():,}", f"{int(mask.sum()):,}", share)
    table.add_section()
    scope = pruning.amounts.scope if options.dynamic is None else ""
    table.add_row("all", "", f"{masks.total:,}", f"{masks.kept:,}", scope)
    if options.dynamic is not None:
        show("Prunable parameters")
        show(table)
        show(f"One training; masks move: {options.dynamic}. Stored in {options.dirpath}")
        return
    show(f"Prunable parameters{_how(pruning)}")
    show(table)
    rule = {
        "weights": f"each round starts from {_name(rewind)}",
        "learning-rate": f"each round keeps its weights and repeats the learning rates from {rewind} on",
        "fine-tune": f"each round keeps its weights and trains on for {options.rewind.length}",
    }[options.rewind.rule]
    state = {"rewind": "as it was there", "fresh": "fresh", "keep": "kept"}[options.rewind.optimizer or "rewind"]
    rounds = f"{options.rounds} round{'' if options.rounds == 1 else 's'}"
    after = f"{rounds} of pruning after round 0; {rule}; optimizer state {state}."
    show(f"{after if options.rounds else 'Round 0 only.'} Stored in {options.dirpath}")


def units(plan: Mapping[str, str]) -> None:
    """Which units can go, layer by layer, and why the others stay."""
    if plan:
        table = light_table(("parameter", "may go"), left=2)
        for name, words in plan.items():
            table.add_row(name, words)
        show("Units that may go")
        show(table)


def _how(pruning: Pruning) -> str:
    """The pieces of a pruning that are not the usual ones."""
    parts = [
        f"score {name_of(resolve(pruning.score))}"
        + (" of the weights that a round starts from" if pruning.weights == "start" else ""),
        f"in {pruning.steps} steps" if pruning.steps > 1 else "",
        "" if pruning.structure == "element" else f"structure {pruning.structure}",
    ]
    unusual = pruning.score != "magnitude" or pruning.weights == "start" or any(parts[1:])
    return f", by {', '.join(filter(None, parts))}" if unusual else ""


def round_goes_on(number: int, step: int) -> None:
    if step:
        show(f"round {number} goes on from step {step}")


def round_finished(summary: RoundSummary, rounds: int) -> None:
    """One line about a finished round."""
    parts = [f"round {summary.round}/{rounds}", f"{percent(summary.density):>6}"]
    if summary.monitor is not None and summary.best:
        parts.append(f"{summary.monitor} {summary.best[summary.monitor]:.4f} at step {summary.best['step']}")
    parts += [f"{name} {number(values_tested(summary)[name])}" for name in names_tested(summary)]
    show("  ".join([*parts, f"{summary.seconds:.1f} s"]))


def not_stored(names: Sequence[str]) -> None:
    """What no state holds, and what follows from it."""
    if names:
        show(
            f"not stored, since it is neither plain data nor a tensor: {', '.join(names)}. What training changes there"
            " is not put back when a round rewinds, and lost when a run is killed."
        )


def no_metrics_at_first(error: Exception) -> None:
    show(
        "the module was not evaluated before its training, since its validation failed there:"
        f" {type(error).__name__}: {error}"
    )


def lost_orders(names: Sequence[str]) -> None:
    """Data whose order in an epoch that was cut cannot be known, and the way out."""
    if names:
        show(
            f"{', '.join(names)} draws from torch's global stream as it is iterated. What training drew in between is"
            " not known where an epoch is entered in the middle, so the order of its rest may be another than it was."
            " Give it a generator of its own, as an attribute."
        )


def nothing_trained(rounds: int, has: str) -> None:
    finished = f"rounds 0 to {rounds}" if rounds else "round 0"
    show(
        f"nothing was trained: {finished} of this run were finished already. The module has {has}. The data of this fit"
        " were not compared with the run's: give each data set, such as each of K folds, a dirpath of its own."
    )


def out_of_time(number: int, path: Path) -> None:
    show(
        f"stopped by Trainer(max_time=...) in round {number}. What is finished is in {path}; run again with more time"
        " to go on."
    )


def stopped(number: int, step: int | None, path: Path) -> None:
    saved = "it goes on from where it was last saved" if step is None else f"saved at step {step}"
    show(f"stopped in round {number}: {saved}. Run the same again to go on. Stored in {path}")


def stopped_between(number: int, path: Path) -> None:
    show(f"stopped before round {number}; those before it are finished. Run the same again to go on. Stored in {path}")


def trained_again(number: int, found: Sequence[str], attempt: int) -> None:
    show(f"round {number} diverged ({', '.join(found[:2])}): trained again on other draws, attempt {attempt + 1}")


def run_table(run: Run) -> Any:
    """A run's rounds for the terminal: density, the monitored metric, test metrics, steps and time."""
    from rich.console import Group

    found = round_table([run.summary(number) for number in run.rounds])
    table = light_table(found.header, left=0)
    for row in found.rows:
        table.add_row(*row)
    if run.in_progress is not None:
        table.add_row(str(run.in_progress), "in progress")
    return Group(str(run.path), fitted(table), *([found.caption] if found.caption else []))


def _name(step: Step) -> str:
    return "the initial weights" if step == Step() else f"the weights at {step} of round 0"
