"""Single files: read where they are files, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

T = TypeVar("T")


class StorageError(RuntimeError):
    """A file or directory of a run is missing, damaged, foreign or in use. The message says which and what to do."""


class ForeignFile(ValueError):
    """The bytes are whole, but of another kind or format than what reads them; the message goes on after the path."""


def local_path(path: str | os.PathLike[str]) -> Path:
    """A path of this machine's, with the user's home filled in.

    Raises:
        ValueError: it is the URL of a store; what is promised of files cannot be promised there.

    Example:
        >>> local_path("file:///data/run").as_posix()
        '/data/run'
    """
    text = os.fspath(path)
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "file":
        return Path(rest)
    if separator and scheme.replace("+", "").replace("-", "").replace(".", "").isalnum():
        raise ValueError(
            f"{text!r} is a URL ({scheme}), and lottery writes to directories of this machine only: a store has neither"
            " its locks nor its renaming. Give a local or mounted directory, and copy a run there (`Run.copy`) when it"
            " is finished."
        )
    return Path(text).expanduser()


def read_file(path: Path) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: there is none, or it cannot be read.
    """
    with open_regular(path) as file:
        return file.read()


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Nothing that never ends is waited for: a pipe, a device.

    Raises:
        OSError: there is none, or it cannot be read.
    """
    _check_regular(os.stat(path), path)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = open(handle, "rb")  # noqa: SIM115 (handed on)
    try:
        _check_regular(os.fstat(handle), path)
    except OSError:
        file.close()
        raise
    return file


def _check_regular(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe"}.get(stat.S_IFMT(found.st_mode), "no file")
        raise OSError(None, f"it is {kind}", str(path))


def write(path: Path, data: bytes | memoryview) -> None:
    """Write a file whole or not at all.

    Raises:
        StorageError: the disk is full, or the path cannot be written; what was there before is intact.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(
            f"could not write {path}: {error.strerror or error}. What was written before is intact; try again once"
            " there is room and permission."
        ) from error


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_as(
    path: str | os.PathLike[str],
    decode: Callable[[bytes], T],
    kind: str,
    read: Callable[[Path], bytes] = read_file,
) -> T:
    """What a single file holds.

    Args:
        path: the file.
        decode: of its bytes; raises `ForeignFile`, or anything where they are damaged.
        kind: of file, in words, such as "a ticket".
        read: the part of it that is decoded.

    Raises:
        StorageError: the file is missing, damaged or foreign.
    """
    file = local_path(path)
    try:
        return decode(read(file))
    except FileNotFoundError:
        raise StorageError(f"{path} does not exist") from None
    except OSError as error:
        raise StorageError(f"{path} is not {kind}, or cannot be read: {error.strerror or error}.") from None
    except ForeignFile as error:
        raise StorageError(f"{path} {error}") from None
    except Exception as error:
        said = f"it lacks {error}" if isinstance(error, KeyError) else str(error).rstrip(".") or type(error).__name__
        raise StorageError(
            f"{path} is not {kind}, or is damaged: {said}. Get it again from where it came from."
        ) from error
