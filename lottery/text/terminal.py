"""The terminal: text and tables above whatever progress bar is alive."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


_FILE_WIDTH = 200  # nothing is wrapped or cut in a file or pipe


def light_table(columns: Iterable[str], left: int = 1) -> Table:
    """A light table whose first `left` columns hold names, the others numbers."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(
            column,
            justify="left" if index < left else "right",
            # names give way before numbers do, and numbers rather wrap than lose digits
            no_wrap=index >= left > 0,
            overflow="fold",
        )
    return table


def fitted(table: Table) -> Table:
    """The table, without padding where it would be wider than the terminal."""
    out = console()
    if out.is_terminal and _console(width=_FILE_WIDTH).measure(table).maximum > out.width:
        table.padding = 0
    return table


_UNPRINTABLE = re.compile(r"(\x1b\[[\d;]*m)|([\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff])")


def printable(text: str) -> str:
    """A text without what a terminal would obey: control characters, but for new lines, tabs and colours, as escapes.

    Example:
        >>> printable("name\x1b]0;title\x07")
        'name\\\\x1b]0;title\\\\x07'
    """
    return _UNPRINTABLE.sub(lambda found: found[1] or repr(found[2])[1:-1], text)


def one_line(text: str) -> str:
    """A name as it stands in a line or table, whatever is in it."""
    return _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text.replace("\n", "\\n").replace("\t", "\\t"))


def show(what: object) -> None:
    """Print text or a table above whatever progress bar is alive, from the first process of a fit only."""
    from lightning_utilities.core.rank_zero import rank_zero_only

    if getattr(rank_zero_only, "rank", 0) != 0:
        return
    out = _console()
    if out.is_jupyter:
        out.print(what)
        return
    if not out.is_terminal:
        out = _console(width=_FILE_WIDTH)
    with out.capture() as text:
        out.print(what, soft_wrap=isinstance(what, str) and not out.is_terminal)
    _AboveBars("stdout").write(printable(text.get()))


@contextlib.contextmanager
def logs_above_bars() -> Iterator[None]:
    """Lightning's log lines go above progress bars too; its handlers write past them, which leaves torn bars behind."""
    names = (None, "lightning", "lightning.pytorch", "pytorch_lightning")
    handlers = {h for name in names for h in logging.getLogger(name).handlers}
    replaced = [
        (handler, handler.setStream(_AboveBars("stderr")))
        for handler in handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stderr, sys.__stderr__)
    ]
    try:
        yield
    finally:
        for handler, stream in replaced:
            handler.setStream(stream)


class _AboveBars:
    """A stream that writes whole lines above the bars of rich and tqdm."""

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self._name = name

    def write(self, text: str) -> None:
        from tqdm import tqdm

        with tqdm.external_write_mode():
            # a live display of rich has put itself in the place of sys.stdout and sys.stderr
            getattr(sys, self._name).write(text)
            self.flush()

    def flush(self) -> None:
        getattr(sys, self._name).flush()


@cache
def console() -> Console:
    """The console of our own live displays."""
    return _console()


def _console(width: int | None = None) -> Console:
    from rich.console import Console

    # a path may hold [ and :
    return Console(width=width, highlight=False, markup=False, emoji=False)
