"""What a run says in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lottery.run import Run
from lottery.steps import Step

if TYPE_CHECKING:
    from rich.console import Console

    from lottery.masks import Masks
    from lottery.options import Options
    from lottery.ticket import Ticket

_FILE_WIDTH = 200  # nothing is wrapped or cut in a file or pipe


def prunable(
    masks: Masks, parameters: Mapping[str, Tensor], options: Options, rewind: Step
) -> None:
    """The table of prunable parameters and what will be done with them."""
    pruning = options.pruning
    amounts = {
        name: amount for names, amount in pruning.pools(list(masks)) for name in names
    }
    table = _table(("parameter", "shape", "weights", "kept", "per round"))
    for name, mask in masks.items():
        share = "by density" if pruning.densities else f"{100 * amounts[name]:g} %"
        shape = " x ".join(map(str, parameters[name].shape))
        table.add_row(name, shape, f"{mask.numel():,}", f"{int(mask.sum()):,}", share)
    table.add_section()
    table.add_row("all", "", f"{masks.total:,}", f"{masks.kept:,}", pruning.scope)
    show("Prunable parameters")
    show(table)
    rule = {
        "weights": f"each round starts from {_name(rewind)}",
        "learning-rate": f"each round keeps its weights and repeats the learning rates from {rewind} on",
        "fine-tune": f"each round keeps its weights and trains on for {options.rewind.length}",
    }[options.rewind.rule]
    state = {"rewind": "as it was there", "fresh": "fresh", "keep": "kept"}[
        options.rewind.optimizer or "rewind"
    ]
    rounds = f"{options.rounds} round{'' if options.rounds == 1 else 's'}"
    after = f"{rounds} after the dense one; {rule}; optimizer state {state}."
    show(
        f"{after if options.rounds else 'The dense round only.'} Stored in {options.dirpath}"
    )


def round_goes_on(number: int, step: int) -> None:
    if step:
        show(f"round {number} goes on from step {step}")


def round_finished(summary: Mapping[str, Any], rounds: int) -> None:
    """One line about a finished round."""
    parts = [f"round {summary['round']}/{rounds}", f"{_percent(summary['density']):>6}"]
    monitor = summary["monitor"]
    if monitor is not None and summary["best"]:
        parts.append(
            f"{monitor} {summary['best'][monitor]:.4f} at step {summary['best']['step']}"
        )
    parts += [f"{name} {_number(_tested(summary)[name])}" for name in _tests(summary)]
    show("  ".join([*parts, f"{summary['seconds']:.1f} s"]))


def out_of_time(number: int, path: Path) -> None:
    show(
        f"stopped by Trainer(max_time=...) in round {number}. What is finished is in {path}; run again with more time to"
        " go on."
    )


def run_table(run: Run) -> Any:
    """A run's rounds for the terminal: density, the monitored metric, test metrics, steps and time."""
    from rich.console import Group

    summaries = [run.summary(round) for round in run.rounds]
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "round": lambda s: str(s["round"]),
        "density": lambda s: _percent(s["density"]),
        "weights": lambda s: f"{s['kept']:,}",
    }
    caption = None
    monitor = summaries[0]["monitor"] if summaries else None
    if monitor is not None:
        caption = f"start, best, last: {monitor} before training, at its best step, at the end"
        columns |= {
            "start": lambda s: _number(s["start"].get(monitor)),
            "best": lambda s: _number(s["best"].get(monitor)),
            "step": lambda s: _number(s["best"].get("step")),
            "last": lambda s: _number(s["last"].get(monitor)),
        }
    elif summaries:
        names = [n for n in summaries[0]["last"] if not n.endswith(("_step", "_epoch"))]
        columns |= {n: lambda s, n=n: _number(s["last"].get(n)) for n in names}
    for name in _tests(summaries[0]) if summaries else ():
        columns[name] = lambda s, n=name: _number(_tested(s).get(n))  # type: ignore[misc]
        caption = f"{caption or ''}; {name} at the best step".lstrip("; ")
    columns |= {
        "seconds": lambda s: f"{s['seconds']:.1f}",
    }
    table = _table(columns, left=0)
    for summary in summaries:
        table.add_row(*[cell(summary) for cell in columns.values()])
    if run.in_progress is not None:
        table.add_row(str(run.in_progress), "in progress")
    return Group(str(run.path), table, *([caption] if caption else []))


def _tested(summary: Mapping[str, Any]) -> Mapping[str, float | None]:
    """Test metrics at the best step; of the last step where no metric is monitored."""
    return summary["test_best"] or summary["test_last"]


def _tests(summary: Mapping[str, Any]) -> list[str]:
    """The test metrics worth a column: the counterpart of the monitored one, or all."""
    names = list(_tested(summary))
    counterpart = (summary["monitor"] or "").replace("val", "test")
    return [counterpart] if counterpart in names else names


def _table(columns: Iterable[str], left: int = 1) -> Any:
    """A light table whose first `left` columns hold names, the others numbers."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(
            column, justify="left" if index < left else "right", no_wrap=index >= left
        )
    return table


def ticket_table(ticket: Ticket) -> Any:
    """A ticket's layers for the terminal."""
    from rich.console import Group

    table = _table(("parameter", "shape", "weights", "kept", "density"))
    for name, row in ticket.table().iterrows():
        shape = " x ".join(map(str, row["shape"]))
        table.add_row(
            str(name),
            shape,
            f"{row['weights']:,}",
            f"{row['kept']:,}",
            _percent(row["density"]),
        )
    return Group(repr(ticket), table)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _percent(density: float) -> str:
    return f"{100 * density:.3g} %"


def _name(step: Step) -> str:
    return (
        "the initial weights" if step == Step() else f"the weights at {step} of round 0"
    )


def show(what: Any) -> None:
    """Print text or a table, from the first process of a fit only."""
    from lightning_utilities.core.rank_zero import rank_zero_only

    if getattr(rank_zero_only, "rank", 0) == 0:
        out = terminal()
        seen = out.is_terminal or out.is_jupyter
        (out if seen else _console(width=_FILE_WIDTH)).print(what)


@cache
def terminal() -> Console:
    """The console shared by all that is shown, so that lines go above a progress bar."""
    return _console()


def _console(width: int | None = None) -> Console:
    from rich.console import Console

    # a path may hold [ and :
    return Console(width=width, highlight=False, markup=False, emoji=False)
