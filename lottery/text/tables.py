"""Tables of text, for the terminal and for pages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextTable:
    """A header, a row of cells for each finished round, and what the columns mean."""

    header: list[str]
    rows: list[list[str]]
    caption: str
