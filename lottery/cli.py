"""The command line: `lottery run`, `lottery inspect`."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lottery.recipes import RecipeCLI

_EPILOG = """\
examples:
  lottery run recipes/digits.yaml                  find a winning ticket in a minute
  lottery run recipes/digits.yaml --help           every setting of a recipe
  lottery inspect checkpoints/digits               the rounds of a run
  lottery inspect checkpoints/digits --round 7     the ticket of round 7, layer by layer
"""

_RUN_USAGE = "lottery run RECIPE [--SETTING VALUE ...]"

_RUN_DESCRIPTION = """\
Trains, prunes and rewinds as the recipe says. Stop it at any time: the same
command goes on where it stood.

A recipe is a LightningCLI config in YAML: `trainer`, `model`, `data` and
`lottery`, the arguments of LotteryTicket."""

_RUN_EPILOG = """\
examples:
  lottery run recipes/digits.yaml
  lottery run recipes/digits.yaml --help           every setting
  lottery run recipes/digits.yaml --print_config   the recipe, every default filled in

with other settings, in a run directory of their own:
  lottery run recipes/digits.yaml --lottery.pruning 0.3 --lottery.dirpath checkpoints/a
  lottery run recipes/digits.yaml --lottery.pruning '[0.5, 0.2, 0.1]' \\
      --lottery.rounds 3 --lottery.dirpath checkpoints/b
  lottery run recipes/digits.yaml --lottery.pruning.amount 0.5 \\
      --lottery.pruning.groups '{output.weight: 0.2}' --lottery.dirpath checkpoints/c
  lottery run recipes/digits.yaml --lottery.rewind 1ep --lottery.dirpath checkpoints/d
  lottery run recipes/digits.yaml --lottery.rewind '{rule: fine-tune, length: 5ep}' \\
      --lottery.dirpath checkpoints/e
  lottery run recipes/digits.yaml --seed_everything 1 --lottery.dirpath checkpoints/seed1
"""

_INSPECT_EPILOG = """\
examples:
  lottery inspect checkpoints/digits               density and metrics of each round
  lottery inspect checkpoints/digits --round 7     the ticket of round 7, layer by layer
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. Errors that a user can mend come without a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["run"]:  # its options are the recipe's
            return _run(arguments[1:])
        known = _parse(arguments)
        return _inspect(known.dirpath, known.round)
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
        prog="lottery",
        description="Find, keep and inspect lottery tickets.",
        epilog=_EPILOG,
        formatter_class=raw,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("run", help="run a recipe; go on with it if it was begun")
    inspect = commands.add_parser(
        "inspect",
        help="show a run, or the ticket of one round",
        description="Show a run, or the ticket of one round.",
        epilog=_INSPECT_EPILOG,
        formatter_class=raw,
    )
    inspect.add_argument("dirpath", type=Path, help="a run directory")
    inspect.add_argument("--round", type=int, help="show the ticket of this round")
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        inspect.error(f"unrecognized arguments: {' '.join(unknown)}")
    return known


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        print(f"usage: {_RUN_USAGE}\n\n{_RUN_DESCRIPTION}\n\n{_RUN_EPILOG}")
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    recipe, *overrides = arguments
    if not Path(recipe).is_file():
        found = sorted(str(path) for path in Path("recipes").glob("*.yaml"))
        raise ValueError(
            f"there is no recipe {recipe!r}"
            + (f"; recipes/ has {', '.join(found)}" if found else "")
        )
    from lottery.recipes import load

    _quieten()
    cli = load(
        recipe,
        overrides,
        usage=_RUN_USAGE,
        description=_RUN_DESCRIPTION,
        epilog=_RUN_EPILOG,
    )
    try:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    except SystemExit:  # Lightning's way to end after Ctrl+C
        if not cli.trainer.interrupted:
            raise
        print(f"\nstopped. The same command goes on:\n  {_command(arguments)}")
        return 130
    if not cli.trainer.fast_dev_run:
        _say_what_is_next(cli, recipe, overrides)
    return 0


def _say_what_is_next(cli: RecipeCLI, recipe: str, overrides: list[str]) -> None:
    from lottery.run import Run

    dirpath, ticket = cli.dirpath, cli.ticket
    finished = Run(dirpath).rounds
    lines = [f"lottery inspect {shlex.quote(str(dirpath))}"]
    if finished:
        lines.append(f"{lines[0]} --round {finished[-1]}")
    if ticket.rounds not in finished:
        lines.append(f"{_command([recipe, *overrides])}    # go on")
    elif ticket.pruning.densities is None:
        more = f"--lottery.rounds {ticket.rounds + 2}"
        rest = _without("--lottery.rounds", overrides)
        lines.append(f"{_command([recipe, *rest])} {more}    # two more rounds")
    print("\nnext:", *lines, sep="\n  ")


def _command(arguments: Sequence[str]) -> str:
    return f"lottery run {shlex.join(arguments)}"


def _without(option: str, arguments: Sequence[str]) -> list[str]:
    """Arguments less an option and its value."""
    left: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == option:
            next(rest, None)
        elif not argument.startswith(f"{option}="):
            left.append(argument)
    return left


def _inspect(dirpath: Path, round: int | None) -> int:
    from lottery import console
    from lottery.run import Run

    run = Run(dirpath)
    console.show(
        console.run_table(run)
        if round is None
        else console.ticket_table(run.ticket(round))
    )
    return 0


def _is_for_the_user(error: Exception) -> bool:
    """Whether the message is enough: what this package or the Trainer refuses, not a failure in someone's code."""
    from lottery.storage import StorageError

    if isinstance(error, StorageError):
        return True
    if type(error).__name__ == "MisconfigurationException":  # Lightning's
        return True
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    package = "" if place is None else place.tb_frame.f_globals["__package__"] or ""
    ours = package.partition(".")[0] in ("lottery", "jsonargparse")
    return ours and isinstance(error, (ValueError, OSError))


def _quieten() -> None:
    """Lightning's notices repeat in every round; warnings that matter still come through."""
    names = "pytorch_lightning", "lightning.pytorch", "lightning", "lightning_fabric"
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
        ".*is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message)


if __name__ == "__main__":
    sys.exit(main())
