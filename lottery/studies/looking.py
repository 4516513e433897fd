"""Looks at a study: when it may be judged, and the note that is taken of it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lottery.foundations.statistics.looks import share
from lottery.foundations.statistics.paired import FEWEST
from lottery.storage.directory import StorageError
from lottery.studies.driver import Progress, standing
from lottery.studies.plan import Look, Plan
from lottery.text.wording import listed


@dataclass(frozen=True)
class Seen:
    """What a look at a study may judge.

    Args:
        plan: the study's, with its looks, this one too.
        seeds: those that are judged.
        waiting: why nothing is to be claimed yet; empty where something is.
        notes: what is left for another look.
    """

    plan: Plan
    seeds: Sequence[int]
    waiting: str = ""
    notes: Sequence[str] = ()


def look_at(path: Path, plan: Plan, now: bool = False) -> Seen:
    """Look at a study: what is complete and was not judged before is a new look, which is noted in its directory.

    The note is left out where the directory cannot be written.

    Args:
        path: the study.
        plan: its plan.
        now: judge the seeds that are complete, though others are not.
    """
    progress = standing(path, plan)
    new = _new_look(plan, progress, now)
    if new is not None:
        with contextlib.suppress(StorageError):
            plan = Plan.change(path, lambda there: _with(there or plan, new))
        if new not in plan.looks:
            plan = _with(plan, new)
    judged = [seed for look in plan.looks for seed in look.seeds]
    return Seen(plan, judged, *_what_is_left(plan, progress, judged))


def _new_look(plan: Plan, progress: Progress, now: bool) -> Look | None:
    judged = {seed for look in plan.looks for seed in look.seeds}
    left = {cell.seed for cell in progress.left}
    fresh = tuple(seed for seed in plan.seeds if seed not in judged and seed not in left)
    if left & set(plan.seeds) and not now:
        return None
    grown = bool(plan.looks) and not judged & left and _compared(plan) != (plan.looks[-1].arms, plan.looks[-1].rounds)
    if len(fresh) < FEWEST and not grown:
        return None
    fresh = fresh if len(fresh) >= FEWEST else ()
    when = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    return Look(fresh, *_compared(plan), when, share(len(plan.looks) + 1))


def _with(plan: Plan, new: Look) -> Plan:
    """The plan with a look; as it is where another process took the same."""
    if any(set(look.seeds) & set(new.seeds) for look in plan.looks):
        return plan
    return dataclasses.replace(plan, looks=(*plan.looks, new))


def _compared(plan: Plan) -> tuple[tuple[str, ...], tuple[int, ...]]:
    return tuple(plan.arms), plan.rounds


def _what_is_left(plan: Plan, progress: Progress, judged: Sequence[int]) -> tuple[str, Sequence[str]]:
    """Why nothing is claimed, and what waits for another look."""
    waiting = [seed for seed in plan.seeds if seed not in judged]
    done, total = len(progress.done | progress.failed.keys()), len(progress.cells)
    if not judged and progress.left:
        return f"{done} of {total} trainings are done, and a study is judged when all are", ()
    if not judged or not waiting:
        return "", ()
    seeds = f"{'Seed' if len(waiting) == 1 else 'Seeds'} {listed(list(map(str, waiting)))}"
    if progress.left:
        there = "it is" if len(waiting) == 1 else "they are"
        return "", [f"{seeds} will be judged at the next look, when {there} trained."]
    return "", [f"{seeds} will be judged at the next look, which needs {FEWEST} new seeds."]
