"""What `lottery inspect` and `lottery ls` show in the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from lottery.cli.listing import Entry
from lottery.runs.metric import Part
from lottery.runs.run import Run
from lottery.text.numbers import number, percent
from lottery.text.sparkline import bar, sparkline
from lottery.text.terminal import light_table, one_line
from lottery.training.messages import run_table

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

    from lottery.studies import Study
    from lottery.tickets.ticket import Ticket


def run_view(run: Run) -> RenderableType:
    """A run: its rounds, the metric that says most as a sparkline, and its layers."""
    from rich.console import Group

    summaries = [run.summary(number) for number in run.rounds]
    lines: list[RenderableType] = [run_table(run)]
    metric = summaries[0].metric if summaries else None
    if metric is not None and len(summaries) > 1:
        values = [summary.value(metric) for summary in summaries]
        known = [value for value in values if value is not None]
        if known:
            span = f"{number(min(known))} to {number(max(known))}"
            lines.append(f"{metric.name}  {sparkline(values)}  {span}")
    if len(summaries) > 1:
        lines.append(_layers([summary.densities for summary in summaries]))
    lines.append(_status(run))
    return Group(*lines)


def _layers(densities: Sequence[Mapping[str, float]]) -> RenderableType:
    table = light_table(("parameter", "density over rounds", "", "now"), left=3)
    for name, now in densities[-1].items():
        line = sparkline([each[name] for each in densities], low=0, high=1)
        table.add_row(name, line, bar(now), percent(now))
    return table


def _status(run: Run) -> str:
    status, number = run.status, run.in_progress
    if number is None:
        return status
    how = "; run again what began it to go on" if status == "interrupted" else ""
    return f"{status} in round {number}{how}"


def ticket_view(ticket: Ticket) -> RenderableType:
    """A ticket: its layers with the units that are dead in them, and where it came from."""
    from rich.console import Group

    columns = ("parameter", "shape", "weights", "kept", "density")
    table = light_table([*columns, "dead out/in", "fan in/out"])
    for name, row in ticket.table().join(ticket.structure()).iterrows():
        table.add_row(
            str(name),
            " x ".join(map(str, row["shape"])),
            f"{row['weights']:,}",
            f"{row['kept']:,}",
            percent(row["density"]),
            f"{row['dead_outputs']} / {row['dead_inputs']}",
            f"{row['fan_in']:.1f} / {row['fan_out']:.1f}",
        )
    meaning = "dead: outputs and inputs without a kept weight; fan: kept weights of each other one, on average"
    return Group(repr(ticket), table, meaning, *_origin(ticket.provenance))


def _origin(provenance: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Where a ticket came from, a line each."""
    from rich.table import Table

    if not provenance:
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, value in _in_order(provenance, _ORIGIN):
        if name == "metrics" and isinstance(value, dict):
            for part, metrics in _in_order(value, get_args(Part)):
                if metrics and isinstance(metrics, dict):
                    table.add_row(part.replace("_", ", "), _pairs(metrics))
        else:
            table.add_row(name, _pairs(value) if isinstance(value, dict) else str(value))
    yield ""
    yield table


_ORIGIN = ("run", "round", "seed", "versions", "rewind", "dynamic", "metrics")


def _in_order(values: Mapping[str, Any], first: Sequence[str]) -> list[tuple[str, Any]]:
    """The items, some names first: a file has them in any order."""
    place = {name: number for number, name in enumerate(first)}
    return sorted(values.items(), key=lambda item: (place.get(item[0], len(place)), item[0]))


def _pairs(values: Mapping[str, object]) -> str:
    return "  ".join(
        f"{name} {f'{value:.4g}' if isinstance(value, float) else value}"
        for name, value in sorted(values.items())
        if value is not None
    )


def study_view(study: Study, **judging: Any) -> RenderableType:
    """A study: what is done, what each density says, and the verdict, read with options of `Study.evidence`."""
    from rich.console import Group

    from lottery.report import study_findings, study_tables
    from lottery.studies.progress_table import table

    progress = study.progress()
    lines: list[RenderableType] = [str(study.path), table(progress)]
    lines += study_findings.notes(study, progress)
    evidence, why_not = study_findings.judged(study, **judging)
    if evidence is None:
        return Group(*lines, f"No verdict: {why_not}")
    tables = [study_tables.overview_table(evidence)]
    barriers = study.barriers()
    if not barriers.empty:
        tables.append(study_tables.barrier_table(barriers))
    for found in tables:
        if found.rows:
            rows = [dict(zip(found.header, row, strict=True)) for row in found.rows]
            lines += [_Fitted(rows, found.header[:4:-1], left=0), found.caption]
    return Group(*lines, "", *str(evidence.verdict()).splitlines())


def listing_view(found: Sequence[Entry], directory: Path) -> RenderableType:
    """Studies, runs and tickets, a row each; then what studies say, and what is wrong with those that are damaged."""
    from rich.console import Group

    if not found:
        return (
            f"no studies, runs or tickets below {directory}. `lottery run recipes/digits.yaml` makes a run in"
            " checkpoints/digits; Ticket.save makes a ticket file."
        )
    rows = [_cells(entry, directory) for entry in found]
    lines: list[RenderableType] = [f"below {directory}", _Fitted(rows, _SPARE, left=2)]
    if any(entry.best is not None for entry in found):
        lines.append("best: of the round that validation chose among the pruned ones")
    said = (f"{_name(e, directory)}: {e.says}" for e in found if e.says is not None)
    return Group(*lines, *said, *_damage(found))


@dataclass(frozen=True)
class _Fitted:
    """A table that leaves out columns where the terminal is narrow, the first of `spare` first."""

    rows: Sequence[Mapping[str, str]]
    spare: Sequence[str]
    left: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        for dropped in range(len(self.spare) + 1):
            columns = [c for c in self.rows[0] if c not in self.spare[:dropped]]
            table = light_table(columns, left=self.left)
            for row in self.rows:
                table.add_row(*[row[column] for column in columns])
            needed = console.measure(table, options=options.update(max_width=9999))
            if needed.maximum <= options.max_width:
                break
        yield table


_SPARE = ("changed", "at", "over rounds", "metric")
"""Columns that are dropped where space is short, in this order."""


def _cells(entry: Entry, directory: Path) -> dict[str, str]:
    status = entry.status
    if entry.round is not None:
        status += f", round {entry.round}"
    metric = {"dense": entry.dense, "best": entry.best}
    return {
        "name": _name(entry, directory),
        "status": status,
        "rounds": "" if entry.rounds is None else str(entry.rounds),
        "density": _if_known(entry.density, percent),
        "metric": entry.metric or "",
        **{name: _if_known(value, number) for name, value in metric.items()},
        "at": _if_known(entry.best_density, percent),
        "over rounds": sparkline(_thinned(entry.values)),
        "changed": age(time.time() - entry.changed) if entry.changed else "",
    }


def _name(entry: Entry, directory: Path) -> str:
    inside = entry.path.is_relative_to(directory) and entry.path != directory
    return one_line(str(entry.path.relative_to(directory) if inside else entry.path))


def _thinned(values: Sequence[float | None], most: int = 16) -> list[float | None]:
    """At most so many of the values, evenly spaced, with the first and the last."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def _if_known(value: float | None, text: Callable[[float], str]) -> str:
    return "" if value is None else text(value)


def _damage(found: Iterable[Entry]) -> Iterator[str]:
    for entry in found:
        if entry.wrong is not None:
            yield f"damaged: {one_line(entry.wrong)}"


def age(seconds: float) -> str:
    """How long ago, in the largest unit that is full.

    Example:
        >>> age(59), age(3 * 3600 + 5), age(40 * 86400)
        ('59 s ago', '3 h ago', '40 d ago')
    """
    seconds = max(0, int(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
