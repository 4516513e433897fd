"""`lottery cost`: one command from a run to the table and the sentences, and what is wrong is refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import commands
import pytest
import yaml
from commands import helped, refused

from lottery import Run, cli

pytestmark = pytest.mark.filterwarnings("ignore:[\\s\\S]*deprecated")

RECIPE: dict[str, Any] = {
    **commands.RECIPE,
    "model": {"class_path": "lottery.tasks.MLP", "init_args": {"inputs": 64, "hidden": [80, 40]}},
    "lottery": {"rounds": 2, "keep": "all", "pruning": {"amount": 0.5, "structure": "channel"}},
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose run is done; nobody changes either."""
    folder = tmp_path_factory.mktemp("cost")
    path = folder / "own.yaml"
    own = {**RECIPE["lottery"], "dirpath": str(folder / "run")}
    path.write_text(yaml.safe_dump({**RECIPE, "lottery": own}))
    assert cli.main(["run", str(path)]) == 0
    return path


def test_one_command_gives_table_and_words(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cost.json"
    options = ["--batch-sizes", "1,8", "--seconds", "0.05", "--json", str(file)]
    capsys.readouterr()
    assert cli.main(["cost", str(recipe), *options]) == 0
    out = capsys.readouterr().out
    run = Run(recipe.parent / "run")
    masks = run.masks[2]
    assert f"{masks.kept:,} of {masks.total:,} prunable weights are kept" in out
    for name in ("dense", "masked", "compacted", "sparse", "both", "grid", "latency"):
        assert name in out
    rows = [line for line in out.splitlines() if line.startswith(" ")]
    assert max(len(row) for row in rows) <= 80
    found = json.loads(file.read_text())
    (only,) = found["rounds"]
    assert (only["round"], only["kept"], only["batch_sizes"]) == (2, masks.kept, [1, 8])
    assert only["variants"]["compacted"]["flops"] == 2 * masks.kept
    assert set(only["variants"]["compacted"]["latency"]) == {"1", "8"}
    assert all(sentence in out for sentence in only["words"])
    assert found["command"].startswith(f"lottery cost {recipe}")


def test_several_rounds_give_a_row_each_and_a_page(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "cost.md"
    options = ["--rounds", "0,1,2", "--no-latency", "-o", str(page)]
    assert cli.main(["cost", str(recipe), *options]) == 0
    out = capsys.readouterr().out
    text = page.read_text()
    masks = Run(recipe.parent / "run").masks
    for round in (0, 1, 2):
        row = next(line for line in text.splitlines() if line.startswith(f"| {round} |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        kept = 100 * masks[round].density
        assert cells[1] == f"{kept:.3g} %"
        flops, theory = float(cells[5]), float(cells[6])
        assert flops == theory == pytest.approx(kept / 100, abs=0.005)
        assert f"## Round {round}" in text
    assert "| batch |" not in text
    assert "lottery cost" in text and "weights of rounds 0, 1 and 2 of" in out


def test_nothing_is_overwritten_and_bad_options_are_refused_before_anything_runs(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken.md"
    taken.write_text("mine")
    for options, says in (
        (["-o", str(taken)], "exists already"),
        (["--json", str(taken)], "exists already"),
        (["-o", "cost.html"], "ends in .md"),
        (["--batch-sizes", "1,x"], "write numbers and commas"),
        (["--batch-sizes", "0"], "positive integers"),
        (["--rounds", "1,", "--no-latency"], "write numbers and commas"),
        (["--rounds", "1", "--round", "1"], "give one of them"),
        (["--rounds", "7"], "has no round 7"),
        (["--seconds", "0"], "must be positive"),
        (["--device", "nowhere"], "is not there"),
        (["--keep", "nothing*", "--no-latency"], "matches no"),
    ):
        assert says in refused(capsys, ["cost", str(recipe), *options])
    assert taken.read_text() == "mine"


def test_help_explains_the_forms(capsys: pytest.CaptureFixture[str]) -> None:
    text = helped(capsys, "cost", "--help")
    for word in ("masked", "compacted", "both", "--batch-sizes", "--rounds", "examples:"):
        assert word in text
    assert all(len(line) <= 90 for line in text.splitlines())
