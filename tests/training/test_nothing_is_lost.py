"""Nothing that was trained is lost, and nothing that is read is another's."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from resealed import reseal

from lottery import LotteryTicket, Rewind, Run, StorageError
from lottery.runs.layout import LAST, REWIND, START
from lottery.storage.directory import Directory

RULES = {
    "weights": Rewind("2it"),
    "keep": Rewind("1ep", optimizer="keep"),
    "learning-rate": Rewind("1ep", rule="learning-rate"),
    "fine-tune": Rewind(rule="fine-tune", length="1ep"),
}


def fit(path: Path, *callbacks: Any, seed: int = 1, rounds: int = 2, make: Any = zoo.Net, **ticket: Any) -> Any:
    settings = {"keep": "all", "save_every": 1e9, "seed": 5, **ticket}
    return zoo.fit(make, LotteryTicket(rounds, dirpath=path, **settings), *callbacks, seed=seed, max_epochs=2)


@contextmanager
def killed_at_commit(monkeypatch: pytest.MonkeyPatch, of: str, before: bool) -> Iterator[None]:
    """The process ends just before, or just after, the commit of a file."""
    commit = Directory.commit

    def deadly(self: Directory, files: Any, drop: Any = ()) -> None:
        if before and of in files:
            raise zoo.Killed
        commit(self, files, drop)
        if of in files:
            raise zoo.Killed

    with monkeypatch.context() as context, pytest.raises(zoo.Killed):
        context.setattr(Directory, "commit", deadly)
        yield


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("rule", RULES)
def test_a_kill_at_any_commit_leaves_a_run_that_goes_on(
    rule: str, before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing of the round in progress was saved."""
    run = functools.partial(fit, rewind=RULES[rule])
    run(tmp_path / "whole")
    for number in range(3):
        with killed_at_commit(monkeypatch, f"rounds/{number:02d}/summary.json", before):
            run(tmp_path / "again")
    run(tmp_path / "again")
    zoo.assert_equal(zoo.contents(tmp_path / "again"), zoo.contents(tmp_path / "whole"))


def test_round_0_starts_over_with_the_same_bits_where_its_last_state_is_lost(tmp_path: Path) -> None:
    """Whatever weights and random streams the second process brings."""
    fit(tmp_path / "whole", rewind="5it")
    with pytest.raises(zoo.Killed):
        fit(tmp_path / "again", zoo.KillAt("on_train_batch_end", 6), rewind="5it", save_every="1it")
    (tmp_path / "again" / LAST).unlink()
    fit(tmp_path / "again", rewind="5it", make=lambda: (torch.rand(9), zoo.Net())[1])
    zoo.assert_equal(zoo.contents(tmp_path / "again"), zoo.contents(tmp_path / "whole"))
    assert not (tmp_path / "again" / START).exists()


def test_states_left_over_from_a_run_that_lost_its_manifest_are_not_used(tmp_path: Path) -> None:
    with pytest.raises(zoo.Killed):
        fit(tmp_path, zoo.KillAt("on_train_batch_end", 6), rewind="5it", seed=2)
    (tmp_path / "manifest.json").unlink()
    left = (tmp_path / REWIND).read_bytes()
    fit(tmp_path, rewind="5it")
    assert (tmp_path / REWIND).read_bytes() != left
    with pytest.raises(zoo.Killed):
        fit(tmp_path / "more", zoo.KillAt("on_train_batch_end", 6), save_every="1it")
    (tmp_path / "more" / "manifest.json").unlink()
    with pytest.raises(StorageError, match="manifest.json is missing, though the directory holds what was trained"):
        fit(tmp_path / "more")


@pytest.mark.parametrize("read", ["weights", "branch", "copy"])
def test_a_rewind_point_of_another_run_is_never_read(read: str, tmp_path: Path) -> None:
    """Resealed: no hash tells."""
    for name in ("one", "another"):
        fit(tmp_path / name, rounds=1)
    shutil.copy(tmp_path / "another" / REWIND, tmp_path / "one" / REWIND)
    reseal(tmp_path / "one")
    run = Run(tmp_path / "one")
    with pytest.raises(StorageError, match=f"rewind.ckpt is of run .*, not of run {run.info.id}"):
        if read == "weights":
            run.weights("rewind")
        elif read == "branch":
            LotteryTicket(0, dirpath=tmp_path / "b", branch={"dirpath": str(tmp_path / "one")}).branch.state()
        else:
            fit(tmp_path / "one", rounds=2)


@pytest.mark.parametrize("name", ["rounds/00/history.json", "rounds/00/weights.safetensors", "rounds/01/summary.json"])
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_damage_in_finished_rounds_is_noticed_before_anything_is_trained(
    name: str, damage: str, tmp_path: Path
) -> None:
    fit(tmp_path, rounds=1)
    path = tmp_path / name
    data = path.read_bytes()
    path.unlink()
    if damage == "flipped":
        path.write_bytes(data[:-9] + b"8" + data[-8:])
    with pytest.raises(StorageError, match=f"{path.name}.*lottery verify {tmp_path} --repair"):
        fit(tmp_path, zoo.KillAt("on_train_start", 0), rounds=2)


def test_a_finished_run_whose_last_weights_are_lost_gives_no_untrained_module(tmp_path: Path) -> None:
    fit(tmp_path / "run", rounds=1)
    Run(tmp_path / "run").copy(tmp_path / "copy")
    with pytest.raises(StorageError, match="all rounds are finished, but the module cannot be given what it trained"):
        fit(tmp_path / "copy", rounds=1)


# what a kill leaves behind


def everything(path: Path) -> set[str]:
    return {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()} - {"run.lock"}


def test_what_a_kill_left_behind_is_gone_after_the_next_fit(tmp_path: Path) -> None:
    fit(tmp_path / "clean", keep="last", rounds=2)
    expected = everything(tmp_path / "clean")
    run = tmp_path / "run"
    fit(run, keep="last", rounds=1)
    (run / "notes.txt").write_text("mine")
    (run / "logs").mkdir()
    (run / "logs" / "weights.safetensors").write_text("mine too")
    for orphan in ("rounds/00/weights.safetensors", "masks/00.safetensors", "end.ckpt", ".last.ckpt.tmp", START):
        (run / orphan).write_bytes(b"left")
    (run / "rounds/00/.weights.safetensors.tmp").write_bytes(b"left")
    with pytest.raises(zoo.Killed):
        fit(run, zoo.KillAt("on_train_batch_end", 3), keep="last", rounds=2, save_every="1it")
    stale = (run / LAST).read_bytes()
    fit(run, keep="last", rounds=2)
    (run / LAST).write_bytes(stale)  # of a round that is finished
    fit(run, keep="last", rounds=2)
    assert everything(run) == expected | {"notes.txt", "logs/weights.safetensors"}


def test_a_file_that_cannot_be_deleted_fails_no_committed_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self.name == "weights.safetensors":
            raise PermissionError(1, "not permitted")
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    fit(tmp_path, keep="last", rounds=1)
    assert Run(tmp_path).rounds == [0, 1]


def test_a_directory_deleted_while_it_is_written_is_not_half_made_again(tmp_path: Path) -> None:
    class Delete(zoo.pl.Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            shutil.rmtree(tmp_path / "run", ignore_errors=True)

    with pytest.raises(StorageError, match="was deleted or replaced while it was being written"):
        fit(tmp_path / "run", Delete())
    assert not (tmp_path / "run").exists()


# status and copies


def test_a_run_is_not_finished_before_all_rounds_that_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_at_commit(monkeypatch, "rounds/01/summary.json", before=False):
        fit(tmp_path, rounds=3)
    assert Run(tmp_path).rounds == [0, 1] and Run(tmp_path).in_progress is None
    assert Run(tmp_path).status == "interrupted" and Run(tmp_path).goal == 3
    fit(tmp_path, rounds=1)
    assert Run(tmp_path).status == "finished"


def test_copies_of_a_run_that_is_being_written_are_whole(tmp_path: Path) -> None:
    """Taken at every write of its directory, which is when it changes."""
    run, copies = tmp_path / "run", []
    fit(run, keep="last", rounds=0)
    read = Directory._verified

    def interfered(self: Directory, name: str, entry: Any) -> bytes:
        """A writer finishes a round between any two files that are read."""
        if self.path == run and len(copies) < 3:
            copies.append(name)
            with pytest.MonkeyPatch.context() as plain:
                plain.setattr(Directory, "_verified", read)
                fit(run, keep="last", rounds=len(copies))
        return read(self, name, entry)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Directory, "_verified", interfered)
        copied = Run(run).copy(tmp_path / "copy", weights=True)
    assert len(copies) == 3 and copied.rounds == [0, 1, 2, 3]
    assert not Directory(tmp_path / "copy").wrong()
    assert torch.equal(copied.weights(3)["net.0.weight"], Run(run).weights(3)["net.0.weight"])
    assert [p.name for p in tmp_path.iterdir() if p.name not in ("run", "copy")] == []


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    fit(tmp_path / "run", rounds=1)
    (tmp_path / "run" / "rounds/01/history.json").write_text("[]")
    with pytest.raises(StorageError, match="history.json has 2 bytes"):
        Run(tmp_path / "run").copy(tmp_path / "copy")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
