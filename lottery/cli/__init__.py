"""The command line: `lottery COMMAND`."""

from lottery.cli.commands import main

__all__ = ["main"]
