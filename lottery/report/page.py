"""A report as HTML or Markdown."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery import storage

if TYPE_CHECKING:
    from jinja2 import Environment

    from lottery.report.figures import Image

HTML = (".html", ".htm")
MARKDOWN = (".md", ".markdown")


def check_name(path: Path) -> None:
    """Make sure that a report can have this name.

    Raises:
        ValueError: it has another ending.
    """
    if path.suffix.lower() not in HTML + MARKDOWN:
        raise ValueError(f"{path}: write a name that ends in .html, for one file with everything in it, or in .md")


def is_markdown(path: Path) -> bool:
    """Whether a report of this name has its pictures beside it."""
    return path.suffix.lower() in MARKDOWN


def write(report: Any, template: str, path: Path, prefixes: Mapping[Image, str]) -> list[Path]:
    """Write a report as its name asks: one file that needs no other, or Markdown with its pictures in a directory.

    Args:
        report: what the template shows.
        template: its name, without ending.
        path: the name.
        prefixes: the pictures, and what the names of their files begin with, so that none has that of another.

    Returns:
        The files, the report first.
    """
    if not is_markdown(path):
        text = _templates().get_template(f"{template}.html").render(report=report)
        storage.write(path, text.encode())
        return [path]
    folder = path.with_name(f"{path.stem}_files")
    files = {p: folder / f"{prefix}{p.kind}.png" for p, prefix in prefixes.items()}
    for picture, file in files.items():
        storage.write(file, picture.data)
    links = {picture: f"{folder.name}/{file.name}" for picture, file in files.items()}
    found = _templates().get_template(f"{template}.md")
    storage.write(path, found.render(report=report, links=links).encode())
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


def _data_uri(picture: Image) -> str:
    return f"data:{picture.mime};base64,{base64.b64encode(picture.data).decode()}"


def _plain(text: Any) -> str:
    """Text that Markdown takes as it is, also in a cell of a table."""
    escaped = str(text).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    for mark in "|*_`[]#":
        escaped = escaped.replace(mark, f"\\{mark}")
    return " ".join(escaped.split())
