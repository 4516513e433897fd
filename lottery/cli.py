"""The command line: `lottery run`, `lottery inspect`."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from lottery.storage import StorageError

_EPILOG = """examples:
  lottery run recipes/digits.yaml                          find a winning ticket in a minute
  lottery run recipes/digits.yaml --lottery.rounds 5       with other settings
  lottery run recipes/digits.yaml --help                   every setting of a recipe
  lottery inspect checkpoints/digits                       the rounds of a run
  lottery inspect checkpoints/digits --round 7             the ticket of round 7, layer by layer
"""

_RUN_HELP = """usage: lottery run RECIPE [--SETTING VALUE ...]

Trains, prunes and rewinds as the recipe says. Stop it at any time; the same command goes on where it stood.

A recipe is a LightningCLI config: `trainer`, `model`, `data` and `lottery`, the arguments of LotteryTicket.

examples:
  lottery run recipes/digits.yaml
  lottery run recipes/digits.yaml --lottery.rounds 5 --lottery.dirpath checkpoints/short
  lottery run recipes/digits.yaml --trainer.max_epochs 5 --seed_everything 1 --lottery.dirpath checkpoints/seed1
  lottery run recipes/fashion_lenet.yaml --data.init_args.root /data/fashion-mnist
  lottery run recipes/digits.yaml --print_config        the recipe with every default filled in
  lottery run recipes/digits.yaml --help                every setting
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. Errors that a user can mend come without a traceback."""
    parser = argparse.ArgumentParser(
        prog="lottery",
        description="Find, keep and inspect lottery tickets.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run", help="run a recipe; go on with it if it was begun", add_help=False
    )
    run.add_argument("recipe", nargs="?")
    inspect = commands.add_parser(
        "inspect",
        help="show a run, or the ticket of one round",
        epilog="example: lottery inspect checkpoints/digits --round 7",
    )
    inspect.add_argument("dirpath", type=Path, help="a run directory")
    inspect.add_argument("--round", type=int, help="show the ticket of this round")
    known, rest = parser.parse_known_args(argv)
    try:
        if known.command == "run":
            return _run(known.recipe, rest)
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        return _inspect(known.dirpath, known.round)
    except (StorageError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(recipe: str | None, overrides: list[str]) -> int:
    if recipe is None:
        print(_RUN_HELP)
        return 0 if "--help" in overrides or "-h" in overrides else 2
    if not Path(recipe).is_file():
        found = sorted(str(path) for path in Path("recipes").glob("*.yaml"))
        raise ValueError(
            f"there is no recipe {recipe!r}"
            + (f"; recipes/ has {', '.join(found)}" if found else "")
        )
    from lottery.recipes import load

    _quieten()
    sys.argv[1:] = []  # LightningCLI warns of arguments that it was not given
    cli = load(recipe, overrides)
    dirpath = cli.trainer_ticket.dirpath
    try:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    except SystemExit:  # Lightning's way to end after Ctrl+C
        print(f"\nstopped. The same command goes on where it stood ({dirpath}).")
        raise
    print(
        f"\nnext:\n  lottery inspect {dirpath}\n  lottery inspect {dirpath} --round {cli.trainer_ticket.rounds}"
        f"\n  lottery run {recipe} --lottery.rounds {cli.trainer_ticket.rounds + 2}    # two more rounds"
    )
    return 0


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


def _quieten() -> None:
    """Lightning's notices repeat in every round; warnings that matter still come through."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
        ".*is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message)


if __name__ == "__main__":
    sys.exit(main())
