"""Options of commands that show the verdict on a study."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def add_arguments(parser: argparse.ArgumentParser, default: str = "the study's") -> None:
    """Add ``--margin`` and ``--level``.

    Args:
        parser: of the command.
        default: what holds where they are not given, in words.
    """
    add: Callable[..., Any] = parser.add_argument
    margin = "how much worse than dense still counts as matching, as 0.01, or 10%% of dense's error"
    add("--margin", type=_margin, metavar="M", help=f"of a study: {margin} (default: {default})")
    add("--level", type=float, metavar="P", help=f"of a study: chance of a false claim (default: {default})")


def check_unused(known: argparse.Namespace) -> None:
    """Refuse the options where there is no study to judge.

    Raises:
        ValueError: one was given.
    """
    for name in ("margin", "level", "now"):
        if getattr(known, name, None):
            raise ValueError(f"--{name} is for the verdict on a study: leave it out")


def _margin(text: str) -> float | str:
    return text if text.strip().endswith("%") else float(text)
