"""`lottery verify`: whether a run, a study or a file is whole, and what can be made again."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from lottery.cli import listing
from lottery.runs.layout import run_directory
from lottery.runs.verification import Finding, verify_run
from lottery.storage.directory import StorageError
from lottery.text import terminal
from lottery.tickets.ticket import Ticket

DESCRIPTION = """\
Checks every size, hash, type and id, and whether the parts go together: masks
nested and of the parameters' shapes, pruned weights zero, weights finite,
summaries of what the masks keep, states of this run. Ends with status 0 where
all is whole, with 1 where something is wrong."""

EPILOG = """\
--repair does what can be done, and says what cannot. Where a round is damaged
that can be trained again, it counts as unfinished from then on: run again what
began the run, and it comes out with the same bits.

examples:
  lottery verify checkpoints/digits
  lottery verify checkpoints/digits_study --repair
  lottery verify digits-r07.ticket && scp digits-r07.ticket elsewhere:
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a run directory, a study, a ticket or a sparse file")
    parser.add_argument("--repair", action="store_true", help="make again what can be made again")


def run(known: argparse.Namespace) -> int:
    """Returns the exit status."""
    left, mended = 0, 0
    for finding in _findings(known.path):
        terminal.show(f"{terminal.one_line(str(finding.file))}: {finding.what}")
        if finding.way is None:
            terminal.show("  cannot be made again: restore it from a copy")
            left += 1
        elif known.repair:
            directory = _directory_of(known.path, finding)
            with run_directory(directory).locked():
                finding.mend()
            terminal.show(f"  {finding.way}")
            mended += 1
        else:
            terminal.show(f"  with --repair: {finding.way}")
            left += 1
    if not left and not mended:
        terminal.show(f"{known.path}: whole")
    return 1 if left else 0


def _findings(path: Path) -> Iterator[Finding]:
    if path.is_file():
        yield from _of_file(path)
    elif listing.is_study(path):
        yield from _of_study(path)
    elif path.is_dir():
        yield from verify_run(path)
    else:
        raise StorageError(f"{path} does not exist")


def _of_file(path: Path) -> Iterator[Finding]:
    from lottery.deploy.sparse.file import load_sparse

    try:
        ticket = Ticket.load(path)
    except StorageError as error:
        if "not a ticket (Ticket.save" not in str(error):
            yield Finding(path, str(error).removeprefix(f"{path} "))
            return
        try:
            load_sparse(path)
        except StorageError as other:
            yield Finding(path, str(other).removeprefix(f"{path} "))
        return
    broken = [name for name, weight in ticket.weights.items() if name in ticket.masks and not weight.isfinite().all()]
    if broken:
        yield Finding(path, f"the weights of {', '.join(broken)} are NaN or infinite")


def _of_study(path: Path) -> Iterator[Finding]:
    from lottery.studies import Study

    for cell in Study(path).plan.cells():
        if (path / cell.key).exists():
            yield from verify_run(path / cell.key)


def _directory_of(path: Path, finding: Finding) -> Path:
    """The run directory that a finding is of, at or below a path."""
    inside = [path, *(path / part for part in finding.file.absolute().relative_to(path.absolute()).parents)]
    deepest = sorted(inside, key=lambda place: len(place.parts), reverse=True)
    return next((place for place in deepest if (place / "run.json").exists()), path)
