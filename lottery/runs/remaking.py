"""Rounds that are trained again: what a run still has of where they start."""

from __future__ import annotations

from collections.abc import Iterable

from lottery.runs.layout import END, INITIAL, LAST, RETRIED, REWIND, START, TRAINED, masks_file, round_file
from lottery.runs.run import Run
from lottery.runs.starting_point import takes_from_the_end
from lottery.storage.directory import Directory


def missing_for(run: Run, directory: Directory, number: int, lost: Iterable[str] = ()) -> list[str]:
    """The files that a round's training needs and that are not there, by name.

    Args:
        run: the run.
        directory: its directory.
        number: of the round.
        lost: files that are damaged.
    """
    rewind = run.info.settings.rewind
    needed = [INITIAL, REWIND] if number else [INITIAL]
    if not number:
        needed.append(START if START in directory or rewind.to != "init" or rewind.rule == "fine-tune" else REWIND)
    else:
        needed.append(masks_file(max(run.begun, number)))
        if takes_from_the_end(rewind):
            needed.append(round_file(number - 1, END))
        if rewind.rule != "weights":
            needed.append(round_file(number - 1, TRAINED))
    lost = set(lost)
    return [name for name in needed if name in lost or not directory.holds(name)]


def unfinish(directory: Directory, number: int) -> None:
    """Have a round trained again, by the next fit; its masks stay, and rounds that do not need it."""
    prefix = round_file(number, "")
    names = [n for n in directory.files() if n.startswith(prefix) and n != round_file(number, RETRIED)]
    directory.commit({}, drop=[*names, LAST])
