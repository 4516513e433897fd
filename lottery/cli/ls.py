"""`lottery ls`: studies, runs and ticket files."""

from __future__ import annotations

import argparse
from pathlib import Path

from lottery.cli import listing, views
from lottery.text import terminal

EPILOG = """\
Best is the round that validation chose among the pruned ones, with its density;
a narrow terminal shows fewer columns.

A study is one entry, with what it says below the table; its runs are listed by
`lottery ls STUDY/ticket` and the like.

examples:
  lottery ls                     what is in checkpoints
  lottery ls experiments/2026    what is below another directory
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directory",
        type=Path,
        nargs="?",
        default=Path("checkpoints"),
        metavar="DIR",
        help="where to look, at any depth (default: checkpoints)",
    )


def run(known: argparse.Namespace) -> None:
    terminal.show(views.listing_view(listing.entries(known.directory), known.directory))
