"""Signals that ask a process to end: a run saves where it stands first."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

PATIENCE = 20.0
"""Seconds until a run ends without having come to a boundary; systems that end jobs wait 30 or longer."""


class Stopped(SystemExit):
    """A signal asked the process to end; the exit status says which, as shells do."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class Stopping:
    """Notes the signals that ask to end: the first is heeded at the next boundary, a second at once.

    What is ignored, such as SIGHUP under nohup, stays so. A signal that the user handles reaches that handler too.

    Args:
        requeue: the signal with which SLURM asks for the job to be put back into the queue, None without SLURM.
        users: the handlers that the user has set, by signal.
    """

    def __init__(self, requeue: int | None = None, users: dict[int, Any] | None = None) -> None:
        self._requeue = requeue
        self._users = users or {}
        self._noted: int | None = None
        self._timer: threading.Timer | None = None

    @property
    def is_asked(self) -> bool:
        """Whether a signal has come."""
        return self._noted is not None

    @contextlib.contextmanager
    def heeding(self) -> Iterator[None]:
        """A block in which signals are noted; where it ends early because of one, by `Stopped`."""
        before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            wanted = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, *([self._requeue] if self._requeue else [])}
            before = {n: known for n in wanted if (known := signal.getsignal(n)) is not signal.SIG_IGN}
        for number in before:
            signal.signal(number, self._note)
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """End the process, by an error that no handler of the training takes for one of its own."""
        assert self._noted is not None
        if self._noted == self._requeue:
            _requeue_job()
        raise Stopped(self._noted)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._noted is not None:
            self._noted = number
            raise Stopped(number)
        self._noted = number
        again = " once more to stop at once" if number == signal.SIGINT else ""
        said = f"\n{signal.Signals(number).name}: stopping after this batch{again and '; Ctrl+C'}{again}\n"
        with contextlib.suppress(OSError):
            os.write(2, said.encode())  # what prints may have been interrupted by this
        # to the thread that trains, so that a call which waits is interrupted
        self._timer = threading.Timer(PATIENCE, signal.pthread_kill, (threading.main_thread().ident, number))
        self._timer.daemon = True
        self._timer.start()
        users = self._users.get(number)
        if callable(users) and users is not signal.default_int_handler:
            users(number, frame)


def _requeue_job() -> None:
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")
    with contextlib.suppress(OSError):
        subprocess.run(["scontrol", "requeue", job], check=False)
