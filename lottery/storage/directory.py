"""The files of a run: written whole or not at all, hashed, by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import socket
import time
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import torch
from torch import Tensor

from lottery.storage.encoding import decode_tensors, encode_json

T = TypeVar("T")

FORMAT = 2
MANIFEST = "manifest.json"
LOCK = "run.lock"


class StorageError(RuntimeError):
    """A file or directory of a run is missing, damaged, foreign or in use. The message says which and what to do."""


class Directory:
    """A directory whose manifest names every finished file with its size and hash.

    Files in the manifest never change, so a reader needs no lock. `commit` writes files and then the manifest; what
    a crash leaves behind outside the manifest counts as not written. Checkpoints (`write_checkpoint`) are the
    exception: they are replaced while a round goes on, and carry their checksums inside.

    Args:
        path: the directory; made by the first `commit`.
        renewable: files that are made again where they are missing.
    """

    def __init__(self, path: str | os.PathLike[str], renewable: Collection[str] = ()) -> None:
        self.path = Path(path)
        self._renewable = renewable
        self._files: tuple[tuple[int, int, int], dict[str, dict[str, Any]]] | None = None

    # reading

    def files(self) -> dict[str, dict[str, Any]]:
        """Every finished file, with `size` and `sha256`; none where there is no directory.

        Read again when the manifest has changed.

        Raises:
            StorageError: the manifest is damaged, or of another format.
        """
        try:
            found = os.stat(self.path / MANIFEST)
            stamp = found.st_ino, found.st_mtime_ns, found.st_size
            if self._files is not None and self._files[0] == stamp:
                return dict(self._files[1])
            manifest = json.loads((self.path / MANIFEST).read_bytes())
            foreign = int(manifest["format"]) != FORMAT
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self.damaged(MANIFEST, f"cannot be read ({error.strerror})") from None
        except (ValueError, KeyError, TypeError):
            raise self.damaged(MANIFEST, "is not a manifest in JSON") from None
        if foreign:
            raise StorageError(
                f"{self.path} was written by another version of lottery (format {manifest['format']}, this one reads"
                f" {FORMAT}). Update (pip install -U lottery-tickets), or read it with the version named in its"
                " run.json."
            )
        if manifest.get("sha256") != _hash_of_entries(manifest.get("files")):
            raise self.damaged(MANIFEST, "does not have the contents that were written")
        self._files = stamp, manifest["files"]
        return dict(manifest["files"])

    def __contains__(self, name: str) -> bool:
        return name in self.files()

    def read(self, name: str) -> bytes:
        """The bytes of a finished file, verified.

        Raises:
            StorageError: it is missing, or its size or hash differs from the manifest's.
        """
        entry = self.files().get(name)
        if entry is None:
            raise StorageError(f"{self.path / name} does not exist (it is not in {MANIFEST})")
        try:
            return self._verified(name, entry)
        except StorageError:
            if self.files().get(name) == entry:
                raise
            return self.read(name)  # a writer has replaced or removed it meanwhile

    def _verified(self, name: str, entry: Mapping[str, Any]) -> bytes:
        try:
            data = (self.path / name).read_bytes()
        except FileNotFoundError:
            raise self.damaged(name, "is missing") from None
        except OSError as error:
            raise self.damaged(name, f"cannot be read ({error.strerror})") from None
        if len(data) != entry["size"]:
            raise self.damaged(name, f"has {len(data)} bytes instead of {entry['size']}")
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise self.damaged(name, "does not have the contents that were written (its hash differs)")
        return data

    def read_json(self, name: str, decode: Callable[[Any], T]) -> T:
        """The plain data of a finished file.

        Args:
            name: of the file.
            decode: what it is read as; raises ValueError where something is missing or of another type.

        Raises:
            StorageError: it is missing, damaged, or says something else.
        """
        try:
            return decode(json.loads(self.read(name)))
        except ValueError as error:
            raise StorageError(
                f"{self.path / name} does not say what a file of this name says: {error}. It was written by another"
                " version of lottery, or changed by hand: update (pip install -U lottery-tickets), or restore it from a"
                " copy."
            ) from None

    def read_tensors(self, name: str) -> dict[str, Tensor]:
        return decode_tensors(self.read(name))

    def read_checkpoint(self, name: str) -> dict[str, Any]:
        """A Lightning checkpoint of the run's own, with plain contents only.

        Raises:
            StorageError: it is missing or damaged.
        """
        path = self.path / name
        try:
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip() or _folder_in(archive)
        except FileNotFoundError:
            raise self.damaged(name, "is missing") from None
        except Exception as error:  # noqa: BLE001 (damaged zip headers raise errors of many kinds)
            raise self.damaged(name, f"cannot be read ({error})") from None
        if broken is not None:
            raise self.damaged(name, f"is damaged in {broken}")
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError) as error:
            raise self.damaged(name, f"cannot be read ({error})") from None
        if not isinstance(found, dict):
            raise self.damaged(name, f"is no checkpoint, but a {type(found).__name__}")
        return found

    def damaged(self, name: str, what: str) -> StorageError:
        """The error of a file that is not what the run needs, with the ways out."""
        ways = "Restore it from a copy, or start the run again in a new dirpath."
        if name in self._renewable:
            ways = "Delete it and run again: the round in progress starts over, with the same results."
        return StorageError(f"{self.path / name} {what}. {ways}")

    # writing

    def commit(self, files: Mapping[str, bytes], drop: Iterable[str] = ()) -> None:
        """Write files, then name them in the manifest: all of them count, or none.

        Args:
            files: name to contents.
            drop: files that are no longer needed then: taken out of the manifest with it, and deleted.
        """
        entries = self.files()
        for name, data in files.items():
            self._replace(name, data)
            entries[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        dropped = set(drop)
        self._write_manifest({n: e for n, e in entries.items() if n not in dropped})
        for name in dropped:
            (self.path / name).unlink(missing_ok=True)

    def write_checkpoint(self, name: str, checkpoint: Mapping[str, object]) -> None:
        """Replace a checkpoint by a newer one; a reader sees the old one or the new one."""
        buffer = io.BytesIO()
        torch.save(dict(checkpoint), buffer)
        self._replace(name, buffer.getbuffer())

    @property
    def in_use(self) -> bool:
        """Whether a process is writing here now."""
        try:
            with open(self.path / LOCK) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _write_manifest(self, entries: Mapping[str, object]) -> None:
        manifest = {"format": FORMAT, "sha256": _hash_of_entries(entries), "files": entries}
        self._replace(MANIFEST, encode_json(manifest))
        self._files = None  # two writes may fall in one tick of the file system's clock

    def _replace(self, name: str, data: bytes | memoryview) -> None:
        write(self.path / name, data)

    @contextlib.contextmanager
    def locked(self, writing: bool = True) -> Iterator[None]:
        """Hold the directory for writing. The lock goes with the process, however that ends.

        Args:
            writing: False for the other ranks of a distributed fit, which only read.

        Raises:
            StorageError: another process holds it (the message names it), or the directory cannot be written.
        """
        if not writing:
            yield
            return
        with contextlib.ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(_lock_file(self.path / LOCK))
            except OSError as error:
                raise StorageError(f"{self.path} cannot be written: {error.strerror}. Use another dirpath.") from error
            try:
                _lock(file)
            except BlockingIOError:
                file.seek(0)
                raise StorageError(
                    f"{self.path} is being written by another process ({file.read().strip() or 'unknown'})."
                    " Wait for it, stop it, or use another dirpath."
                ) from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield


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


class ForeignFile(ValueError):
    """The bytes are whole, but of another kind or format than what reads them; the message goes on after the path."""


def read_as(path: str | os.PathLike[str], decode: Callable[[bytes], T], kind: str) -> T:
    """What a single file holds.

    Args:
        path: the file.
        decode: of its bytes; raises `ForeignFile`, or anything where they are damaged.
        kind: of file, in words, such as "a ticket".

    Raises:
        StorageError: the file is missing, damaged or foreign.
    """
    try:
        return decode(Path(path).read_bytes())
    except FileNotFoundError:
        raise StorageError(f"{path} does not exist") from None
    except ForeignFile as error:
        raise StorageError(f"{path} {error}") from None
    except Exception as error:
        raise StorageError(
            f"{path} is not {kind}, or is damaged: {error}. Get it again from where it came from."
        ) from error


def _folder_in(archive: zipfile.ZipFile) -> str | None:
    """An entry marked as a folder: torch would take it for a tensor and leave its memory as it happens to be."""
    marked = (entry for entry in archive.infolist() if entry.external_attr & 0x10)
    return next((entry.filename for entry in marked), None)


def _hash_of_entries(entries: object) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def _lock(file: IO[str]) -> None:
    """Take a lock that a reader may hold for a moment, while it asks `Directory.in_use`."""
    for _ in range(9):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.01)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


_locks: set[IO[str]] = set()


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[IO[str]]:
    """Open a lock file, not for forked processes: a data loader's worker may outlive its parent."""
    with open(path, "a+") as file:
        _locks.add(file)
        try:
            yield file
        finally:
            _locks.discard(file)


def _close_locks() -> None:
    while _locks:
        _locks.pop().close()


os.register_at_fork(after_in_child=_close_locks)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
