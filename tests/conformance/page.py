"""The page of the documentation that says what was tried: `python -m conformance.page` in `tests/` writes it anew."""

from __future__ import annotations

from pathlib import Path

from conformance.cases import AXES, Case, pairs, rows
from conformance.laws import LAWS, Trial

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
PAIRS = 24


def page() -> str:
    """Markdown with a table of each axis: every row is a test."""
    counts = ", ".join(f"{len(axis)} {axis.name.rstrip('s')}s" for axis in AXES)
    laws = [
        f"{n}. {getattr(Trial, law.replace(' ', '_')).__doc__}"
        for n, law in enumerate(LAWS, 1)
    ]
    intro = (
        f"{counts}: each is tried beside the base of the others, and {PAIRS} pairs of them, with two rounds of pruning, against"
        " these laws, all as equalities:"
    )
    how = (
        "`pytest tests/conformance` tries every eighth of them, with `-m slow` the others. *Refused* stands where a fit is"
        " stopped by name, before it trains or before anything wrong is stored, with words of the message. A package in"
        " brackets is not installed with the tests."
    )
    parts = ["# What holds with whose modules", intro, "\n".join(laws), how]
    possible = set(rows())
    for axis, field in zip(AXES, Case._fields, strict=False):
        lines = [
            f"## {axis.name.capitalize()}",
            "",
            "| | | laws 1 to 5 |",
            "|---|---|---|",
        ]
        for name, value in axis.items():
            tried = Case(**{field: name}) in possible  # type: ignore[arg-type]
            said = f"refused: *{value.refused}*" if value.refused else "hold"
            if value.gap is not None:
                said = f"hold, but for {value.gap[0]}: {value.gap[1]}"
            found = said if tried else "in pairs only"
            package = f" [{value.package}]" if value.package else ""
            lines.append(f"| {name} | {value.what}{package} | {found} |")
        parts.append("\n".join(lines))
    parts.append("## Pairs\n\n" + "\n".join(f"- {case}" for case in pairs(PAIRS)))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
