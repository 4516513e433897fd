"""The cells of a study in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from lottery.studies.jobs import Ended, Job, reason

# what most cells import; other modules of a recipe are imported by each
_PRELOADED = ["lottery.studies.cell", "lottery.tasks.data", "lottery.tasks.models", "sklearn.datasets"]
_GRACE = 5.0  # seconds that trainings have to end by themselves


class _Running(NamedTuple):
    job: Job
    process: Any
    answers: Connection
    device: str | None
    said: list[str | None]


class LocalEngine:
    """Each cell in a process of its own, several at a time.

    Processes are forked from a server that has imported torch and Lightning once, so that starting one takes a moment.
    They end with the process that started them.

    Args:
        jobs: how many cells at once. Default: one per core, or one per GPU where `gpus`.
        gpus: whether cells train on GPUs; each sees one of them, and several share one where `jobs` is larger.

    Raises:
        ValueError: `jobs` is not positive, or there is no GPU.
    """

    def __init__(self, jobs: int | None = None, gpus: bool = False) -> None:
        if jobs is not None and jobs < 1:
            raise ValueError(f"jobs={jobs!r} must be 1 or more")
        self._devices = _visible_gpus() if gpus else []
        if gpus and not self._devices:
            raise ValueError("gpus=True, but torch finds no CUDA device here")
        self._jobs = jobs or len(self._devices) or _cores()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOADED)
        self._running: list[_Running] = []

    @property
    def slots(self) -> int:
        return self._jobs

    def start(self, job: Job) -> None:
        answers, theirs = self._context.Pipe(duplex=False)
        device = self._least_used()
        process = self._context.Process(
            target=_perform, args=(job, theirs, device, os.getcwd()), name=job.key, daemon=False
        )
        process.start()
        theirs.close()
        self._running.append(_Running(job, process, answers, device, []))

    def wait(self, seconds: float) -> list[Ended]:
        # answers too: a process may wait until a long one is read before it ends
        answers = [r.answers for r in self._running if not r.said]
        ready = connection.wait([*answers, *(r.process.sentinel for r in self._running)], seconds)
        for running in self._running:
            _listen(running)
        done = [r for r in self._running if r.process.sentinel in ready]
        self._running = [r for r in self._running if r not in done]
        return [Ended(running.job, _outcome(running)) for running in done]

    def close(self) -> None:
        for running in self._running:
            running.process.terminate()
        deadline = time.monotonic() + _GRACE
        for running in self._running:
            running.process.join(max(0.0, deadline - time.monotonic()))
            running.process.kill()  # Lightning may pass over the signal
            running.process.join()
        self._running.clear()

    def _least_used(self) -> str | None:
        """The GPU with the fewest cells."""
        if not self._devices:
            return None
        used = [running.device for running in self._running]
        return min(self._devices, key=used.count)


def _perform(job: Job, answers: Connection, device: str | None, directory: str) -> None:
    """Train a cell in this process, and tell how it went."""
    from lottery.studies.cell import perform

    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the driver
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    try:
        os.chdir(directory)  # relative paths of a recipe are the driver's
        perform(job)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the driver is told; `perform` has logged it
        answers.send(reason(error))
    else:
        answers.send(None)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _listen(running: _Running) -> None:
    """Take an answer that is there."""
    try:
        if not running.said and running.answers.poll():
            running.said.append(running.answers.recv())
    except (EOFError, OSError):
        running.said.append(_death(running))


def _outcome(running: _Running) -> str | None:
    """What the process said, or how it died without a word."""
    running.process.join()
    _listen(running)
    running.answers.close()
    return running.said[0] if running.said else _death(running)


def _death(running: _Running) -> str:
    running.process.join()
    code = running.process.exitcode
    if code < 0:
        return f"the worker was killed by {signal.Signals(-code).name}"
    return f"the worker ended with exit status {code}"


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _visible_gpus() -> list[str]:
    """CUDA devices, by the names that `CUDA_VISIBLE_DEVICES` takes."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(n) for n in range(count)]
