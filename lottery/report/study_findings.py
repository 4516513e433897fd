"""What a study found and where it stands, in words."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lottery.report.facts import Fact
from lottery.report.findings import Card
from lottery.report.study_tables import p_text, value_text
from lottery.runs.run import Run
from lottery.storage.directory import Directory, StorageError
from lottery.text.numbers import percent
from lottery.text.tables import TextTable
from lottery.text.wording import listed

if TYPE_CHECKING:
    from lottery.studies import Study
    from lottery.studies.driver import Progress
    from lottery.studies.evidence import Evidence, Verdict


def judged(study: Study, **judging: Any) -> tuple[Evidence, str] | tuple[None, str]:
    """The evidence of a study, or why there is none yet: nothing is finished, or its metric needs a margin.

    Args:
        study: the study.
        judging: options of `Study.evidence`.
    """
    try:
        return study.evidence(**judging), ""
    except (ValueError, StorageError) as error:
        return None, str(error)


def ticket_runs(study: Study) -> list[Run]:
    """The runs of tickets of which a round is finished."""
    try:
        return study.compare().arms["ticket"]
    except ValueError:  # nothing to compare
        return []


def opening(study: Study) -> str:
    """What was done, in a sentence."""
    plan = study.plan
    seeds = f"{len(plan.seeds)} seed{'' if len(plan.seeds) == 1 else 's'}"
    found = f"Tickets of {plan.last} rounds and {seeds}."
    if not plan.arms:
        return found
    where = listed([str(number) for number in sorted(plan.rounds)])
    return (
        f"{found} In the place of those of round{'s' * (len(plan.rounds) > 1)} {where}, and with their budget, controls"
        f" were trained: {listed(list(plan.arms))}."
    )


def notes(study: Study, progress: Progress) -> list[str]:
    """What a reader must know before believing the numbers."""
    total = len(progress.cells)
    lacking = total - len(progress.done)
    found = []
    if lacking:
        state = (
            "is still being trained: report again later for the rest"
            if in_progress(study, progress)
            else f"is not complete: lottery study {shlex.quote(str(study.path))} goes on with it"
        )
        found.append(f"{study.path} {state}. {len(progress.done)} of {total} trainings are done.")
    for cell, error in progress.failed.items():
        reason = error.splitlines()[-1] if error else "no reason is known"
        log = study.path / f"{cell.key}.log"
        found.append(f"{cell.key} failed: {reason} (see {log}). It is left out.")
    return found


def status(study: Study, progress: Progress) -> str:
    """Where a study stands in a few words, such as "finished, 95/95"."""
    over = progress.done | progress.failed.keys()
    state = "finished"
    if len(over) < len(progress.cells):
        state = "running" if in_progress(study, progress) else "interrupted"
    failed = f", {len(progress.failed)} failed" if progress.failed else ""
    return f"{state}, {len(progress.done)}/{len(progress.cells)}{failed}"


def in_progress(study: Study, progress: Progress) -> bool:
    """Whether a process works on any of the cells that are not done."""
    left = [cell for cell in progress.cells if cell not in progress.done]
    return any(Directory(study.path / cell.key).in_use for cell in left)


def progress_table(study: Study, progress: Progress) -> TextTable:
    """How many trainings of each arm are done, and which are not."""
    rows = []
    for arm in study.arms:
        cells = [cell for cell in progress.cells if cell.arm == arm]
        done = sum(cell in progress.done for cell in cells)
        failed = [cell for cell in cells if cell in progress.failed]
        missing = [c for c in cells if c not in progress.done | progress.failed.keys()]
        which = [cell.key.partition("/")[2] for cell in [*failed, *missing]]
        rest = [f"{', '.join(which[:4])}{', ...' if len(which) > 4 else ''}"]
        counts = [f"{done}", f"{len(failed)}", f"{len(missing)}"]
        rows.append([arm, *counts, *(rest if which else ["-"])])
    header = ["arm", "done", "failed", "missing", "which"]
    caption = "A training of the arm ticket is a run of all its rounds."
    return TextTable(header, rows, caption)


def cards(evidence: Evidence) -> list[Card]:
    """Dense, the ticket that the verdict looks at, its gain over the controls that must be beaten, its speed."""
    verdict = evidence.verdict()
    if verdict.round is None:
        return []
    table = evidence.table()
    row = table.loc[verdict.round]
    seeds = f"{row['seeds']} seed{'' if row['seeds'] == 1 else 's'}"
    value = value_text(evidence, row["dense"])
    found = [Card("dense", value, f"{evidence.metric}, mean of {seeds}")]
    found.append(_of_the_ticket(evidence, verdict))
    for name in evidence.required:
        against = evidence.comparison(name)
        if verdict.round in against.index:
            its: Any = against.loc[verdict.round]
            shown = f"shown to be better, p {p_text(its['p_adjusted'])}"
            how = shown if its["wins"] else "not shown to be better"
            note = f"in round {verdict.round}: {how}"
            found.append(_gain_card(f"ticket over {name}", evidence, its, note))
    return [*found, *_of_the_speed(evidence, verdict.round)]


def _of_the_speed(evidence: Evidence, number: int) -> list[Card]:
    table = evidence.speed()
    if ("dense", number) not in table.index:
        return []
    speed: Any = table.loc[("dense", number)]
    if not math.isfinite(speed["ratio"]):
        return []
    there = math.isfinite(speed["low"])
    interval = f" ({speed['low']:.2f} to {speed['high']:.2f})" if there else ""
    note = f"of dense's steps to a margin below what both reach{interval}, in round {number}"
    return [Card("learning speed", f"{speed['ratio']:.2f}", note)]


def _of_the_ticket(evidence: Evidence, verdict: Verdict) -> Card:
    row: Any = evidence.table().loc[verdict.round]
    value, density = value_text(evidence, row["ticket"]), percent(row["density"])
    if not verdict.matching:
        note = f"in round {verdict.round}, with {density} of the weights: {value}"
        return _gain_card("largest gain over dense", evidence, row, note)
    change = evidence.text.change(row["gain"], row["low"], row["high"])
    note = f"of the weights, round {verdict.round}: {value}, {change} over dense"
    label = "winning ticket" if verdict.winning else "matching ticket"
    return Card(label, density, note)


def _gain_card(label: str, evidence: Evidence, row: Mapping[str, Any], note: str) -> Card:
    """A card of a gain, which has its unit and its interval in the note."""
    number = evidence.text.change(row["gain"]).removesuffix(" points")
    whole = evidence.text.change(row["gain"], row["low"], row["high"])
    return Card(label, number, f"{whole.removeprefix(number)} {note}".strip())


def settings(study: Study) -> list[Fact]:
    """What the study was asked for."""
    plan = study.plan
    found = [
        ("study", str(study.path)),
        ("seeds", ", ".join(map(str, plan.seeds))),
        ("controls", ", ".join(plan.arms)),
        ("rounds compared", ", ".join(map(str, plan.rounds))),
        ("margin", str(plan.margin or "")),
        ("level", str(plan.level or "")),
        ("looks", "; ".join(f"{look.when}, {len(look.seeds)} seeds" for look in plan.looks)),
        ("settings over the recipe", " ".join(plan.overrides)),
    ]
    return [(name, value) for name, value in found if value]


def command(study: Study, seeds: str | None = None) -> str:
    """The command that makes the study, or more of it with other seeds."""
    plan = study.plan
    numbers = [str(seed) for seed in plan.seeds]
    if plan.seeds == tuple(range(len(plan.seeds))):
        numbers = [str(len(plan.seeds))]
    parts = {
        "--dirpath": str(study.path),
        "--seeds": seeds or ",".join(numbers),
        "--controls": ",".join(
            control if isinstance(control, str) else arm for control, arm in zip(plan.controls, plan.arms, strict=True)
        ),
        "--rounds": ",".join(map(str, plan.rounds)),
    }
    kept = {"--margin": plan.margin, "--level": plan.level}
    parts |= {name: str(value) for name, value in kept.items() if value is not None}
    options = [word for pair in parts.items() for word in pair]
    recipe = str(study.path / "recipe.yaml")
    return shlex.join(["lottery", "study", recipe, *options, *plan.overrides])
