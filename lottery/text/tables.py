"""Tables of text, for the terminal and for pages."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

MOST_ROWS = 16
"""Of a table that is not folded in a notebook."""


@dataclass(frozen=True)
class TextTable:
    """A header, rows of cells, and what the columns mean."""

    header: list[str]
    rows: list[list[str]]
    caption: str = ""

    def html(self, headline: str) -> str:
        """A line in bold, the table below it, and its caption; a long table is folded away.

        Example:
            >>> TextTable(["kept"], [["50 %"]]).html("half of it")
            '<p><b>half of it</b></p><table><tr><th>kept</th></tr><tr><td>50 %</td></tr></table>'
        """
        lines = [_row("th", self.header), *(_row("td", row) for row in self.rows)]
        table = f"<table>{''.join(lines)}</table>"
        if len(self.rows) > MOST_ROWS:
            table = f"<details><summary>{len(self.rows)} rows</summary>{table}</details>"
        caption = f"<p>{escape(self.caption)}</p>" if self.caption else ""
        return f"<p><b>{escape(headline)}</b></p>{table}{caption}"


def _row(tag: str, cells: list[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
