"""The command line: `lottery COMMAND`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

_EPILOG = """\
examples:
  lottery run recipes/digits.yaml                  find a winning ticket in a minute
  lottery run recipes/digits.yaml --help           every setting of a recipe
  lottery prune recipes/digits.yaml --score synflow --density 0.1 -o a.ticket
  lottery study recipes/digits.yaml --seeds 5      is it a winning ticket?
  lottery ls                                       the runs and tickets in checkpoints
  lottery inspect checkpoints/digits               the rounds of a run
  lottery inspect checkpoints/digits --round 7     the ticket of round 7, layer by layer
  lottery report checkpoints/digits                a page with plots
  lottery cost recipes/digits.yaml                 is it smaller, is it faster?
  lottery export recipes/digits.yaml --to onnx -o digits.onnx
"""

# commands that take a recipe, whose settings are options too: room in this folder, function, summary
_OF_RECIPES = {
    "run": ("run", "run_recipe", "run a recipe; go on with it if it was begun"),
    "prune": ("prune", "prune", "score and prune once, without training"),
    "study": ("study", "study", "seeds and controls: is it a winning ticket?"),
    "find-rewind": ("find_rewind", "find", "the earliest step that is stable to rewind to"),
    "cost": ("cost", "cost", "what a ticket saves: bytes, FLOPs, latency"),
    "export": ("export", "export", "write a network to a file that others read"),
}

_LS_EPILOG = """\
Best is the round that validation chose among the pruned ones, with its density;
a narrow terminal shows fewer columns.

A study is one entry, with what it says below the table; its runs are listed by
`lottery ls STUDY/ticket` and the like.

examples:
  lottery ls                     what is in checkpoints
  lottery ls experiments/2026    what is below another directory
"""

_INSPECT_EPILOG = """\
A narrow terminal shows fewer controls of a study.

examples:
  lottery inspect checkpoints/digits               density and metrics of each round
  lottery inspect checkpoints/digits --round 7     the ticket of round 7, layer by layer
  lottery inspect checkpoints/digits_study         what is done of a study, and its verdict
  lottery inspect digits-r7.ticket                 a ticket file: layers, origin
"""

_REPORT_DESCRIPTION = """\
Write a page about a study or about runs: what was found and how sure that is,
plots, rounds and settings. They may still be going on.

Several runs are seeds of one arm: the page shows means and 95 % intervals.
NAME=RUN puts a run in the arm NAME, to compare arms."""

_REPORT_EPILOG = """\
examples:
  lottery report checkpoints/digits                       checkpoints/digits/report.html
  lottery report checkpoints/digits_study                 the verdict and its evidence
  lottery report checkpoints/digits -o digits.md          Markdown, pictures in digits_files/
  lottery report checkpoints/seed*                        seeds of one arm: ./report.html
  lottery report found=checkpoints/a found=checkpoints/b random=checkpoints/c
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. Errors that a user can mend come without a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in _OF_RECIPES:
            room, function, _ = _OF_RECIPES[arguments[0]]
            run = getattr(import_module(f"lottery.cli.{room}"), function)
            return run(arguments[1:])
        known = _parse(arguments)
        known.command(known)
        return 0
    except KeyboardInterrupt:
        print("\nstopped.", file=sys.stderr)
        return 130
    except Exception as error:
        if not _is_for_the_user(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parse(arguments: list[str]) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="lottery", description="Find, keep and inspect lottery tickets.", epilog=_EPILOG, formatter_class=raw
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, does: Callable[[argparse.Namespace], None], summary: str, epilog: str, description: str | None = None
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=summary,
            description=description or f"{summary.capitalize()}.",
            epilog=epilog,
            formatter_class=raw,
        )
        added.set_defaults(command=does, parser=added)
        return added

    for name, (_, _, summary) in _OF_RECIPES.items():
        commands.add_parser(name, help=summary)

    ls = command("ls", _ls, "list studies, runs and ticket files", _LS_EPILOG)
    ls.add_argument(
        "directory",
        type=Path,
        nargs="?",
        default=Path("checkpoints"),
        metavar="DIR",
        help="where to look, at any depth (default: checkpoints)",
    )

    inspect = command(
        "inspect", _inspect, "show a study, a run, the ticket of one round, or a ticket file", _INSPECT_EPILOG
    )
    inspect.add_argument("path", type=Path, help="a study, a run directory or a ticket file")
    inspect.add_argument("--round", type=int, help="show the ticket of this round")

    report = command(
        "report",
        _report,
        "write a page about a study, one run or several, with plots",
        _REPORT_EPILOG,
        _REPORT_DESCRIPTION,
    )
    report.add_argument("runs", nargs="+", metavar="RUN", help="a study, a run directory, or NAME=RUN")
    report.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="ends in .html or .md (default: report.html, in the directory of a study or of a single run)",
    )
    report.add_argument(
        "--margin",
        type=float,
        help="of a study: how much worse than dense still counts as matching (default: 0.01 of accuracy)",
    )
    from lottery.cli import plan

    plan.add_arguments(
        command("plan", plan.plan, "propose rounds and epochs for a budget, from what a study measured", plan.EPILOG)
    )
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        known.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return known


def _ls(known: argparse.Namespace) -> None:
    from lottery.cli import listing, views
    from lottery.text import terminal

    directory = known.directory
    terminal.show(views.listing_view(listing.entries(directory), directory))


def _inspect(known: argparse.Namespace) -> None:
    from lottery.cli import listing, views
    from lottery.runs.run import Run
    from lottery.text import terminal
    from lottery.tickets.ticket import Ticket

    path, round = known.path, known.round
    if path.is_file() or (path.suffix == ".ticket" and not path.exists()):
        if round is not None:
            raise ValueError(f"{path} is a ticket file, which holds one round: leave out --round {round}")
        view = views.ticket_view(Ticket.load(path))
    elif listing.is_study(path):
        from lottery.studies import Study

        if round is not None:
            raise ValueError(
                f"{path} is a study, which has a ticket of round {round} for each seed: name a run of it, as in"
                f" `lottery inspect {path / 'ticket' / 'seed-0'} --round {round}`"
            )
        view = views.study_view(Study(path))
    elif round is not None:
        view = views.ticket_view(Run(path).ticket(round))
    else:
        view = views.run_view(Run(path))
    terminal.show(view)


def _report(known: argparse.Namespace) -> None:
    from lottery.cli.report import report

    report(known.runs, known.output, known.margin)


def _is_for_the_user(error: Exception) -> bool:
    """Whether the message is enough: what this package or the Trainer refuses, not a failure in someone's code."""
    from lottery.storage.directory import StorageError

    if isinstance(error, StorageError):
        return True
    if type(error).__name__ == "MisconfigurationException":  # Lightning's
        return True
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    package = "" if place is None else place.tb_frame.f_globals["__package__"] or ""
    ours = package.partition(".")[0] in ("lottery", "jsonargparse")
    return ours and isinstance(error, (ValueError, OSError, ImportError))
