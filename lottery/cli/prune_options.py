"""The options of `lottery prune`, and its help."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from lottery.cli import recipe_arguments
from lottery.cli.outputs import check_new
from lottery.pruning import scores, structures
from lottery.pruning.amounts import Scope, check_fraction
from lottery.tickets.ticket_file import Kind

USAGE = "lottery prune RECIPE -o FILE.ticket [OPTION ...] [--SETTING VALUE ...]"

DESCRIPTION = """\
Scores and prunes once, without training, and writes a ticket.

Model and data are the recipe's. The weights are those of a checkpoint, those that
a round of a run ended with, or else those that `lottery run RECIPE` starts from.
What is not said here is as in the recipe: amount, score, scope, structure, steps,
include, exclude. Settings such as --model.init_args.hidden change the recipe."""

EPILOG = """\
examples:
  lottery prune recipes/digits.yaml --density 0.1 --score synflow --steps 100 \\
      --scope global -o synflow.ticket
  lottery prune recipes/digits.yaml --density 0.1 --score '{name: snip, batches: 4}' \\
      -o snip.ticket
  lottery prune recipes/digits.yaml --density 0.05 --run checkpoints/digits --round 3 \\
      -o digits-r3.ticket --weights surviving
  lottery prune recipes/digits.yaml --density 0.3 --structure channel \\
      -o narrow.ticket --model.init_args.hidden '[200]'
"""

_SCOPES: dict[Scope, str] = {
    "global": "All prunable weights compete with each other.",
    "layerwise": "The weights of each parameter compete: each is pruned by the same amount.",
    "rows": "The weights of each output row compete: each is pruned by the same amount; for wanda.",
    "uniform": "As layerwise, every parameter brought to the density of the whole.",
    "erdos-renyi": "Denser where a layer is smaller: (in + out) / (in · out), scaled.",
    "erk": "As erdos-renyi, with the kernel sizes of convolutions.",
}


def setting(option: str, text: str) -> Any:
    """A score or structure as written: a name, or in braces a mapping of a name and settings.

    Raises:
        ValueError: the braces hold no mapping.

    Example:
        >>> setting("score", "{name: snip, batches: 4}"), setting("structure", "2:4")
        ({'name': 'snip', 'batches': 4}, '2:4')
    """
    import yaml

    if not text.lstrip().startswith("{"):
        return text
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        found = None
    if not isinstance(found, Mapping):
        raise ValueError(  # noqa: TRY004 (a value of the user's, as the others)
            f"--{option} {text!r} cannot be read; write a name, or '{{name: NAME, SETTING: VALUE}}'"
        )
    return found


def check(known: argparse.Namespace) -> None:
    """Refuse what is wrong before anything is loaded.

    Raises:
        ValueError: the output exists, the density is no fraction, or a round is of no run.
    """
    check_new(known.output)
    if known.density is not None:
        check_fraction("--density", known.density)
    if known.round is not None and known.run is None:
        raise ValueError(f"--round {known.round} is of which run? Give --run RUN")


def options_parser() -> argparse.ArgumentParser:
    """The command's own options; what it does not know are settings of the recipe."""
    parser = recipe_arguments.parser("prune", USAGE, DESCRIPTION, f"{_listed()}\n{EPILOG}")
    add = parser.add_argument
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="the ticket")
    add("--density", type=float, metavar="D", help="kept / prunable, in (0, 1)")
    add("--score", metavar="NAME", help="a score below, or '{name: ..., SETTING: ...}'")
    add("--scope", choices=list(_SCOPES), metavar="NAME", help="a scope below")
    add("--structure", metavar="NAME", help="a structure below, such as 2:4")
    add("--steps", type=int, metavar="N", help="decide in N steps, each scored anew")
    add("--include", nargs="+", metavar="PATTERN", help="globs of parameters to prune")
    add("--exclude", nargs="+", metavar="PATTERN", help="globs of those to leave alone")
    add("--collapse", choices=("stop", "warn"), help="what to do when a layer or all paths would be cut")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--checkpoint", metavar="FILE", help="the weights: a Lightning checkpoint or a state dict")
    weights.add_argument("--run", metavar="RUN", help="the weights: those a round of this run ended with")
    add("--round", type=int, metavar="R", help="the round (default: the last one)")
    add(
        "--seed",
        type=int,
        metavar="N",
        help="of the order in which the score sees data, and of its draws; by default as in `lottery run`"
        " (--seed_everything N gives other weights)",
    )
    add("--weights", choices=get_args(Kind), default="all", help="which start weights go into the file (default: all)")
    return parser


def _listed() -> str:
    """Every score, scope and structure with a line about it."""
    parts = []
    for what, entries in (("scores", scores.available()), ("scopes", _SCOPES), ("structures", structures.available())):
        width = max(map(len, entries))
        lines = [f"  {name:{width}}  {about}" for name, about in entries.items()]
        parts.append("\n".join([f"{what}:", *lines]))
    return "\n\n".join(parts) + "\n"
