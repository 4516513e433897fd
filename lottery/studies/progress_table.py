"""What a terminal shows of a study while it is trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lottery.studies.driver import Progress
from lottery.text import terminal
from lottery.text.sparkline import bar
from lottery.text.wording import duration

_EVERY = 15.0  # seconds between lines, where there is no terminal


@contextmanager
def board() -> Iterator[Callable[[Progress], None]]:
    """A live table in a terminal, a line from time to time elsewhere; to be told about the progress."""
    clock = _Clock()
    if not terminal.console().is_terminal:
        yield _Lines(clock)
        return
    from rich.live import Live

    with Live(console=terminal.console(), transient=True) as live:
        yield lambda progress: live.update(table(progress, clock.left(progress)))


def table(progress: Progress, seconds_left: float | None = None) -> Any:
    """The cells of each arm: how many are done, what is trained now."""
    from rich.console import Group

    found = terminal.light_table(["arm", "", "training now", "done"], left=3)
    for arm in dict.fromkeys(cell.arm for cell in progress.cells):
        cells = [cell for cell in progress.cells if cell.arm == arm]
        done = sum(cell in progress.done for cell in cells)
        failed = sum(cell in progress.failed for cell in cells)
        now = [
            f"seed {c.seed}" + ("" if c.round is None else f" round {c.round}") for c in cells if c in progress.running
        ]
        count = f"{done}/{len(cells)}" + (f", {failed} failed" if failed else "")
        found.add_row(arm, bar(done / len(cells)), ", ".join(now), count)
    return Group(found, _in_a_line(progress, seconds_left))


def _in_a_line(progress: Progress, seconds_left: float | None) -> str:
    parts = [f"{len(progress.done)} of {len(progress.cells)} done"]
    if progress.failed:
        parts.append(f"{len(progress.failed)} failed")
    if progress.running:
        parts.append(f"{len(progress.running)} in training")
    if seconds_left is not None and (progress.left or progress.running):
        parts.append(f"about {duration(seconds_left)} left")
    return ", ".join(parts)


class _Clock:
    """Tells from the pace of the controls how long it still takes; not while tickets are trained, which take longer."""

    def __init__(self) -> None:
        self._began: tuple[float, int] | None = None

    def left(self, progress: Progress) -> float | None:
        now, done = time.monotonic(), len(progress.done)
        running_tickets = any(cell.round is None for cell in progress.running)
        if self._began is None or running_tickets:
            self._began = now, done
            return None
        began, before = self._began
        rest = len(progress.left) + len(progress.running)
        return (now - began) / (done - before) * rest if done > before else None


class _Lines:
    def __init__(self, clock: _Clock) -> None:
        self._clock = clock
        self._shown = 0.0
        self._before = ""

    def __call__(self, progress: Progress) -> None:
        left = self._clock.left(progress)
        over = not progress.left and not progress.running
        if time.monotonic() - self._shown < _EVERY and not over:
            return
        self._shown = time.monotonic()
        line = _in_a_line(progress, left)
        if line != self._before:
            terminal.show(line)
        self._before = line
