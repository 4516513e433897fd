"""What is read, what is changed in it, and everything that reads it."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from resealed import reseal

from fuzz.changes import changed, changed_bytes, changed_tensors, text_of
from lottery import Masks, Run, StorageError, Ticket, storage
from lottery.cli import listing, views
from lottery.deploy import load_sparse
from lottery.deploy.sparse import file as sparse_file
from lottery.deploy.sparse.file import load_sparse_masks
from lottery.masks.history import MaskHistory
from lottery.runs.layout import decode_masks, encode_masks
from lottery.runs.verification import verify_run
from lottery.storage import hashed
from lottery.storage.directory import MANIFEST, Directory
from lottery.studies.plan import Plan
from lottery.studies.study import Study
from lottery.tickets import ticket_file
from lottery.tickets.checkpoint_file import read_weights

BEGUN = Path(__file__).parents[1] / "fixtures" / "begun"
REFUSALS = (StorageError, ValueError)
"""What a reader may say, in a sentence."""


@dataclass(frozen=True)
class Reader:
    """Files of a kind.

    Args:
        files: a strategy of contents, by name; a name without a slash may be a single file.
        reads: everything that reads them, given the folder in which they are.
    """

    files: st.SearchStrategy[dict[str, bytes]]
    reads: tuple[Callable[[Path], object], ...]


def _masks() -> Masks:
    drawn = torch.Generator().manual_seed(0)
    return Masks({"a.weight": torch.rand(6, 5, generator=drawn) < 0.4, "b": torch.rand(9, generator=drawn) < 0.5})


def _weights() -> dict[str, torch.Tensor]:
    drawn = torch.Generator().manual_seed(1)
    shapes = {"a.weight": (6, 5), "a.bias": (6,), "b": (9,)}
    return {name: torch.randn(shape, generator=drawn) for name, shape in shapes.items()}


@st.composite
def _hashed(draw: st.DrawFn, kind: str, format: int, samples: list[bytes]) -> bytes:
    """A file with its own hash, changed in what it says of itself, in its tensors, or in its bytes."""
    data = draw(st.sampled_from(samples))
    described = json.loads(storage.decode_metadata(data)[kind])
    tensors = storage.decode_tensors(data)
    what = draw(st.integers(0, 4))
    if what == 0:
        return draw(changed_bytes(data))
    if what != 1:
        described = draw(changed(described))
    if what in (1, 2):
        tensors = draw(changed_tensors(tensors))
    text = text_of(described)
    with contextlib.suppress(UnicodeEncodeError):
        return storage.encode_tensors(tensors, {kind: text, "sha256": hashed.digest(tensors, text)})
    return b""


def _tickets() -> list[bytes]:
    ticket = Ticket(_masks(), _weights(), {"run": "x", "round": 3, "metrics": {"best": {"acc": 0.5}}})
    signed = ticket.signed()
    return [
        ticket_file.encode(ticket_file.Contents(t.masks, dict(t.weights), dict(t.provenance)), kind)
        for t, kind in ((ticket, "all"), (ticket, "surviving"), (signed, "signs"), (ticket, "none"))
    ]


def _use_ticket(folder: Path) -> None:
    ticket = Ticket.load(folder / "x.ticket")
    repr(ticket), ticket.table(), ticket.structure(), ticket.fingerprint, hash(ticket)
    ticket.overlap(ticket)
    ticket.save(folder / "again.ticket")
    Ticket.load(folder / "again.ticket")
    _shown(views.ticket_view(ticket))


def _shown(view: Any) -> None:
    from rich.console import Console

    Console(file=io.StringIO(), width=200).print(view)


def _list(folder: Path) -> None:
    found = listing.entries(folder)
    _shown(views.listing_view(found, folder))


_SPARSE = [
    sparse_file.encode(_weights(), _masks(), values=values, encoding=encoding)  # type: ignore[arg-type]
    for values in ("native", "int8")
    for encoding in ("delta", "lzma", "bitmap", "auto")
]


@st.composite
def _history(draw: st.DrawFn) -> dict[str, bytes]:
    first = _masks()
    history = MaskHistory.of([Masks.ones(first), first])
    data = encode_masks(history)
    if draw(st.booleans()):
        return {"masks/01.safetensors": draw(changed_bytes(data))}
    said = {n: json.loads(v) for n, v in storage.decode_metadata(data).items()}
    other = draw(changed(said))
    said = {name: text_of(value) for name, value in other.items()} if isinstance(other, dict) else {}
    tensors = storage.decode_tensors(data)
    return {"masks/01.safetensors": storage.encode_tensors(tensors, {str(k): v for k, v in said.items()})}


def _use_history(folder: Path) -> None:
    directory = Directory(folder)
    reseal(folder, None)
    history = directory.read_as("masks/01.safetensors", decode_masks)
    history[-1], len(history), history.entropy(), encode_masks(history)


@cache
def _run_files() -> dict[str, bytes]:
    names = [p.relative_to(BEGUN).as_posix() for p in BEGUN.rglob("*") if p.is_file()]
    return {name: (BEGUN / name).read_bytes() for name in names if not name.endswith("run.lock")}


@st.composite
def _run(draw: st.DrawFn) -> dict[str, bytes]:
    files = dict(_run_files())
    name = draw(st.sampled_from([n for n in files if not n.endswith(".ckpt")]))
    if name.endswith(".json") and draw(st.integers(0, 4)):
        files[name] = text_of(draw(changed(json.loads(files[name])))).encode()
    elif name.endswith("weights.safetensors") and draw(st.booleans()):
        files[name] = storage.encode_tensors(draw(changed_tensors(storage.decode_tensors(files[name]))))
    else:
        files[name] = draw(changed_bytes(files[name]))
    return files


def _resealed(folder: Path) -> None:
    with contextlib.suppress(Exception):  # the manifest itself may be what is changed
        reseal(folder)


def _use_run(folder: Path) -> None:
    run = Run(folder)
    for read in (
        lambda: run.info, lambda: run.status, lambda: run.rounds, run.table, run.history, run.densities,
        run.connectivity, lambda: run.metric, lambda: run.masks[0], lambda: _shown(views.run_view(run)),
        lambda: run.ticket(1), lambda: run.weights(0), lambda: run.weights("initial"), lambda: run.weights("rewind"),
        lambda: _copied(run, folder), lambda: repr(run), run._repr_html_, lambda: run.records(1),
    ):  # fmt: skip
        with contextlib.suppress(*REFUSALS):
            read()


def _copied(run: Run, folder: Path) -> None:
    target = folder.with_name(f"{folder.name}-copy")
    shutil.rmtree(target, ignore_errors=True)
    run.copy(target, weights=True)


@st.composite
def _study(draw: st.DrawFn) -> dict[str, bytes]:
    said = {
        "format": 1,
        "overrides": ["--threads", "1"],
        "seeds": [0, 1],
        "controls": ["reinit", {"name": "signs"}],
        "rounds": [1, 2],
        "last": 2,
        "seed_settings": [],
    }
    files = {"recipe.yaml": b"lottery: {rounds: 2}\n", "study.json": text_of(said).encode()}
    if draw(st.booleans()):
        files["study.json"] = text_of(draw(changed(said))).encode()
    else:
        files["study.json"] = draw(changed_bytes(files["study.json"]))
    return files


def _use_study(folder: Path) -> None:
    Plan.read(folder)
    study = Study(folder)
    repr(study), study.table(), study.progress()


@st.composite
def _checkpoint(draw: st.DrawFn) -> dict[str, bytes]:
    files = dict(_run_files())
    name = draw(st.sampled_from(["last.ckpt", "rewind.ckpt"]))
    if draw(st.booleans()):
        files[name] = draw(changed_bytes(files[name]))
        return files
    state: Any = torch.load(io.BytesIO(files[name]), weights_only=True)
    part = draw(st.sampled_from([(), ("callbacks",), ("callbacks", "LotteryTicket"), ("lottery",)]))
    whole = state
    for key in part[:-1]:
        whole = whole[key]
    inner = whole[part[-1]] if part else state
    other = draw(changed(inner))
    if part:
        whole[part[-1]] = other
    buffer = io.BytesIO()
    torch.save(state if part else other, buffer)
    files[name] = buffer.getvalue()
    return files


def _use_checkpoint(folder: Path) -> None:
    for name in ("last.ckpt", "rewind.ckpt"):
        with contextlib.suppress(*REFUSALS):
            read_weights(folder / name)
    _use_run(folder)


@st.composite
def _recipe(draw: st.DrawFn) -> dict[str, bytes]:
    said = {
        "seed_everything": 1,
        "threads": 1,
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_checkpointing": False},
        "model": {"class_path": "lottery.tasks.MLP", "init_args": {"inputs": 64, "hidden": [12], "classes": 10}},
        "data": {"class_path": "lottery.tasks.Digits", "init_args": {"batch_size": 64}},
        "lottery": {"rounds": 2, "pruning": {"amount": 0.2, "scope": "layerwise"}, "monitor": "val_acc"},
    }
    text = text_of(draw(changed(said))).encode()
    return {"recipe.yaml": text if draw(st.integers(0, 3)) else draw(changed_bytes(text))}


def _use_recipe(folder: Path) -> None:
    from lottery.training import recipes

    recipes.load(str(folder / "recipe.yaml"))


def _entries(names: str, strategy: st.SearchStrategy[bytes]) -> st.SearchStrategy[dict[str, bytes]]:
    return strategy.map(lambda data: {names: data})


READERS = {
    "ticket": Reader(_entries("x.ticket", _hashed("ticket", ticket_file.FORMAT, _tickets())), (_use_ticket, _list)),
    "sparse": Reader(
        _entries("x", _hashed("sparse", sparse_file.FORMAT, _SPARSE)),
        (lambda f: load_sparse(f / "x"), lambda f: load_sparse_masks(f / "x")),
    ),
    "history": Reader(_history(), (_use_history,)),
    "run": Reader(_run(), (_resealed, _use_run, _list, lambda f: verify_run(f))),
    "study": Reader(_study(), (_use_study, _list)),
    "checkpoint": Reader(_checkpoint(), (_resealed, _use_checkpoint, lambda f: verify_run(f))),
    "recipe": Reader(_recipe(), (_use_recipe,)),
}


def write(files: dict[str, bytes], folder: Path) -> None:
    """Put files into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    if set(files) == {"masks/01.safetensors"}:
        (folder / MANIFEST).write_text(
            json.dumps({"format": storage.FORMAT, "sha256": "", "files": dict.fromkeys(files)})
        )


def packed(files: dict[str, bytes]) -> bytes:
    """Files as one, for the corpus."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpacked(data: bytes) -> dict[str, bytes]:
    """What `packed` packed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def read_all(reader: Reader, files: dict[str, bytes], folder: Path) -> None:
    """Have everything read the files.

    Raises:
        Exception: that is no refusal in a sentence.
    """
    write(files, folder)
    for read in reader.reads:
        try:
            read(folder)
        except REFUSALS as error:
            assert str(error).strip(), f"{type(error).__name__} says nothing"
