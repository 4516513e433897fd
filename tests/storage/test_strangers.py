"""Files from strangers: whatever they say, with every hash right, they take no memory, no time and nothing outside."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zoo
from resealed import reseal

from lottery import LotteryTicket, Masks, Run, StorageError, Ticket, storage
from lottery.cli import listing
from lottery.deploy import load_sparse
from lottery.masks.history import MaskHistory
from lottery.runs.layout import REWIND, decode_masks, encode_masks, run_directory
from lottery.storage import declared, hashed
from lottery.storage.directory import MANIFEST, Directory
from lottery.tickets import ticket_file
from lottery.tickets.checkpoint_file import read_weights

# names


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of two rounds."""
    zoo.fit(zoo.Net, LotteryTicket(1, 0.3, "2it", tmp_path / "home" / "run", keep="all"), max_epochs=1)
    return tmp_path / "home" / "run"


@pytest.mark.parametrize(
    "name",
    [
        *("../.bashrc", "/etc/passwd", "rounds/../../x", "~/x", "a\\..\\b", "C:x", "", ".", "rounds//00/summary.json"),
        *("run.json\n", "rounds/00/\x1b[2J.json", "notes.txt", "lightning_logs/x.json", "rounds/00/summary.json/x"),
    ],
)
def test_a_manifest_that_names_what_is_no_file_of_a_run_is_refused(name: str, run: Path) -> None:
    reseal(run, {name: b"theirs"})
    for use in (lambda: Run(run), lambda: run_directory(run).read(name), lambda: run_directory(run).commit({})):
        with pytest.raises(StorageError, match="manifest.json names .*, which is no file of such a directory"):
            use()


@pytest.mark.parametrize("name", ["../.bashrc", "/tmp/x", "a/../../b"])
def test_no_directory_of_any_kind_takes_a_name_that_leads_outside(name: str, tmp_path: Path) -> None:
    Directory(tmp_path).commit({"a.json": b"{}"})
    reseal(tmp_path, {name: b"theirs"})
    with pytest.raises(StorageError, match="names"):
        Directory(tmp_path).files()


def test_links_that_lead_outside_are_followed_neither_to_read_nor_to_write(run: Path) -> None:
    outside = run.parent / "outside"
    (run / "rounds").rename(outside)
    (run / "rounds").symlink_to(outside)
    with pytest.raises(StorageError, match="is a link that leads outside"):
        Run(run).summary(0)
    with pytest.raises(StorageError, match="is a link that leads outside"):
        run_directory(run).commit({"rounds/02/summary.json": b"{}"})
    assert not (outside / "02").exists()


# sizes


def measured(action: Callable[[], Any]) -> tuple[Any, float, int]:
    """What it gives or raises, its seconds, and by how much the process's largest memory grew, in bytes."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    try:
        found = action()
    except StorageError as error:
        found = error
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return found, time.monotonic() - began, grown * 1024


def assert_refused(action: Callable[[], Any], size: int) -> str:
    found, seconds, grown = measured(action)
    assert isinstance(found, (StorageError, ValueError)), found
    assert seconds < 5 and grown <= 3 * size + (64 << 20)
    return str(found)


def masks_of(count: int) -> torch.Tensor:
    """The coded mask of so many weights, all of them kept."""
    return MaskHistory.of([Masks({"w": torch.ones(count, dtype=torch.bool)})]).pack()


def ticket_of(count: int, declares: int, path: Path) -> Path:
    described = {"weights": "none", "shapes": {"w": [declares]}, "magnitudes": {}, "dtypes": {}, "provenance": {}}
    path.write_bytes(
        hashed.encode_hashed("ticket", ticket_file.FORMAT, described, {"masks": masks_of(count)}, weights=0)
    )
    return path


@pytest.mark.parametrize("declares", [2**33, 2**62, 10**7])
def test_a_small_ticket_that_declares_many_weights_is_refused_at_once(declares: int, tmp_path: Path) -> None:
    path = ticket_of(1000, declares, tmp_path / "a.ticket")
    said = assert_refused(lambda: Ticket.load(path), path.stat().st_size)
    assert f"declares {declares:,} weights" in said and f"most_weights={declares}" in said
    found, seconds, grown = measured(lambda: listing.entries(tmp_path))
    assert len(found) == 1 and seconds < 5 and grown < 64 << 20


def test_what_a_reader_allows_is_read(tmp_path: Path) -> None:
    count = declared.most_declared(0) + 10**6
    path = ticket_of(count, count, tmp_path / "a.ticket")
    with pytest.raises(StorageError, match="most_weights"):
        Ticket.load(path)
    assert Ticket.load(path, most_weights=count).masks.kept == count


def test_files_of_ours_are_large_enough_for_what_they_declare(tmp_path: Path) -> None:
    """Also where masks are coded in a few bytes."""
    count = declared.FREE + 10**6
    masks = Masks({"w": torch.ones(count, dtype=torch.bool)})
    Ticket(masks, {}).save(tmp_path / "a.ticket", weights="none")
    assert Ticket.load(tmp_path / "a.ticket").masks == masks
    assert (tmp_path / "a.ticket").stat().st_size < count / declared.PER_BYTE + 2000
    assert decode_masks(encode_masks(MaskHistory.of([masks])))[0] == masks


@pytest.mark.parametrize("encoding", ["dense", "grid", "blocks", "delta", "lzma", "bitmap", "coo"])
def test_a_small_sparse_file_that_declares_many_weights_is_refused_at_once(encoding: str, tmp_path: Path) -> None:
    tensors = {"mask/w": torch.tensor([0, *[0] * 12], dtype=torch.uint8), "values/w": torch.zeros(0)}
    described = {
        "values": "native",
        "order": ["w"],
        "tied": {},
        "masked": {"w": {"encoding": encoding, "shape": [2**17, 2**16], "dtype": "float32"}},
    }
    path = tmp_path / "small"
    path.write_bytes(hashed.encode_hashed("sparse", 1, described, tensors, weights=0))
    assert "declares 8,589,934,592 weights" in assert_refused(lambda: load_sparse(path), path.stat().st_size)


def zipped(entries: dict[str, bytes], kind: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


BOMB = zipped({"archive/data.pkl": pickle.dumps({}), "archive/data/0": bytes(1 << 26)}, zipfile.ZIP_DEFLATED)


def expanded() -> bytes:
    """A checkpoint whose tensor has one number in it, and says that there are 2^40 of it."""
    buffer = io.BytesIO()
    torch.save({"state_dict": {"w": torch.zeros(1).expand(2**40)}}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("data", [BOMB, expanded()], ids=["deflated", "expanded"])
def test_a_checkpoint_larger_than_its_file_is_refused_at_once(data: bytes, run: Path) -> None:
    (run / REWIND).write_bytes(data)
    reseal(run)
    said = assert_refused(lambda: Run(run).weights("rewind"), len(data))
    assert "rewind.ckpt" in said and "declares" in said


def test_compressed_weights_of_a_strangers_checkpoint_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(BOMB)
    with pytest.raises(ValueError, match="is no checkpoint, or is damaged"):
        read_weights(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    "read",
    [Ticket.load, load_sparse, read_weights, lambda path: Run(path.parent)],
    ids=["ticket", "sparse", "weights", "run"],
)
def test_pipes_and_devices_are_not_waited_for(read: Callable[[Path], Any], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MANIFEST)
    for device in (tmp_path / MANIFEST, Path("/dev/zero")):
        done = threading.Thread(
            target=lambda device=device: pytest.raises((StorageError, ValueError), read, device), daemon=True
        )
        done.start()
        done.join(10)
        assert not done.is_alive()


def test_a_pipe_in_the_place_of_a_runs_file_is_named(run: Path) -> None:
    (run / "rounds/00/summary.json").unlink()
    os.mkfifo(run / "rounds/00/summary.json")
    with pytest.raises(StorageError, match="summary.json cannot be read .it is a pipe"):
        Run(run).summary(0)
    (run / "run.lock").unlink()
    os.mkfifo(run / "run.lock")
    assert Run(run).status == "finished"
    with pytest.raises(StorageError, match="run.lock"), run_directory(run).locked():
        pass


def test_a_directory_in_the_place_of_the_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.lock").mkdir()
    with pytest.raises(StorageError, match="run.lock cannot be written"), Directory(tmp_path).locked():
        pass


# contents


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize("name", ["run.json", "rounds/00/summary.json", "rounds/00/history.json", "goal.json"])
@pytest.mark.parametrize("data", [b"[]", b"{}", b"3", b"null", b'"x"', b'{"rounds": 1e999}', DEEP, b"\xff", b"[[1]]"])
def test_a_file_of_a_run_that_says_something_else_is_named(name: str, data: bytes, run: Path) -> None:
    (run / name).write_bytes(data)
    reseal(run)
    readers: dict[str, Callable[[Run], Any]] = {
        "run.json": lambda r: r.info,
        "rounds/00/summary.json": lambda r: r.summary(0),
        "rounds/00/history.json": lambda r: r.records(0),
        "goal.json": lambda r: r.status,
    }
    if (name, data) == ("rounds/00/history.json", b"[]"):
        return  # nothing was logged
    with pytest.raises(StorageError, match=f"{Path(name).name} does not say what"):
        readers[name](Run(run))


@pytest.mark.parametrize("data", [b"[]", b"{", b"null", DEEP, b'{"format": 1e999}', b'{"format": true, "files": 3}'])
def test_a_manifest_that_says_something_else_is_named(data: bytes, run: Path) -> None:
    (run / MANIFEST).write_bytes(data)
    with pytest.raises(StorageError, match=MANIFEST):
        Run(run)


@pytest.mark.parametrize("entries", [{"run.json": 3}, {"run.json": {"size": -1}}, [], {"run.json": {"size": "x"}}])
def test_the_entries_of_a_manifest_are_checked(entries: Any, run: Path) -> None:
    import hashlib

    seal = hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
    (run / MANIFEST).write_text(json.dumps({"format": storage.FORMAT, "sha256": seal, "files": entries}))
    with pytest.raises(StorageError, match="manifest.json does not say what a manifest says"):
        Run(run)


@pytest.mark.parametrize("kind", ["weights", "provenance", "kept"])
def test_a_ticket_whose_parts_do_not_go_together_is_refused(kind: str, tmp_path: Path) -> None:
    masks = Masks.ones({"w": torch.zeros(6)})
    described: dict[str, Any] = {
        "weights": "all",
        "shapes": {"w": [6]},
        "magnitudes": {},
        "dtypes": {},
        "provenance": {},
        **({"provenance": ["x"]} if kind == "provenance" else {}),
        **({"kept": 5} if kind == "kept" else {}),
    }
    tensors = {"masks": MaskHistory.of([masks]).pack(), "weight/w": torch.ones(7 if kind == "weights" else 6)}
    path = tmp_path / "a.ticket"
    path.write_bytes(hashed.encode_hashed("ticket", ticket_file.FORMAT, described, tensors, weights=6))
    with pytest.raises(StorageError, match="a.ticket is not a ticket, or is damaged: "):
        Ticket.load(path)


# one form


def test_equal_tickets_are_equal_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    masks = Masks({"b": torch.rand(4, 3) < 0.5, "a": torch.rand(5) < 0.5})
    weights = {"b": torch.randn(4, 3), "a": torch.randn(5), "n": torch.tensor(3)}
    found = set()
    for number in range(12):
        order = list(weights)[:: 1 if number % 2 else -1]
        provenance = dict([("round", 3), ("seed", 1)][:: 1 if number % 2 else -1])
        Ticket(masks, {name: weights[name] for name in order}, provenance).save(tmp_path / "t")
        found.add((tmp_path / "t").read_bytes())
        Ticket.load(tmp_path / "t").save(tmp_path / "t")
        found.add((tmp_path / "t").read_bytes())
    assert len(found) == 1


def test_what_is_written_is_a_plain_safetensors_file(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    (tmp_path / "t").write_bytes(storage.encode_tensors({"w": torch.arange(3.0)}, {"b": "1", "a": "2"}, at_least=5000))
    assert (tmp_path / "t").stat().st_size >= 5000
    assert np.array_equal(load_file(tmp_path / "t")["w"], np.arange(3.0, dtype=np.float32))


# paths


@pytest.mark.parametrize("url", ["s3://bucket/run", "memory://run", "gs://x", "https://x.y/z"])
def test_stores_are_refused_by_name(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for use in (
        lambda: LotteryTicket(dirpath=url),
        lambda: Run(url),
        lambda: Ticket.load(url),
        lambda: Ticket(Masks({}), {}).save(url),
        lambda: run_directory(url),
        lambda: zoo.fit(zoo.Net, LotteryTicket(0), max_epochs=1, default_root_dir=url),
    ):
        with pytest.raises(ValueError, match=f"{url}.* is a URL"):
            use()
    assert not list(tmp_path.iterdir())


def test_a_relative_directory_is_the_one_where_the_ticket_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    ticket = LotteryTicket(1, dirpath="run")
    monkeypatch.chdir(tmp_path / "elsewhere")
    zoo.fit(zoo.Net, ticket, max_epochs=1, default_root_dir=tmp_path)
    assert Run(tmp_path / "run").rounds == [0, 1]
    assert not list((tmp_path / "elsewhere").iterdir())


# display


def test_names_from_strangers_do_nothing_to_a_terminal(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from lottery.cli import main

    ticket = Run(run).ticket(1)
    Ticket(ticket.masks, {}, {"origin": "\x1b]0;title\x07\x1b[2J"}).save(tmp_path / "a\nb\x1b[2J.ticket")
    (tmp_path / "bad\nfinished.ticket").write_bytes(b"")
    (tmp_path / "c\x1b[2J").mkdir()
    for arguments in (["ls", str(tmp_path)], ["inspect", str(tmp_path / "a\nb\x1b[2J.ticket")]):
        assert main(arguments) == 0
    assert main(["inspect", str(tmp_path / "c\x1b[2J")]) == 2
    told = "".join(capfd.readouterr())
    assert "\x1b" not in told and "\x07" not in told and "\\x1b]0;title" in told
    assert "a\\nb" in told and not [line for line in told.splitlines() if line.startswith("finished")]


def test_metrics_with_dollar_signs_are_drawn_and_reported(tmp_path: Path) -> None:
    from lottery.cli import main

    class Dollar(zoo.Net):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("acc$\\bad{$", self(batch[0]).mean())

    ticket = LotteryTicket(1, dirpath=tmp_path / "run", monitor="acc$\\bad{$")
    zoo.fit(Dollar, ticket, max_epochs=2)
    assert main(["report", str(tmp_path / "run"), "-o", str(tmp_path / "page.html")]) == 0
    assert "cannot be drawn" not in (tmp_path / "page.html").read_text()
