"""The studies, runs and ticket files below a directory, at a glance: no tensor of a run is read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lottery.runs.layout import FOLDERS, RUN, STUDY
from lottery.runs.metric import Metric
from lottery.runs.run import Run
from lottery.runs.schema import RoundSummary
from lottery.storage.declared import FREE
from lottery.storage.directory import LOCK, MANIFEST, StorageError
from lottery.tickets.ticket import Ticket
from lottery.tickets.ticket_file import read_description


@dataclass(frozen=True)
class Entry:
    """A study, a run directory or a ticket file. Numbers of a study are means over its seeds.

    Args:
        path: where it is.
        status: "running", "interrupted", "finished", "ticket" or "damaged"; of a study with "study" before it.
        changed: when it was last written, in seconds since 1970.
        rounds: finished rounds of a run, or of the tickets of a study; None for a ticket.
        round: the round in progress of a run, or the one that a ticket is of.
        density: of the last finished round, or of the ticket.
        metric: name of the metric that says most.
        dense: its value in round 0.
        best: its value in the best round that was pruned; of a study in the round that its verdict looks at.
        best_density: the density of that round.
        values: its value in each round.
        says: what a study is of, and its verdict in a line.
        wrong: what is damaged.
    """

    path: Path
    status: str
    changed: float
    rounds: int | None = None
    round: int | None = None
    density: float | None = None
    metric: str | None = None
    dense: float | None = None
    best: float | None = None
    best_density: float | None = None
    values: tuple[float | None, ...] = ()
    says: str | None = None
    wrong: str | None = field(default=None, repr=False)


def entries(directory: str | os.PathLike[str]) -> list[Entry]:
    """Every study, run directory and ticket file at or below a directory, by name; digits-2 comes before digits-10.

    The runs of a study are part of it: they are listed when the directory lies within the study.

    Raises:
        StorageError: there is no such directory.
    """
    root = Path(directory)
    if not root.is_dir():
        what = "is not a directory" if root.exists() else "does not exist"
        raise StorageError(
            f"{root} {what}; `lottery ls DIR` lists what is below DIR. `lottery run recipes/digits.yaml` makes a run in"
            " checkpoints/digits."
        )
    return sorted(map(_entry, _found(root)), key=lambda entry: _natural(entry.path))


def is_study(path: Path) -> bool:
    """Whether a directory is that of a study."""
    return (path / STUDY).is_file()


def _found(root: Path) -> Iterator[Path]:
    unreadable: list[Path] = []
    for path, folders, files in os.walk(root, onerror=lambda error: unreadable.append(Path(error.filename))):
        if STUDY in files:
            folders.clear()
            yield Path(path)
            continue
        is_run = not {RUN, LOCK}.isdisjoint(files)
        folders[:] = [f for f in folders if not (is_run and f in FOLDERS)]
        if is_run:
            yield Path(path)
        yield from (Path(path, name) for name in files if name.endswith(".ticket"))
    yield from unreadable


def _entry(path: Path) -> Entry:
    try:
        if path.is_file():
            return _of_ticket(path)
        return _of_study(path) if is_study(path) else _of_run(path)
    except StorageError as error:
        wrong = str(error)
    except Exception as error:  # noqa: BLE001 (what strangers write is wrong in many ways)
        wrong = f"{path} cannot be read: {type(error).__name__}: {error}"
    return Entry(path, "damaged", _changed(path), wrong=wrong)


def _of_run(path: Path) -> Entry:
    os.listdir(path)  # a directory that may not be entered says so
    run = Run(path)
    summaries = [run.summary(number) for number in run.rounds]
    metric = summaries[0].metric if summaries else None
    best = best_ticket(summaries, metric)
    return Entry(
        path,
        run.status,
        _changed(path / MANIFEST),
        rounds=len(summaries),
        round=run.in_progress,
        density=summaries[-1].density if summaries else None,
        metric=None if metric is None else metric.name,
        dense=_value(metric, summaries[:1]),
        best=_value(metric, [best] if best else []),
        best_density=best.density if best else None,
        values=tuple(s.value(metric) for s in summaries) if metric else (),
    )


def _of_study(path: Path) -> Entry:
    from lottery.report import study_findings
    from lottery.studies import Study

    study = Study(path)
    progress = study.progress()
    arms = f"{len(study.plan.seeds)} seeds of {', '.join(study.arms)}"
    changed = [_changed(path / cell.key / MANIFEST) for cell in progress.cells]
    begun = Entry(path, f"study {study_findings.status(study, progress)}", max(_changed(path / STUDY), *changed))
    evidence, why_not = study_findings.judged(study)
    if evidence is None:
        return replace(begun, says=f"{arms}. No verdict: {why_not}")
    verdict = evidence.verdict()
    points = study.points()
    tickets = points[points["arm"].isin(("dense", "ticket"))]
    means = tickets.groupby("round")[["density", "value"]].mean()
    best = None if verdict.round is None else means.loc[verdict.round]
    return replace(
        begun,
        rounds=len(means),
        density=float(means["density"].iloc[-1]),
        metric=evidence.metric,
        dense=float(means["value"].iloc[0]),
        best=None if best is None else float(best["value"]),
        best_density=None if best is None else float(best["density"]),
        values=tuple(means["value"]),
        says=f"{arms}. {verdict.headline}",
    )


def _of_ticket(path: Path) -> Entry:
    described = read_description(path)
    kept = described.kept
    if kept is None and described.total <= FREE:  # of an earlier version
        kept = Ticket.load(path).masks.kept
    number = described.provenance.get("round")
    return Entry(
        path,
        "ticket",
        _changed(path),
        round=number if isinstance(number, int) else None,
        density=None if kept is None else kept / max(1, described.total),
    )


def _value(metric: Metric | None, summaries: Iterable[RoundSummary]) -> float | None:
    return next((summary.value(metric) for summary in summaries), None)


def best_ticket(summaries: Sequence[RoundSummary], metric: Metric | None) -> RoundSummary | None:
    """The round after the first whose monitored metric is best; of equal ones the densest. None without any."""
    if metric is None or metric.chosen_by is None:
        return None
    chosen = Metric("best", metric.chosen_by)
    known = [(s, value) for s in summaries[1:] if (value := s.value(chosen)) is not None]
    best = max(known, key=lambda pair: metric.sign * pair[1], default=None)
    return None if best is None else best[0]


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _natural(path: Path) -> list[tuple[int, str]]:
    pieces = re.split(r"(\d+)", str(path))
    return [(int(piece) if piece.isdigit() else 0, piece) for piece in pieces]
