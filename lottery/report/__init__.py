"""A study, or a run, its seeds or several arms, as one page: what was found, how sure that is, how it looks."""

from __future__ import annotations

import datetime
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lottery.report import facts, figures, page
from lottery.report.facts import Fact
from lottery.report.figures import Image, LeftOut
from lottery.report.findings import Card, Findings
from lottery.report.study import write_study
from lottery.runs.comparison import compare
from lottery.runs.run import Run
from lottery.text.tables import TextTable

__all__ = ["Arm", "Report", "write", "write_study"]


@dataclass(frozen=True)
class Arm:
    """What a report says of one arm."""

    name: str
    opening: str
    notes: list[str]
    cards: list[Card]
    sentences: list[str]
    facts: list[Fact]
    pictures: list[Image]
    left_out: list[LeftOut]
    table: TextTable


@dataclass(frozen=True)
class Report:
    """What a report says; `lottery.report.page` makes a page of it."""

    title: str
    date: str
    pictures: list[Image]
    left_out: list[LeftOut]
    arms: list[Arm]
    commands: list[tuple[str, str]]
    snippet: str


def write(
    arms: Mapping[str, Sequence[Run]], path: str | os.PathLike[str], doing: Callable[[str], None] = lambda what: None
) -> list[Path]:
    """Write a report of runs that may still be going on; they are only read.

    Args:
        arms: name of the arm to its runs, which are its seeds.
        path: a name that ends in .html, for one file with everything in it; or in .md, for Markdown with its pictures
            in a directory beside it.
        doing: is told what is being drawn.

    Returns:
        The files that were written, the report first.

    Raises:
        ValueError: the name has another ending, an arm has no runs or the same run twice, or runs of an arm differ in
            their parameters.
        StorageError: a run is damaged, or the path cannot be written.

    Example::

        report.write({"ticket": [Run("checkpoints/digits")]}, "report.html")
    """
    path = Path(path)
    page.check_name(path)
    _check_arms(arms)
    found = _collect(arms, vector=not page.is_markdown(path), doing=doing)
    prefixes = {picture: "" for picture in found.pictures}
    for number, arm in enumerate(found.arms, 1):
        prefix = f"{number}-" if len(found.arms) > 1 else ""
        prefixes |= {picture: prefix for picture in arm.pictures}
    return page.write(found, "page", path, prefixes)


def _check_arms(arms: Mapping[str, Sequence[Run]]) -> None:
    compare(arms)  # refuses arms without runs
    for name, runs in arms.items():
        first: dict[str, Run] = {}
        for run in runs:
            other = first.setdefault(run.info.id, run)
            if other is not run:
                raise ValueError(
                    f"{run.path} is the same run as {other.path}: an arm ({name}) has each of its runs once"
                )
        shapes = [run.info.settings.parameters for run in runs]
        for run, shape in zip(runs, shapes, strict=True):
            if shape != shapes[0]:
                raise ValueError(
                    f"{run.path} has other prunable parameters than {runs[0].path}, so they are no seeds of one arm"
                    f" ({name}); put them in arms of their own: NAME={shlex.quote(str(run.path))}"
                )


def _collect(arms: Mapping[str, Sequence[Run]], vector: bool, doing: Callable[[str], None]) -> Report:
    findings = {name: Findings([[run.summary(r) for r in run.rounds] for run in runs]) for name, runs in arms.items()}
    metric = next((f.metric for f in findings.values() if f.metric), None)
    pictures, left_out = figures.draw_all(figures.of_arms(arms, metric), vector=vector, doing=doing)
    chapters = []
    for name, runs in arms.items():
        found = findings[name]
        own, missing = figures.draw_all(figures.of_arm(runs), vector=vector, doing=doing)
        chapters.append(
            Arm(
                name,
                facts.opening(runs),
                facts.notes(runs),
                found.cards(),
                found.sentences(),
                facts.facts(runs),
                own,
                missing,
                found.table(),
            )
        )
    first = next(iter(findings.values()))
    every = [run for runs in arms.values() for run in runs]
    return Report(
        _title(arms),
        datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        pictures,
        left_out,
        chapters,
        _commands(every[0], first),
        _snippet(every[0], first),
    )


def _title(arms: Mapping[str, Sequence[Run]]) -> str:
    if len(arms) > 1:
        return " against ".join(arms)
    names = [run.path.resolve().name for runs in arms.values() for run in runs]
    return ", ".join(names) if len(names) <= 4 else f"{names[0]} and {len(names) - 1} more"


def _commands(run: Run, found: Findings) -> list[tuple[str, str]]:
    inspect = f"lottery inspect {shlex.quote(str(run.path))}"
    commands = [("the rounds and layers of a run", inspect)]
    if run.rounds:
        number = found.best or run.rounds[-1]
        which = "best" if found.best else "last"
        commands.append((f"its {which} ticket, layer by layer", f"{inspect} --round {number}"))
    return commands


def _snippet(run: Run, found: Findings) -> str:
    if not run.rounds:
        return ""
    ticket = f"Run({str(run.path)!r}).ticket({found.best or run.rounds[-1]})"
    return f"from lottery import Run\n{ticket}.save('found.ticket')"
