"""`lottery find-rewind`: the earliest step from which a recipe's training is stable, written into a recipe."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from lottery import storage
from lottery.cli import recipe_arguments
from lottery.cli.outputs import check_new
from lottery.foundations.steps import Step
from lottery.studies.stability import THRESHOLD
from lottery.text import terminal
from lottery.text.numbers import percent

USAGE = "lottery find-rewind RECIPE [OPTION ...] [--SETTING VALUE ...]"

DESCRIPTION = """\
Finds the step to rewind to. The recipe's network is trained once, and its state
stored at several steps. From one of them on it is trained to the end once more, in
another order of the data; the error barrier on the line between both ends tells
whether the order still decided where training ends. The search bisects for the
earliest step whose barrier is shown to be below 2 % over seeds, and writes it into
a recipe.

Stop it at any time: the same command goes on."""

EPILOG = """\
examples:
  lottery find-rewind recipes/fashion_resnet.yaml
  lottery find-rewind recipes/fashion_resnet.yaml --steps init,20it,50it,1ep --seeds 3
  lottery find-rewind recipes/fashion_resnet.yaml --every     the whole curve
  lottery find-rewind recipes/fashion_resnet.yaml -o recipes/mine.yaml

Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis", ICML 2020.
"""


def find(arguments: list[str]) -> int:
    """Run `lottery find-rewind` with its arguments; returns the exit status."""
    parser = _parser()
    if (status := recipe_arguments.help_status(parser, arguments)) is not None:
        return status
    recipe, *options = arguments
    known, overrides = parser.parse_known_args(options)
    path = Path(recipe)
    output = known.output or path.with_name(f"{path.stem}_rewind.yaml")
    check_new(output)
    from lottery.studies.rewinding import find_rewind, written
    from lottery.training.recipes import quieten

    quieten()
    if path.is_file():
        written(path.read_text(), Step())  # refuses what it cannot write
    dirpath = known.dirpath or Path("checkpoints") / f"{path.stem}_rewind"
    try:
        found = find_rewind(
            recipe,
            dirpath,
            steps=known.steps,
            seeds=known.seeds,
            threshold=known.threshold,
            overrides=overrides,
            every=known.every,
            show=terminal.show,
        )
    except KeyboardInterrupt:
        command = shlex.join(["lottery", "find-rewind", *arguments])
        print(f"\nstopped. The same command goes on:\n  {command}", file=sys.stderr)
        return 130
    table = terminal.light_table(["step", "of the training", "error barrier", "at most" if found.sure else "", ""])
    for step, row in found.table().iterrows():
        share = percent(row["share"]) if found.length.total else ""
        stable = "stable" if row["stable"] else ""
        most = f"{row['high']:.2%}" if found.sure else ""
        table.add_row(str(step), share, f"{row['barrier']:.2%}", most, stable)
    terminal.show(table)
    if found.found is None:
        terminal.show(
            f"No tested step has a barrier {'shown to be ' * found.sure}below {found.threshold:.1%}: give later ones"
            f" with --steps{', or more --seeds' * found.sure}. No recipe was written."
        )
        return 1
    storage.write(output, written(path.read_text(), found.found).encode())
    over = f"over {len(found.heights[found.found])} seeds" if found.sure else "by a mean of too few seeds to be sure"
    terminal.show(f"Stable from {found.found} on, {over}. {output} rewinds to it.")
    print(f"\nnext:\n  lottery run {shlex.quote(str(output))}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = recipe_arguments.parser("find-rewind", USAGE, DESCRIPTION, EPILOG)
    add = parser.add_argument
    add(
        "--steps",
        type=lambda text: text.split(","),
        metavar="S,S",
        help="the candidates (default: init and the training's length over 128, 64, ... 2)",
    )
    add("--seeds", type=int, default=3, metavar="N", help="networks, for an interval 3 or more (default: 3)")
    add(
        "--threshold",
        type=float,
        default=THRESHOLD,
        help="the error barrier below which a training is stable (default: 0.02)",
    )
    add("--every", action="store_true", help="test every step, in place of bisecting")
    add("--dirpath", type=Path, metavar="DIR", help="where trainings are stored (default: checkpoints/RECIPE_rewind)")
    add("-o", "--output", type=Path, metavar="FILE", help="the recipe to write (default: RECIPE_rewind.yaml beside it)")
    return parser
