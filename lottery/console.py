"""What a run says in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lottery.run import Run
from lottery.steps import Step

if TYPE_CHECKING:
    from lottery.masks import Masks
    from lottery.rounds import Options, Rounds


def say(text: str) -> None:
    """One line on the terminal, from the first process of a fit only."""
    _print(text)


def prunable(
    masks: Masks, parameters: Mapping[str, Tensor], options: Options, rewind: Step
) -> None:
    """The table of prunable parameters and what will be done with them."""
    from rich.table import Table

    pruning = options.pruning
    amounts = {
        name: amount for names, amount in pruning.pools(list(masks)) for name in names
    }
    table = Table(title="Prunable parameters", title_justify="left")
    table.add_column("parameter")
    for column in ("shape", "weights", "kept", "per round"):
        table.add_column(column, justify="right")
    for name, mask in masks.items():
        share = "by density" if pruning.densities else f"{100 * amounts[name]:g} %"
        shape = " x ".join(map(str, parameters[name].shape))
        table.add_row(name, shape, f"{mask.numel():,}", f"{int(mask.sum()):,}", share)
    table.add_section()
    table.add_row("all", "", f"{masks.total:,}", f"{masks.kept:,}", pruning.scope)
    _print(table)
    rule = {
        "weights": f"each round starts from the weights of {_name(rewind)}",
        "learning-rate": f"each round keeps its weights and takes the learning rates since {_name(rewind)} again",
        "fine-tune": f"each round keeps its weights and trains on for {options.rewind.length}",
    }[options.rewind.rule]
    state = {"rewind": "as it was there", "fresh": "fresh", "keep": "kept"}[
        options.rewind.optimizer or "rewind"
    ]
    _print(
        f"{options.rounds} rounds after the dense one; {rule}; optimizer state {state}. Stored in {options.dirpath}"
    )


def round_started(rounds: Rounds, resumed: bool) -> None:
    if resumed and rounds.fit.global_step:
        _print(f"round {rounds.round} goes on from step {rounds.fit.global_step}")


def round_finished(rounds: Rounds, summary: Mapping[str, Any]) -> None:
    """One line about a finished round."""
    parts = [
        f"round {summary['round']}/{rounds.options.rounds}",
        f"density {_percent(summary['density'])}",
    ]
    monitor = summary["monitor"]
    if monitor is not None and summary["best"]:
        parts.append(
            f"best {monitor} {summary['best'][monitor]:.4g} at step {summary['best']['step']}"
        )
    parts += [
        f"{name} {value:.4g}"
        for name, value in summary["test_best"].items()
        if value is not None
    ]
    _print(
        "  ".join([*parts, f"{summary['steps']} steps", f"{summary['seconds']:.1f} s"])
    )


def out_of_time(rounds: Rounds, round: int) -> None:
    _print(
        f"stopped by Trainer(max_time=...) in round {round}. What is finished is in {rounds.directory.path}; run again"
        " with more time to go on."
    )


def run_finished(rounds: Rounds) -> None:
    """The table of all rounds."""
    _print(run_table(Run(rounds.directory.path)))


def run_table(run: Run) -> Any:
    """A run's table for the terminal."""
    from rich.table import Table

    frame = run.table().reset_index()
    table = Table(title=str(run.path), title_justify="left")
    for column in frame.columns:
        table.add_column(column.replace("_", " "), justify="right")
    for row in frame.to_dict("records"):
        table.add_row(*[_cell(column, value) for column, value in row.items()])
    return table


def _cell(column: Any, value: Any) -> str:
    import pandas

    if value is None or pandas.isna(value):
        return "-"
    if column == "density":
        return _percent(value)
    if isinstance(value, str):
        return value
    if column in ("round", "kept", "steps", "epochs", "best_step"):
        return f"{int(value):,}"
    return f"{value:.1f}" if column == "seconds" else f"{value:.4f}"


def _percent(density: float) -> str:
    return f"{100 * density:.3g} %"


def _name(step: Step) -> str:
    return "the start" if step == Step() else f"{step} of round 0"


def _print(what: Any) -> None:
    from lightning_utilities.core.rank_zero import rank_zero_only
    from rich.console import Console

    if getattr(rank_zero_only, "rank", 0) == 0:
        Console(highlight=False).print(what)
