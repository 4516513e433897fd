"""The commands, and what runs the one that is named."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

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
  lottery verify checkpoints/digits                is everything whole?
  lottery cost recipes/digits.yaml                 is it smaller, is it faster?
  lottery export recipes/digits.yaml --to onnx -o digits.onnx
"""

# commands that take a recipe, whose settings are options too: file in this folder, function, summary
_OF_RECIPES = {
    "run": ("run", "run_recipe", "run a recipe; go on with it if it was begun"),
    "prune": ("prune", "prune", "score and prune once, without training"),
    "study": ("study", "study", "seeds and controls: is it a winning ticket?"),
    "find-rewind": ("find_rewind", "find", "the earliest step that is stable to rewind to"),
    "cost": ("cost", "cost", "what a ticket saves: bytes, FLOPs, latency"),
    "export": ("export", "export", "write a network to a file that others read"),
}

# the others: each has a file of its name in this folder, with EPILOG, `add_arguments` and `run`
_OTHERS = {
    "ls": "list studies, runs and ticket files",
    "inspect": "show a study, a run, the ticket of one round, or a ticket file",
    "report": "write a page about a study, one run or several, with plots",
    "verify": "check that a run, a study or a file is whole; make again what can be",
    "retry": "have a round that diverged trained again, otherwise",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. Errors that a user can mend come without a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in _OF_RECIPES:
            file, function, _ = _OF_RECIPES[arguments[0]]
            run = getattr(import_module(f"lottery.cli.{file}"), function)
            return run(arguments[1:])
        known = _parse(arguments)
        return known.run(known) or 0
    except KeyboardInterrupt:
        print("\nstopped.", file=sys.stderr)
        return 130
    except Exception as error:
        if not _is_for_the_user(error):
            raise
        from lottery.text.terminal import printable

        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2


def _parse(arguments: list[str]) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="lottery", description="Find, keep and inspect lottery tickets.", epilog=_EPILOG, formatter_class=raw
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (_, _, summary) in _OF_RECIPES.items():
        commands.add_parser(name, help=summary)
    for name, summary in _OTHERS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary.capitalize()}.", formatter_class=raw)
        if name in arguments[:1]:
            file = import_module(f"lottery.cli.{name}")
            command.epilog = file.EPILOG
            command.description = getattr(file, "DESCRIPTION", command.description)
            file.add_arguments(command)
            command.set_defaults(run=file.run, parser=command)
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        known.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return known


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
