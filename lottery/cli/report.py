"""`lottery report`: a page about a study, or about runs."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lottery.cli import judging, listing
from lottery.report import write, write_study
from lottery.runs.run import Run
from lottery.text import terminal

_Write = Callable[[Path, Callable[[str], None]], list[Path]]


DESCRIPTION = """\
Write a page about a study or about runs: what was found and how sure that is,
plots, rounds and settings. They may still be going on.

Several runs are seeds of one arm: the page shows means and 95 % intervals.
NAME=RUN puts a run in the arm NAME, to compare arms."""

EPILOG = """\
examples:
  lottery report checkpoints/digits                       checkpoints/digits/report.html
  lottery report checkpoints/digits_study                 the verdict and its evidence
  lottery report checkpoints/digits -o digits.md          Markdown, pictures in digits_files/
  lottery report checkpoints/seed*                        seeds of one arm: ./report.html
  lottery report found=checkpoints/a found=checkpoints/b random=checkpoints/c
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a study, a run directory, or NAME=RUN")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="ends in .html or .md (default: report.html, in the directory of a study or of a single run)",
    )
    judging.add_arguments(parser)


def run(known: argparse.Namespace) -> None:
    report(known.runs, known.output, known.margin, known.level)


def report(names: Sequence[str], path: Path | None, margin: float | str | None, level: float | None) -> None:
    """Write a report and say where it is.

    Args:
        names: a study, or run directories and NAME=RUN.
        path: of the report; default: report.html in the directory of a study or of a single run.
        margin: of a study: how much worse than dense is still as good.
        level: of a study: chance of a false claim.

    Raises:
        ValueError: a study is not alone, or a margin or a level is given for runs.
        StorageError: there is no such study or run.
    """
    import matplotlib

    draw, directory = _writer(names, margin, level)
    path = path or directory / "report.html"
    matplotlib.use("agg")  # draws without a screen
    with _progress() as doing:
        written = draw(path, doing)
    beside = len(written) - 1
    pictures = f", {beside} pictures in {written[1].parent}" if beside else ""
    size = sum(file.stat().st_size for file in written)
    terminal.show(f"{path} ({size / 1000:,.0f} kB{pictures})")


def _writer(names: Sequence[str], margin: float | str | None, level: float | None) -> tuple[_Write, Path]:
    """What writes the report that is asked for, and the directory where it is expected."""
    studies = [text for text in names if listing.is_study(_path_of(text))]
    if not studies:
        judging.check_unused(argparse.Namespace(margin=margin, level=level))
        arms = _arms(names)
        runs = [run for members in arms.values() for run in members]
        directory = runs[0].path if len(runs) == 1 else Path()
        return lambda path, doing: write(arms, path, doing), directory
    directory = _path_of(studies[0])
    if len(names) > 1 or not Path(names[0]).exists():
        raise ValueError(
            f"{directory} is a study, which has arms of its own and a page for itself: `lottery report {directory}`."
            f" Its runs can be compared with others, such as {directory / 'ticket' / 'seed-0'}"
        )
    from lottery.studies import Study

    study = Study(directory)
    return (lambda path, doing: write_study(study, path, doing, margin, level), directory)


def _path_of(text: str) -> Path:
    """The path in RUN or NAME=RUN."""
    whole = Path(text)
    return whole if whole.exists() else Path(text.partition("=")[2] or text)


def _arms(texts: Sequence[str]) -> dict[str, list[Run]]:
    """Runs by the name of their arm; a path that exists is never taken for NAME=RUN."""
    arms: dict[str, list[Run]] = {}
    for text in texts:
        name, path = "ticket", text
        if "=" in text and not Path(text).exists():
            name, _, path = text.partition("=")
            if not name or not Path(path).exists():
                raise ValueError(
                    f"{text!r} is neither a path nor NAME=RUN: there is no directory {path!r}"
                    if name
                    else f"{text!r} names no arm: write NAME=RUN, or RUN alone"
                )
        arms.setdefault(name, []).append(Run(path))
    return arms


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Shows in a terminal what is being done."""
    if not terminal.console().is_terminal:
        yield lambda what: None
        return
    with terminal.console().status("reading") as status:
        yield lambda what: status.update(f"drawing: {what}")
