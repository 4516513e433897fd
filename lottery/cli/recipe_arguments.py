"""Arguments of commands that take a recipe: RECIPE, the command's own options, settings of the recipe."""

from __future__ import annotations

import argparse


def parser(command: str, usage: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """For a command's own options, which are never abbreviated: what it does not know are settings of the recipe."""
    return argparse.ArgumentParser(
        prog=f"lottery {command}",
        usage=usage,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def help_status(options: argparse.ArgumentParser, arguments: list[str]) -> int | None:
    """Print the help where no recipe comes first, and give the exit status: 0 where help was asked for, else 2."""
    if arguments and not arguments[0].startswith("-"):
        return None
    options.print_help()
    return 0 if arguments and arguments[0] in ("-h", "--help") else 2


def parse(options: argparse.ArgumentParser, arguments: list[str]) -> tuple[argparse.Namespace, str, list[str]]:
    """A command's own options, its recipe, and settings of the recipe."""
    recipe, *rest = arguments
    known, overrides = options.parse_known_args(rest)
    return known, recipe, [text for text in overrides if text != "--"]
