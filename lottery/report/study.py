"""A study as one page: the verdict, its numbers, and the figures of the papers."""

from __future__ import annotations

import datetime
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.report import facts, figures, page, study_findings, study_tables
from lottery.report.facts import Fact
from lottery.report.figures import Image, LeftOut
from lottery.report.findings import Card
from lottery.text.tables import TextTable

if TYPE_CHECKING:
    from lottery.studies import Study
    from lottery.studies.evidence import Evidence


@dataclass(frozen=True)
class Section:
    """A table with a title, and a line about it."""

    title: str
    text: str
    table: TextTable


@dataclass(frozen=True)
class StudyReport:
    """What a report of a study says; `lottery.report.page` makes a page of it."""

    title: str
    date: str
    headline: str
    opening: str
    notes: list[str]
    cards: list[Card]
    sentences: list[str]
    pictures: list[Image]
    left_out: list[LeftOut]
    sections: list[Section]
    facts: list[Fact]
    commands: list[tuple[str, str]]
    snippet: str


def write_study(
    study: Study,
    path: str | os.PathLike[str],
    doing: Callable[[str], None] = lambda what: None,
    margin: float | str | None = None,
    level: float | None = None,
) -> list[Path]:
    """Write a report of a study, which may still be going on; it is only read.

    Args:
        study: the study.
        path: a name that ends in .html or .md, as for `lottery.report.write`.
        doing: is told what is being drawn.
        margin: how much worse than dense is still as good; default: the study's.
        level: chance of a false claim; default: the study's.

    Returns:
        The files that were written, the report first.

    Raises:
        ValueError: the name has another ending.
        StorageError: a run is damaged, or the path cannot be written.

    Example::

        report.write_study(Study("checkpoints/digits_study"), "report.html")
    """
    path = Path(path)
    page.check_name(path)
    found = _collect(study, {"margin": margin, "level": level}, not page.is_markdown(path), doing)
    return page.write(found, "study", path, {p: "" for p in found.pictures})


def _collect(study: Study, judging: Mapping[str, Any], vector: bool, doing: Callable[[str], None]) -> StudyReport:
    progress = study.progress()
    evidence, why_not = study_findings.judged(study, **judging)
    begun = study_findings.ticket_runs(study)
    pictures: list[Image] = []
    left_out: list[LeftOut] = []
    if begun:
        pictures, left_out = figures.draw_all(figures.of_study(study, **judging), vector=vector, doing=doing)
    verdict = None if evidence is None else evidence.verdict()
    return StudyReport(
        title=study.path.resolve().name,
        date=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        headline=f"No verdict: {why_not}" if verdict is None else verdict.headline,
        opening=study_findings.opening(study),
        notes=study_findings.notes(study, progress),
        cards=[] if evidence is None else study_findings.cards(evidence),
        sentences=[] if verdict is None else list(verdict.sentences),
        pictures=pictures,
        left_out=left_out,
        sections=[
            *([] if evidence is None else _sections(study, evidence)),
            Section("Trainings", "", study_findings.progress_table(study, progress)),
        ],
        facts=[*study_findings.settings(study), *(facts.facts(begun) if begun else [])],
        commands=_commands(study, evidence),
        snippet=_snippet(study, evidence),
    )


def _sections(study: Study, evidence: Evidence) -> list[Section]:
    found = [
        Section(
            "Evidence by density",
            f"Labels: wins is matching and shown to be better than {_beaten(evidence)}; matching is shown to be no more"
            f" than {evidence.margin.text(evidence.text)} worse than dense; below is shown to be worse than that;"
            " open is what the seeds do not tell.",
            study_tables.overview_table(evidence),
        ),
        Section("Against dense", "", study_tables.dense_table(evidence)),
    ]
    for name in evidence.controls:
        summary = study.plan.arms[name].summary
        table = study_tables.comparison_table(evidence, name)
        found.append(Section(f"Against {name}", summary, table))
    found.append(Section("Learning speed", "", study_tables.speed_table(evidence)))
    barriers = study.barriers()
    if not barriers.empty:
        table = study_tables.barrier_table(barriers)
        found.append(Section("Stability", "", table))
    return found


def _beaten(evidence: Evidence) -> str:
    return " and ".join(evidence.required) or "controls that must be beaten"


def _commands(study: Study, evidence: Evidence | None) -> list[tuple[str, str]]:
    path = shlex.quote(str(study.path))
    commands = [
        ("what it took to make this study", study_findings.command(study)),
        ("its state and its verdict, in the terminal", f"lottery inspect {path}"),
        ("go on with what is not done, or failed", f"lottery study {path}"),
    ]
    verdict = None if evidence is None else evidence.verdict()
    if verdict is not None and verdict.seeds_added is not None:
        first = max(study.plan.seeds) + 1
        seeds = [*study.plan.seeds, *range(first, first + verdict.seeds_added)]
        more = study_findings.command(study, seeds=",".join(map(str, seeds)))
        commands.append(("the seeds that are likely to settle it", more))
    return commands


def _snippet(study: Study, evidence: Evidence | None) -> str:
    verdict = None if evidence is None else evidence.verdict()
    if verdict is None or verdict.round is None:
        return ""
    ticket = f"ticket_run(seed={study.plan.seeds[0]}).ticket({verdict.round})"
    return f"from lottery import Study\nStudy({str(study.path)!r}).{ticket}.save('found.ticket')"
