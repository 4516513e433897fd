"""A report as HTML or Markdown."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery import storage

if TYPE_CHECKING:
    from jinja2 import Environment

    from lottery.report import Report
    from lottery.report.figures import Picture


def write_html(report: Report, path: Path) -> list[Path]:
    """Write one file that needs no other."""
    text = _templates().get_template("page.html").render(report=report)
    storage.write(path, text.encode())
    return [path]


def write_markdown(report: Report, path: Path) -> list[Path]:
    """Write a Markdown file, and its pictures into a directory beside it."""
    folder = path.with_name(f"{path.stem}_files")
    files: dict[Picture, Path] = {}
    shared = {picture: "" for picture in report.pictures}
    own = {
        picture: f"{number}-" if len(report.arms) > 1 else ""
        for number, arm in enumerate(report.arms, 1)
        for picture in arm.pictures
    }
    for picture, prefix in {**shared, **own}.items():
        files[picture] = folder / f"{prefix}{picture.kind}.png"
        storage.write(files[picture], picture.data)
    links = {picture: f"{folder.name}/{file.name}" for picture, file in files.items()}
    text = _templates().get_template("page.md").render(report=report, links=links)
    storage.write(path, text.encode())
    return [path, *files.values()]


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    environment.filters["flowing"] = lambda text: text.replace(" %", "\u00a0%")
    environment.filters["plain"] = _plain
    return environment


def _data_uri(picture: Picture) -> str:
    return f"data:{picture.mime};base64,{base64.b64encode(picture.data).decode()}"


def _plain(text: Any) -> str:
    """Text that Markdown takes as it is, also in a cell of a table."""
    escaped = str(text).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    for mark in "|*_`[]#":
        escaped = escaped.replace(mark, f"\\{mark}")
    return " ".join(escaped.split())
