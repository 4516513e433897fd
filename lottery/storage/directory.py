"""The files of a run: written whole or not at all, hashed, by one process at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypedDict, TypeVar

from torch import Tensor

from lottery.storage import locks
from lottery.storage.checkpoints import decode_checkpoint, encode_checkpoint
from lottery.storage.encoding import decode, decode_json, decode_tensors, encode_json
from lottery.storage.files import ForeignFile, StorageError, read_as, read_file, write
from lottery.storage.locks import LOCK

__all__ = ["FORMAT", "LOCK", "MANIFEST", "Directory", "ForeignFile", "StorageError", "read_as", "write"]

T = TypeVar("T")

FORMAT = 3
BEFORE_CHECKPOINTS = 2  # the format in which checkpoints were not in the manifest
MANIFEST = "manifest.json"


class Entry(TypedDict):
    """What a manifest says of a file."""

    size: int
    sha256: str


class Directory:
    """A directory whose manifest names every finished file with its size and hash.

    Files in the manifest never change, so a reader needs no lock. `commit` writes files and then the manifest; what
    a crash leaves behind outside the manifest counts as not written. Only `loose` files are outside of it: they are
    replaced while work goes on, and carry their checksums inside.

    Args:
        path: the directory; made by the first `commit`.
        loose: checkpoints that are replaced by newer ones, and can be made again where they are lost.
        known: whether a name is that of a file of such a directory; whatever else a manifest names is refused.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        loose: Collection[str] = (),
        known: Callable[[str], bool] = lambda name: True,
    ) -> None:
        self.path = Path(path)
        self._loose = loose
        self._known = known
        self._read: tuple[tuple[int, int, int], int, dict[str, Entry]] | None = None
        self._lock: IO[str] | None = None

    # reading

    def files(self) -> dict[str, Entry]:
        """Every finished file, with `size` and `sha256`; none where there is no directory.

        Read again when the manifest has changed.

        Raises:
            StorageError: the manifest is damaged, of another format, or names what is no file of this directory.
        """
        return dict(self._manifest()[1])

    @property
    def format(self) -> int:
        """That of its manifest; the newest where there is none."""
        return self._manifest()[0]

    def _manifest(self) -> tuple[int, dict[str, Entry]]:
        try:
            found = os.stat(self.path / MANIFEST)
            stamp = found.st_ino, found.st_mtime_ns, found.st_size
            if self._read is not None and self._read[0] == stamp:
                return self._read[1:]
            manifest = decode(decode_json(read_file(self._place(MANIFEST))), dict[str, Any])
            format_ = decode(manifest.get("format"), int)
        except FileNotFoundError:
            return FORMAT, {}
        except OSError as error:
            raise self.damaged(MANIFEST, f"cannot be read ({error.strerror})") from None
        except ValueError:
            raise self.damaged(MANIFEST, "is not a manifest in JSON") from None
        if format_ not in (BEFORE_CHECKPOINTS, FORMAT):
            raise StorageError(
                f"{self.path} was written by another version of lottery (format {format_}, this one reads"
                f" {BEFORE_CHECKPOINTS} and {FORMAT}). Update (pip install -U lottery-tickets), or read it with the"
                " version named in its run.json."
            )
        if manifest.get("sha256") != _hash_of_entries(manifest.get("files")):
            raise self.damaged(MANIFEST, "does not have the contents that were written")
        try:
            entries = decode(manifest.get("files"), dict[str, Entry])
        except ValueError as error:
            raise self.damaged(MANIFEST, f"does not say what a manifest says: {error}") from None
        for name in entries:
            if not _is_plain(name) or not self._known(name):
                raise self.damaged(MANIFEST, f"names {name!r}, which is no file of such a directory")
        self._read = stamp, format_, entries
        return format_, entries

    def __contains__(self, name: str) -> bool:
        return name in self.files()

    def holds(self, name: str) -> bool:
        """Whether there is a checkpoint of this name: in the manifest, or one that may be outside of it."""
        return name in self or (self._may_be_loose(name) and (self.path / name).exists())

    def _may_be_loose(self, name: str) -> bool:
        return name in self._loose or self.format == BEFORE_CHECKPOINTS

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

    def _verified(self, name: str, entry: Entry) -> bytes:
        data = self._bytes(name)
        if len(data) != entry["size"]:
            raise self.damaged(name, f"has {len(data)} bytes instead of {entry['size']}")
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise self.damaged(name, "does not have the contents that were written (its hash differs)")
        return data

    def _bytes(self, name: str) -> bytes:
        try:
            return read_file(self._place(name))
        except FileNotFoundError:
            raise self.damaged(name, "is missing") from None
        except OSError as error:
            raise self.damaged(name, f"cannot be read ({error.strerror})") from None

    def _place(self, name: str) -> Path:
        """Where a file is: inside, also when links are followed.

        Raises:
            StorageError: a link leads outside.
        """
        path = self.path / name
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise self.damaged(name, "is a link that leads outside of the directory")
        return path

    def wrong(self) -> dict[str, str]:
        """The finished files that are damaged or missing, each with what is wrong in words."""
        found = {}
        for name in self.files():
            try:
                self.read(name)
            except StorageError as error:
                found[name] = str(error)
        return found

    def read_json(self, name: str, decode: Callable[[Any], T]) -> T:
        """The plain data of a finished file.

        Args:
            name: of the file.
            decode: what it is read as; raises ValueError where something is missing or of another type.

        Raises:
            StorageError: it is missing, damaged, or says something else.
        """
        return self.read_as(name, lambda data: decode(decode_json(data)))

    def read_tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of a finished file.

        Raises:
            StorageError: it is missing or damaged, or no safetensors file.
        """
        return self.read_as(name, decode_tensors)

    def read_as(self, name: str, decode: Callable[[bytes], T]) -> T:
        """What a finished file says.

        Args:
            name: of the file.
            decode: of its bytes; raises an error where they say something else.

        Raises:
            StorageError: it is missing, damaged, or says something else.
        """
        data = self.read(name)
        try:
            return decode(data)
        except Exception as error:  # noqa: BLE001 (what strangers write is wrong in many ways)
            said = str(error).rstrip(".") or type(error).__name__
            raise StorageError(
                f"{self.path / name} does not say what a file of this name says: {said}. It was written by another"
                " version of lottery, or changed by hand: update (pip install -U lottery-tickets), or restore it from a"
                " copy."
            ) from None

    def read_checkpoint(self, name: str) -> dict[str, Any]:
        """A Lightning checkpoint of the run's own, with plain contents only.

        Raises:
            StorageError: it is missing or damaged, or holds what could execute code.
        """
        data = self._bytes(name) if name not in self and self._may_be_loose(name) else self.read(name)
        try:
            return decode_checkpoint(data)
        except ValueError as error:
            raise self.damaged(name, str(error)) from None

    def damaged(self, name: str, what: str) -> StorageError:
        """The error of a file that is not what the run needs, with the ways out."""
        ways = "Restore it from a copy, or start the run again in a new dirpath."
        if name in self._loose:
            ways = "Delete it and run again: the round in progress starts over, with the same results."
        elif name != MANIFEST:
            ways += f" `lottery verify {self.path} --repair` says what can be made again."
        return StorageError(f"{self.path / name} {what}. {ways}")

    # writing

    def commit(self, files: Mapping[str, bytes | memoryview], drop: Iterable[str] = ()) -> None:
        """Write files, then name them in the manifest: all of them count, or none.

        Args:
            files: name to contents.
            drop: files that are no longer needed then: taken out of the manifest with it, and deleted. One that cannot
                be deleted stays until the next `sweep`.
        """
        entries = self.files()
        for name, data in files.items():
            self._replace(name, data)
            entries[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        dropped = set(drop)
        self._write_manifest({n: e for n, e in entries.items() if n not in dropped})
        self.delete(dropped)

    def write_checkpoint(self, name: str, checkpoint: Mapping[str, object]) -> None:
        """Replace a loose checkpoint by a newer one; a reader sees the old one or the new one."""
        self._replace(name, encode_checkpoint(checkpoint))

    def delete(self, names: Iterable[str]) -> None:
        """Delete files that no manifest names, as far as the file system lets them go."""
        for name in names:
            with contextlib.suppress(OSError):
                (self.path / name).unlink(missing_ok=True)

    def sweep(self, folders: Iterable[str] = (), *, loose: bool = False) -> None:
        """Delete what a process that ended between two writes has left behind: known files that no manifest names.

        Args:
            folders: where to look, besides the directory itself.
            loose: whether loose files go too.
        """
        named = self.files()
        kept = {MANIFEST, *(() if loose else self._loose)}
        found = [*(self.path.iterdir() if self.path.is_dir() else ())]
        for folder in folders:
            found += (self.path / folder).rglob("*")
        for path in found:
            name = path.relative_to(self.path).as_posix()
            temporary = path.name.startswith(".") and path.name.endswith(".tmp")
            final = path.with_name(path.name[1:-4]).relative_to(self.path).as_posix() if temporary else name
            if (self._known(final) or final == MANIFEST) and (temporary or (name not in named and name not in kept)):
                self.delete([name])

    def copy(
        self, target: str | os.PathLike[str], wanted: Callable[[str], bool], more: Mapping[str, bytes | memoryview]
    ) -> None:
        """Copy finished files to a new directory as they were at one moment, verified, also while they are written.

        The new directory appears whole or not at all.

        Args:
            target: where to.
            wanted: whether a file goes along.
            more: files that are written beside them.

        Raises:
            StorageError: the target exists, a file is damaged, or the disk is full.
        """
        path = Path(target)
        if os.path.lexists(path):
            raise StorageError(f"{path} exists already; copy to a new directory")
        building = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        copied = Directory(building)
        written: dict[str, Entry] = {}
        try:
            while (now := {n: e for n, e in self.files().items() if wanted(n)}) != written:
                copied.delete(written.keys() - now.keys())
                written = {n: e for n, e in written.items() if now.get(n) == e}
                written.update(self._copied(copied, {n: e for n, e in now.items() if n not in written}))
            copied._write_manifest(written)
            copied.commit(more)
            os.rename(building, path)
        except OSError as error:
            raise StorageError(f"could not write {path}: {error.strerror}. Nothing was copied.") from error
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def _copied(self, target: Directory, entries: Mapping[str, Entry]) -> Iterator[tuple[str, Entry]]:
        """Copy files for as long as they are there; each that was."""
        for name, entry in entries.items():
            try:
                target._replace(name, self._verified(name, entry))
            except StorageError:
                if self.files().get(name) == entry:
                    raise
                return  # a writer has removed it meanwhile
            yield name, entry

    @property
    def in_use(self) -> bool:
        """Whether a process is writing here now."""
        return locks.is_held(self.path)

    def _write_manifest(self, entries: Mapping[str, Entry]) -> None:
        manifest = {"format": FORMAT, "sha256": _hash_of_entries(entries), "files": entries}
        self._replace(MANIFEST, encode_json(manifest))
        self._read = None  # two writes may fall in one tick of the file system's clock

    def _replace(self, name: str, data: bytes | memoryview) -> None:
        if self._lock is not None and not locks.is_still(self._lock, self.path):
            raise StorageError(
                f"{self.path} was deleted or replaced while it was being written, so {name} was not. Nothing is left to"
                " go on from there; run again."
            )
        write(self._place(name), data)

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
        with locks.locked(self.path) as self._lock:
            try:
                yield
            finally:
                self._lock = None


def _is_plain(name: str) -> bool:
    """Whether a name is that of a file inside, whatever the system."""
    parts = PurePosixPath(name).parts
    return (
        name == "/".join(parts)
        and not name.startswith("/")
        and not any(part in (".", "..") or part.startswith("~") for part in parts)
        and name.isprintable()
        and "\\" not in name
        and ":" not in name
    )


def _hash_of_entries(entries: object) -> str:
    try:
        return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
    except RecursionError:
        return ""
