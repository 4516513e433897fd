"""The page of the documentation that says what was tried: `python -m conformance.page` in `tests/` writes it anew."""

from __future__ import annotations

from pathlib import Path

from conformance.cases import AXES, Case, alone
from conformance.laws import LAWS, Trial

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def page() -> str:
    """Markdown with a table of each axis: every row is a test."""
    counts = ", ".join(f"{len(axis)} {axis.name.rstrip('s')}s" for axis in AXES)
    laws = [f"{n}. {getattr(Trial, law.replace(' ', '_')).__doc__}" for n, law in enumerate(LAWS, 1)]
    intro = (
        f"{counts}: each is tried beside the base of the others with two rounds of pruning, and in cases in which every"
        " two of different tables meet, against these laws, all as equalities:"
    )
    how = (
        "`pytest tests/conformance` tries every eighth of them, with `-m slow` the others. Of the cases in which two"
        " meet (over 2,000) it tries the first 8, and `CONFORMANCE_CASES=0:500 pytest tests/conformance -m slow` the"
        " first 500. *Refused* stands where a fit is stopped by name, before it trains or before anything wrong is"
        " stored, with words of the message. A package in brackets is needed for the row, which is left out where it is"
        " not installed: the extra `conformance` brings most; `chemprop`, `darts` and `pytorch-forecasting` install"
        " beside it."
    )
    parts = ["# What holds with whose modules", intro, "\n".join(laws), how]
    for axis, field in zip(AXES, Case._fields, strict=False):
        lines = [f"## {axis.name.capitalize()}", "", "| | | laws 1 to 5 |", "|---|---|---|"]
        for name, value in axis.items():
            beside = str(alone(field, name)).replace(name, "").strip(" +")
            said = f"refused: *{value.refused}*" if value.refused else "hold"
            if value.gap is not None:
                said = f"hold, but for {value.gap[0]}: {value.gap[1]}"
            found = f"{said} (beside {beside})" if beside not in ("", "base") else said
            package = f" [{value.package}]" if value.package else ""
            lines.append(f"| {name} | {value.what}{package} | {found} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
