"""`lottery export`: a network in a file that others read, checked before it is there."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.cli import network, recipe_arguments
from lottery.cli.outputs import check_new
from lottery.deploy.costs.tables import size
from lottery.deploy.export import formats
from lottery.deploy.export.exporting import export_as
from lottery.text import terminal
from lottery.text.numbers import percent

if TYPE_CHECKING:
    from lottery.deploy.compaction.compaction import Compaction

USAGE = "lottery export RECIPE --to FORMAT -o PATH [OPTION ...] [--SETTING VALUE ...]"

DESCRIPTION = f"""\
Writes a network to a file, with zeros where it was pruned, and checks it.

{network.WHICH}"""

EPILOG = """\
examples:
  lottery export recipes/digits.yaml --to onnx -o digits.onnx
  lottery export recipes/digits.yaml --to program -o digits.pt2 --round 7
  lottery export recipes/digits.yaml --to safetensors -o digits-small --compact
  lottery export recipes/digits.yaml --to sparse -o digits.sparse --values int8
  lottery export recipes/fashion_resnet.yaml --to state_dict -o resnet.pt \\
      --checkpoint last.ckpt --ticket resnet.ticket
"""


def export(arguments: list[str]) -> int:
    """Run `lottery export` with its arguments; returns the exit status."""
    parser = options_parser()
    if (status := recipe_arguments.help_status(parser, arguments)) is not None:
        raise SystemExit(status)
    known, recipe, overrides = recipe_arguments.parse(parser, arguments)
    _check(known)
    one = network.read(known, recipe, overrides)
    terminal.show(
        f"{one.origin}: {one.masks.kept:,} of {one.masks.total:,} weights kept ({percent(one.masks.density)})"
    )
    compacted = None
    if known.compact:
        from lottery.deploy.compaction.compaction import compact

        compacted = compact(one.module, one.example, keep=known.keep)
        _show_compaction(compacted)
    written = export_as(
        known.to,
        one.module if compacted is None else compacted.module,
        one.example,
        known.output,
        masks=one.masks,
        before=None if compacted is None else one.module,
        data=one.data,
        notes={"origin": one.origin, "recipe": one.recipe},
        **_options(known)[known.to],
    )
    terminal.show(f"wrote {known.output} ({size(written.size)}). {written.check}")
    print("\nload it:")
    for line in written.load:
        print(f"  {line}")
    return 0


def options_parser() -> argparse.ArgumentParser:
    """The command's own options; what it does not know are settings of the recipe."""
    about = formats.available()
    width = max(map(len, about))
    listed = "\n".join(f"  {name:{width}}  {line}" for name, line in about.items())
    known = [formats.find(name) for name in about]
    folders = [each.name for each in known if each.files(Path("x")) != [Path("x")]]
    parser = recipe_arguments.parser("export", USAGE, DESCRIPTION, f"formats:\n{listed}\n\n{EPILOG}")
    add = parser.add_argument
    add("--to", choices=list(about), required=True, metavar="FORMAT", help="a format below")
    add(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="PATH",
        help=f"the file; for {', '.join(folders)} a directory",
    )
    network.add_arguments(parser)
    add("--compact", action="store_true", help="first remove the units that nothing writes or nothing reads")
    add("--keep", nargs="+", default=[], metavar="PATTERN", help="globs of layers whose units stay then")
    settings = [option for each in known for option in each.options]
    for option in sorted(settings, key=lambda option: not option.choices):
        add(
            f"--{option.name}",
            type=option.type,
            choices=option.choices or None,
            metavar=option.metavar,
            help=option.about,
        )
    return parser


def _check(known: argparse.Namespace) -> None:
    """Refuse what is wrong before anything is loaded.

    Raises:
        ValueError: the output exists, or an option is of another format.
    """
    to, options = formats.find(known.to), _options(known)
    check_new(*to.files(known.output))
    for name, given in options.items():
        for option in given if name != to.name else ():
            raise ValueError(f"--{option} is of --to {name}, and --to {to.name} has none")
    if known.keep and not known.compact:
        raise ValueError("--keep says which units stay in --compact: give that too")
    to.check(**options[to.name])


def _options(known: argparse.Namespace) -> dict[str, dict[str, object]]:
    """For each format those of its options that were given."""
    return {
        name: {
            option.name: value
            for option in formats.find(name).options
            if (value := getattr(known, option.name)) is not None
        }
        for name in formats.available()
    }


def _show_compaction(compacted: Compaction) -> None:
    before, after = compacted.parameters_before, compacted.parameters_after
    table = terminal.light_table(["parameter", "before", "after", "weights", ""])
    for name, row in compacted.table().iterrows():
        shapes = [" x ".join(map(str, row[key])) for key in ("shape_before", "shape_after")]
        if shapes[0] != shapes[1]:
            table.add_row(str(name), *shapes, f"{row['after']:,}", percent(row["after"] / row["before"]))
    if table.row_count:
        terminal.show(table)
    terminal.show(
        f"compacted: {after:,} of {before:,} parameters are left ({percent(after / before)})"
        if after < before
        else f"compacted: no unit could be removed, {before:,} parameters stay"
    )
    for layer, reason in compacted.stayed.items():
        terminal.show(f"- {layer}: {reason}")
