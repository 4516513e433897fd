"""Many faults, one after the other: each run lives until it is finished, and must equal one that met none."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zoo

from faults.layer import KINDS, SIGNALS, Fault, Layer
from faults.runs import ORDERLY, contents, live

ENDED, SAID, RAW = 0, 3, 4
"""Exit statuses of a life: finished; ended by an error that says what to do; by any other."""
STATUSES = {status for number in SIGNALS.values() for status in (128 + number, -number)}


@dataclass
class Outcome:
    """What became of faults.

    Args:
        injected: how many of each kind of run and fault.
        wrong: what went wrong, in words, each with where it is.
    """

    injected: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.injected.total()


@dataclass
class _Whole:
    """A run without faults."""

    contents: dict[str, Any]
    operations: int
    seconds: float


def campaign(
    folder: Path, runs: list[str], count: int, seed: int, kinds: tuple[str, ...] = KINDS, minutes: float = 1e9
) -> Iterator[Outcome]:
    """Inject faults into runs, and give the outcome so far after each run that is finished.

    Args:
        folder: where to write; what went wrong is left there.
        runs: their names in `faults.runs.RUNS`.
        count: how many faults.
        seed: of what happens when.
        kinds: of faults.
        minutes: when to end in any case.
    """
    draw, outcome, whole = random.Random(seed), Outcome(), {}
    until = time.monotonic() + 60 * minutes
    number = 0
    while outcome.total < count and time.monotonic() < until:
        name = runs[number % len(runs)]
        if name not in whole:
            whole[name] = _without_faults(name, folder / f"whole-{number}")
        path = folder / f"run-{number}"
        wrong = _until_finished(name, path, whole[name], draw, kinds, outcome, min(12, count))
        if wrong is None:
            shutil.rmtree(path)
        else:
            outcome.wrong.append(f"{name}, in {path}: {wrong}")
        number += 1
        yield outcome


def _without_faults(name: str, path: Path) -> _Whole:
    began = time.monotonic()
    counted = path.with_suffix(".count")

    def life() -> None:
        layer = Layer(path)
        layer.install()
        live(name, path)
        counted.write_text(str(layer.count))

    code = _in_a_process(life, path.with_suffix(".log"))
    assert code == ENDED, path.with_suffix(".log").read_text()
    return _Whole(contents(name, path), int(counted.read_text()), time.monotonic() - began)


def _until_finished(
    name: str, path: Path, whole: _Whole, draw: random.Random, kinds: tuple[str, ...], outcome: Outcome, most: int
) -> str | None:
    """Let a run live until it is finished, a fault in each life but the last; what went wrong."""
    log = path.with_suffix(".log")
    happened = path.with_suffix(".happened")
    for lives in range(most + 1):
        kind = draw.choice(kinds)
        in_time = kind == "killed in time"
        fault = Fault(kind, draw.random() if in_time else draw.randrange(whole.operations), whole.seconds, happened)

        def life(fault: Fault | None = fault if lives < most else None) -> None:
            Layer(path, fault).install()
            live(name, path)

        happened.unlink(missing_ok=True)
        code = _in_a_process(life, log)
        if happened.exists():
            outcome.injected[name, kind] += 1
        if code not in (ENDED, SAID, -signal.SIGKILL, *STATUSES) or (code == SAID and not happened.exists()):
            return f"life {lives + 1} ({kind} at {fault.moment}) ended with {code}; see {log}"
        if code == ENDED:
            break
    try:
        zoo.assert_equal(contents(name, path), whole.contents)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is what went wrong)
        return f"after {lives + 1} lives: {type(error).__name__}: {str(error)[:300]}"
    except AssertionError as error:
        return f"after {lives + 1} lives: {str(error)[:300]}"
    return None


def _in_a_process(life: Callable[[], None], log: Path) -> int:
    """The exit status of a life, in a process that is forked from this one."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if (pid := os.fork()) == 0:
        code = RAW
        try:
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            life()
            code = ENDED
        except ORDERLY:
            traceback.print_exc()
            code = SAID
        except KeyboardInterrupt:  # outside of a fit
            code = 128 + signal.SIGINT
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else RAW
        except BaseException:  # noqa: BLE001 (a process of its own)
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
