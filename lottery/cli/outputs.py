"""Files that a command writes: nothing is overwritten."""

from __future__ import annotations

from pathlib import Path


def check_new(*paths: Path | None) -> None:
    """Make sure that there is nothing yet where a command will write.

    Raises:
        ValueError: there is; the message names it.
    """
    for path in paths:
        if path is not None and path.exists():
            raise ValueError(
                f"{path} exists already, and nothing is overwritten: choose another name with -o, or delete it"
            )
