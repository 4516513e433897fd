"""`lottery run`: a recipe is trained, pruned and rewound; then what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lottery.training.recipes import RecipeCLI

USAGE = "lottery run RECIPE [--SETTING VALUE ...]"

DESCRIPTION = """\
Trains, prunes and rewinds as the recipe says. Stop it at any time: the same
command goes on where it stood.

A recipe is a LightningCLI config in YAML: `trainer`, `model`, `data` and
`lottery`, the arguments of LotteryTicket."""

EPILOG = """\
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


def run_recipe(arguments: list[str]) -> int:
    """Run `lottery run` with its arguments; returns the exit status."""
    if not arguments or arguments[0].startswith("-"):
        print(f"usage: {USAGE}\n\n{DESCRIPTION}\n\n{EPILOG}")
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    recipe, *overrides = arguments
    from lottery.training.recipes import load, quieten
    from lottery.training.stopping import Stopped

    quieten()
    cli = load(recipe, overrides, usage=USAGE, description=DESCRIPTION, epilog=EPILOG)
    try:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    except SystemExit as end:  # a signal, or Lightning's way to end after Ctrl+C
        if not cli.trainer.interrupted:
            raise
        print(f"\nstopped. The same command goes on:\n  {_command(arguments)}")
        return end.code if isinstance(end, Stopped) and isinstance(end.code, int) else 130
    if not cli.trainer.fast_dev_run:
        _say_what_is_next(cli, recipe, overrides)
    return 0


def _say_what_is_next(cli: RecipeCLI, recipe: str, overrides: list[str]) -> None:
    from lottery.runs.run import Run

    dirpath, ticket = cli.dirpath, cli.ticket
    finished = Run(dirpath).rounds
    path = shlex.quote(str(dirpath))
    lines = [f"lottery inspect {path}"]
    if finished:
        lines.append(f"lottery inspect {path} --round {finished[-1]}")
        lines.append(f"lottery report {path}")
        lines.append(_command([recipe, *overrides], "cost"))
    if ticket.rounds not in finished:
        lines.append(f"{_command([recipe, *overrides])}    # go on")
    elif ticket.pruning.densities is None and ticket.dynamic is None:
        more = f"--lottery.rounds {ticket.rounds + 2}"
        rest = _without("--lottery.rounds", overrides)
        lines.append(f"{_command([recipe, *rest])} {more}    # two more rounds")
    print("\nnext:", *lines, sep="\n  ")


def _command(arguments: Sequence[str], name: str = "run") -> str:
    return f"lottery {name} {shlex.join(arguments)}"


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
