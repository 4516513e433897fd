"""Locks on directories: held by one process, gone with it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lottery.storage.files import StorageError

LOCK = "run.lock"
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[IO[str]]:
    """Hold a directory, which is made where it is not there. The lock goes with the process, however that ends.

    Raises:
        StorageError: another process holds it (the message names it), or it cannot be written.
    """
    path = directory / LOCK
    with contextlib.ExitStack() as stack:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(_lock_file(path))
        except OSError as error:
            where = path if path.exists() else directory
            raise StorageError(f"{where} cannot be written: {error.strerror}. Use another dirpath.") from error
        try:
            _lock(file)
        except BlockingIOError:
            file.seek(0)
            raise StorageError(
                f"{directory} is being written by another process ({file.read().strip() or 'unknown'})."
                " Wait for it, stop it, or use another dirpath."
            ) from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            raise StorageError(
                f"{path} cannot be locked: {error.strerror}. The file system has no locks, so that two processes could"
                " write one run at once. Use a dirpath on another one, such as a local disk."
            ) from error
        with contextlib.suppress(OSError):  # a full disk; the lock holds without its holder's name
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield file


def is_held(directory: Path) -> bool:
    """Whether a process holds a directory now."""
    try:
        with _regular(directory / LOCK, os.O_RDONLY, "r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def is_still(file: IO[str], directory: Path) -> bool:
    """Whether a lock's file is the directory's still, and was not deleted or replaced with it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(directory / LOCK))
    except OSError:
        return False


def _lock(file: IO[str]) -> None:
    """Take a lock that a reader may hold for a moment, while it asks `is_held`."""
    for _ in range(9):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.01)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


_locks: set[IO[str]] = set()


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[IO[str]]:
    """Open a lock file, not for forked processes: a data loader's worker may outlive its parent."""
    with _regular(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, "a+") as file:
        _locks.add(file)
        try:
            yield file
        finally:
            _locks.discard(file)


def _regular(path: Path, flags: int, mode: str) -> IO[str]:
    """Open a regular file; a pipe in its place is not waited for."""
    file = open(os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666), mode)  # noqa: SIM115 (handed on)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return file


def _close_locks() -> None:
    while _locks:
        _locks.pop().close()


os.register_at_fork(after_in_child=_close_locks)
