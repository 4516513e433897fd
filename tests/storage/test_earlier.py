"""What earlier versions wrote stays readable, and goes on. Beside `tests/fixtures/begun`, see `test_begun.py`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_args

import pytest
import torch

from lottery import Run, StorageError, Ticket, storage
from lottery.cli import listing, main
from lottery.deploy import load_sparse
from lottery.runs.layout import REWIND
from lottery.runs.verification import verify_run
from lottery.studies.cell import perform
from lottery.studies.jobs import Job
from lottery.studies.study import Study
from lottery.tickets.ticket_file import Kind

FIXTURES = Path(__file__).parents[1] / "fixtures"
EARLIER = FIXTURES / "earlier"
COMMITTED = Path(__file__).parents[2] / "checkpoints"


@pytest.mark.parametrize("kind", get_args(Kind))
def test_tickets_of_format_2_are_read(kind: str) -> None:
    ticket = Ticket.load(EARLIER / f"format2-{kind}.ticket")
    whole = Ticket.load(EARLIER / "format2-all.ticket")
    assert ticket.masks == whole.masks and ticket.provenance["round"] == 3
    expected = {"all": whole, "surviving": whole, "signs": whole.signed(), "none": Ticket(whole.masks, {})}[kind]
    assert ticket == expected
    assert ticket.weights.keys() == expected.weights.keys()


def test_sparse_files_of_format_1_are_read() -> None:
    ticket = Ticket.load(EARLIER / "format2-all.ticket")
    found = load_sparse(EARLIER / "format1.sparse")
    for name, weight in ticket.weights.items():
        mask = ticket.masks.get(name, torch.ones_like(weight, dtype=torch.bool))
        assert torch.equal(found[name], torch.where(mask, weight, 0))


def test_what_is_committed_is_read_and_listed() -> None:
    found = listing.entries(COMMITTED)
    assert len(found) == 5 and not [entry for entry in found if entry.wrong or entry.density is None]
    assert len(Run(COMMITTED / "fashion-lenet").rounds) == 16


def test_runs_of_format_2_are_read_and_whole() -> None:
    for path in (FIXTURES / "begun", EARLIER / "study/ticket/seed-0", COMMITTED / "fashion-lenet"):
        assert storage.Directory(path).format == 2
        assert not verify_run(path)


def test_a_study_of_format_1_is_read_and_goes_on(tmp_path: Path) -> None:
    """Its control is trained from a ticket's run of format 2, whose rewind point no manifest names."""
    path = Path(shutil.copytree(EARLIER / "study", tmp_path / "study"))
    assert not Study(path).progress().left
    shutil.rmtree(path / "signs")
    (cell,) = Study(path).progress().left
    perform(Job(cell.key, str(path)))
    assert not Study(path).progress().left
    assert main(["verify", str(path)]) == 0


def test_a_copy_of_a_run_of_format_2_has_its_rewind_point_in_the_manifest(tmp_path: Path) -> None:
    source = Run(EARLIER / "study/ticket/seed-0")
    copied = source.copy(tmp_path / "copy", weights=True)
    assert REWIND in storage.Directory(tmp_path / "copy")
    name = "hidden.0.weight"
    assert torch.equal(copied.weights("rewind")[name], source.weights("rewind")[name])


def test_a_rewind_point_of_another_run_is_refused_in_format_2_too(tmp_path: Path) -> None:
    path = Path(shutil.copytree(EARLIER / "study/ticket/seed-0", tmp_path / "run"))
    shutil.copy(FIXTURES / "begun" / REWIND, path / REWIND)
    with pytest.raises(StorageError, match="rewind.ckpt is of run .*, not of run"):
        Run(path).weights("rewind")
