"""A layer between a process and its files, that strikes at the n-th operation inside one directory."""

from __future__ import annotations

import builtins
import errno
import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ERRORS = {
    "no space": errno.ENOSPC,
    "I/O error": errno.EIO,
    "read-only": errno.EROFS,
    "interrupted": errno.EINTR,
    "no permission": errno.EACCES,
}
SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "SIGHUP": signal.SIGHUP}
KINDS = ("killed before", "killed after", "killed in time", "short write", "delayed", *ERRORS, *SIGNALS)


@dataclass
class Fault:
    """What happens, once.

    Args:
        kind: one of `KINDS`.
        moment: the number of the operation that it happens at; of "killed in time" the share of `seconds`.
        seconds: how long a life without faults takes.
        happened: a file that is there once it has.
    """

    kind: str
    moment: float
    seconds: float
    happened: Path


class Layer:
    """Counts the file operations of this process inside a directory, and injects a fault into one of them.

    Args:
        root: the directory.
        fault: what to inject; None only counts.
    """

    def __init__(self, root: Path, fault: Fault | None = None) -> None:
        self.root = str(root)
        self.fault = fault
        self.count = 0
        self._fds: dict[int, str] = {}

    def install(self) -> None:
        """For the rest of this process's life."""
        fault = self.fault
        if fault is not None and fault.kind == "killed in time":
            wait = fault.moment * fault.seconds
            threading.Thread(target=lambda: (time.sleep(wait), self._kill()), daemon=True).start()
        for name in ("open", "replace", "unlink", "mkdir", "ftruncate", "write", "fsync", "rmdir", "rename"):
            setattr(os, name, self._watched(getattr(os, name), name))
        opened = builtins.open

        @functools.wraps(opened)
        def open_(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            if isinstance(file, int) or not self._inside(file) or "w" not in mode:
                return opened(file, mode, *rest, **named)
            self._strike(lambda: None)
            return _File(opened(file, mode, *rest, **named), self)

        builtins.open = open_  # type: ignore[assignment]

    def _watched(self, original: Callable[..., Any], name: str) -> Callable[..., Any]:
        def operation(*arguments: Any, **named: Any) -> Any:
            if not self._inside(arguments[0]):
                return original(*arguments, **named)
            result = self._strike(lambda: original(*arguments, **named))
            if name == "open":
                self._fds[result] = str(arguments[0])
            return result

        return operation

    def _inside(self, what: Any) -> bool:
        if isinstance(what, int):
            return what in self._fds
        return isinstance(what, (str, os.PathLike)) and os.path.abspath(os.fspath(what)).startswith(self.root)

    def _strike(self, act: Callable[[], Any], data: Callable[[], Any] = lambda: None) -> Any:
        """An operation; at the moment of the fault, with it."""
        here, self.count = self.count, self.count + 1
        fault = self.fault
        if fault is None or fault.kind == "killed in time" or here != fault.moment:
            return act()
        if fault.kind == "killed after":
            act()
            self._kill()
        self._mark()
        if fault.kind == "killed before":
            self._kill()
        if fault.kind in SIGNALS:
            os.kill(os.getpid(), SIGNALS[fault.kind])
        elif fault.kind == "delayed":
            time.sleep(0.05)
        elif fault.kind == "short write":
            data()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        else:
            raise OSError(ERRORS[fault.kind], os.strerror(ERRORS[fault.kind]))
        return act()

    def _kill(self) -> None:
        self._mark()
        os.kill(os.getpid(), signal.SIGKILL)

    def _mark(self) -> None:
        assert self.fault is not None
        self.fault.happened.touch()


class _File:
    """An open file whose writes can be struck."""

    def __init__(self, file: Any, layer: Layer) -> None:
        self._file, self._layer = file, layer

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> Any:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        return self._layer._strike(lambda: self._file.write(data), half)
