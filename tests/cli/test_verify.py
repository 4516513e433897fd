"""`lottery verify`: every damage is found and named; what is repaired comes out with the same bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from resealed import reseal

from lottery import LotteryTicket, Rewind, Run, storage
from lottery.cli import main
from lottery.deploy import save_sparse
from lottery.runs.layout import LAST


def fit(path: Path, *callbacks: Any, rounds: int = 2, **ticket: Any) -> None:
    settings = {"keep": "all", "save_every": "1it", "seed": 5, "rewind": "init", **ticket}
    zoo.fit(zoo.Net, LotteryTicket(rounds, 0.3, dirpath=path, **settings), *callbacks, max_epochs=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    fit(path)
    return path


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def verify(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> tuple[int, str]:
    capsys.readouterr()
    status = main(["verify", str(path), *options])
    return status, capsys.readouterr().out


def test_a_whole_run_is_whole(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(capsys, run) == (0, f"{run}: whole\n")


def test_a_begun_run_is_whole_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in (0, 3, 12):
        with pytest.raises(zoo.Killed):
            fit(tmp_path / str(n), zoo.KillAt("on_train_batch_end", n), rewind="2it")
        assert verify(capsys, tmp_path / str(n)) == (0, f"{tmp_path / str(n)}: whole\n")


@pytest.mark.parametrize(
    "name",
    [
        *("rounds/00/summary.json", "rounds/01/history.json", "rounds/02/weights.safetensors"),
        *("rounds/00/weights.safetensors", "goal.json", "initial.safetensors"),
    ],
)
@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_what_can_be_made_again_comes_out_with_the_same_bits(
    name: str, damage: str, run: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray((run / name).read_bytes())
    (run / name).unlink()
    if damage == "flipped":
        data[len(data) // 2] ^= 1
        (run / name).write_bytes(data)
    status, said = verify(capsys, run)
    assert status == 1 and f"{run / name}: " in said and "with --repair:" in said
    status, said = verify(capsys, run, "--repair")
    assert status == 0 and "with --repair:" not in said
    assert verify(capsys, run)[0] == 0
    fit(run)
    zoo.assert_equal(zoo.contents(run), zoo.contents(whole))
    assert verify(capsys, run)[0] == 0


@pytest.mark.parametrize("name", ["rewind.ckpt", "masks/02.safetensors", "run.json", "manifest.json"])
def test_what_cannot_be_made_again_is_said(name: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (run / name).read_bytes()
    (run / name).write_bytes(data[:-20])
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    for options in ([], ["--repair"]):
        status, said = verify(capsys, run, *options)
        assert status == 1 and Path(name).name in said and "cannot be made again: restore it from a copy" in said
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_a_round_that_needs_what_is_gone_cannot_be_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, keep="last", rewind=Rewind("init", rule="learning-rate"))
    (tmp_path / "rounds/01/history.json").unlink()
    status, said = verify(capsys, tmp_path, "--repair")
    assert status == 1 and "cannot be trained again without rounds/00/weights.safetensors" in said


def test_a_lost_manifest_is_made_again(run: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "manifest.json").unlink()
    assert verify(capsys, run)[0] == 1
    assert verify(capsys, run, "--repair")[0] == 0
    assert verify(capsys, run)[0] == 0
    zoo.assert_equal(zoo.contents(run), zoo.contents(whole))


def test_a_damaged_last_checkpoint_and_orphans_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(zoo.Killed):
        fit(tmp_path, zoo.KillAt("on_train_batch_end", 12))
    (tmp_path / LAST).write_bytes(b"no checkpoint")
    (tmp_path / "rounds/01").mkdir()
    (tmp_path / "rounds/01/summary.json").write_text("left behind")
    assert verify(capsys, tmp_path)[0] == 1
    assert verify(capsys, tmp_path, "--repair")[0] == 0
    assert not (tmp_path / LAST).exists() and not (tmp_path / "rounds/01/summary.json").exists()
    fit(tmp_path)


def lie(path: Path, name: str) -> None:
    """Have a file say what does not go with the rest, with every hash right."""
    file = path / name
    if name.endswith("summary.json"):
        said = json.loads(file.read_text())
        file.write_text(json.dumps({**said, "kept": said["kept"] - 1}))
    elif name.endswith("weights.safetensors"):
        weights = storage.decode_tensors(file.read_bytes())
        weights["net.0.weight"] += 1
        file.write_bytes(storage.encode_tensors(weights))
    elif name.endswith("initial.safetensors"):
        file.write_bytes(storage.encode_tensors({"net.0.weight": torch.zeros(3)}))
    reseal(path)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("rounds/02/summary.json", "weights are kept; the masks keep"),
        ("rounds/02/weights.safetensors", "pruned weights of net.0.weight are not zero"),
        ("initial.safetensors", "it has no net.0.weight"),
    ],
)
def test_parts_that_do_not_go_together_are_found(
    name: str, what: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lie(run, name)
    status, said = verify(capsys, run)
    assert status == 1 and f"{run / name}: " in said and what in said


def test_files_are_verified(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ticket = Run(whole).ticket(1)
    ticket.save(tmp_path / "a.ticket")
    save_sparse(tmp_path / "a.sparse", ticket.weights, ticket.masks)
    for name in ("a.ticket", "a.sparse"):
        assert verify(capsys, tmp_path / name)[0] == 0
        data = bytearray((tmp_path / name).read_bytes())
        data[-1] ^= 1
        (tmp_path / name).write_bytes(data)
        status, said = verify(capsys, tmp_path / name)
        assert status == 1 and name in said
    assert main(["verify", str(tmp_path / "nothing")]) == 2
