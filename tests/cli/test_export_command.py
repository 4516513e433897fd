"""`lottery export`: it writes the network that its arguments name, and the lines it prints load that network."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
import zoo
from commands import RECIPE, checkpoint, refused
from torch import Tensor, nn

from lottery import Run, cli
from lottery.cli import network, recipe_arguments
from lottery.cli.export import options_parser
from lottery.deploy.export.formats import available
from lottery.deploy.sparse.file import load_sparse
from lottery.tasks.models import MLP

pytestmark = pytest.mark.filterwarnings("ignore:[\\s\\S]*deprecated")
FORMATS = available()
LOADED = {"onnx", "program"}  # formats that are run, rather than loaded into the module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe `own.yaml` and its run `run`, of three rounds with all their weights; nobody changes them."""
    folder = tmp_path_factory.mktemp("exported")
    lottery = {**RECIPE["lottery"], "rounds": 2, "dirpath": str(folder / "run")}
    (folder / "own.yaml").write_text(yaml.safe_dump({**RECIPE, "lottery": lottery}))
    assert cli.main(["run", str(folder / "own.yaml")]) == 0
    return folder


def read(folder: Path, options: str = "") -> network.Network:
    arguments = [str(folder / "own.yaml"), "--to", "sparse", "-o", "x", *shlex.split(options)]
    return network.read(*recipe_arguments.parse(options_parser(), arguments))


def exported(folder: Path, to: str, out: Path, *options: str) -> int:
    return cli.main(["export", str(folder / "own.yaml"), "--to", to, "-o", str(out), *options])


def state(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.state_dict())


# The network that the arguments name


@pytest.mark.parametrize("round", [None, 0, 1])
@pytest.mark.parametrize("named", [False, True])
def test_the_network_is_that_of_a_round(round: int | None, named: bool, folder: Path) -> None:
    options = "" if round is None else f"--round {round}"
    found = read(folder, f"{options} --run {folder / 'run'}" if named else options)
    run, number = Run(folder / "run"), 2 if round is None else round
    zoo.assert_equal(state(found.module), run.weights(number))
    assert found.masks == run.masks[number] and found.round == number
    assert not any(part.training for part in found.module.modules())
    assert found.origin == f"the weights of round {number} of {folder / 'run'}"


def test_the_example_is_a_batch_of_the_recipes_data(folder: Path) -> None:
    found = read(folder, "--data.init_args.batch_size 16")
    assert found.example.shape == (16, 64) and found.example.std() > 0.1
    assert torch.equal(found.example, read(folder, "--data.init_args.batch_size 16").example)


def test_rounds_share_a_batch_and_nothing_else(folder: Path) -> None:
    known, recipe, overrides = recipe_arguments.parse(
        options_parser(), [str(folder / "own.yaml"), "--to", "sparse", "-o", "x"]
    )
    first, last = network.read_rounds(known, recipe, overrides, [0, None])
    assert (first.round, last.round) == (0, 2) and first.example is last.example
    zoo.assert_equal(state(first.module), Run(folder / "run").weights(0))
    assert first.masks.density == 1 > last.masks.density == 0.25


def test_a_ticket_gives_its_start_weights(folder: Path, tmp_path: Path) -> None:
    ticket = Run(folder / "run").ticket(2)
    ticket.save(tmp_path / "a.ticket")
    found = read(folder, f"--ticket {tmp_path / 'a.ticket'}")
    assert found.masks == ticket.masks
    wanted = ticket.apply(MLP(**RECIPE["model"]["init_args"]))
    zoo.assert_equal(state(found.module), state(wanted))


def test_a_checkpoint_has_the_masks_of_its_zeros_or_of_a_ticket(folder: Path, tmp_path: Path) -> None:
    ticket = Run(folder / "run").ticket(1)
    ticket.save(tmp_path / "a.ticket", weights="none")
    path = checkpoint(tmp_path)
    found = read(folder, f"--checkpoint {path}")
    assert found.masks.density == 1
    both = read(folder, f"--checkpoint {path} --ticket {tmp_path / 'a.ticket'}")
    assert both.masks == ticket.masks
    zoo.assert_equal(state(both.module), state(ticket.bake(found.module)))
    torch.save(state(both.module), tmp_path / "baked.pt")
    assert read(folder, f"--checkpoint {tmp_path / 'baked.pt'}").masks == ticket.masks


# What is written


@pytest.mark.parametrize(
    "to",
    [pytest.param(to, marks=[pytest.mark.slow] * (to in LOADED) + [zoo.needs_onnx] * (to == "onnx")) for to in FORMATS],
)
@pytest.mark.parametrize("options", ["", pytest.param("--compact", marks=pytest.mark.slow)])
def test_the_lines_it_prints_load_the_network(
    to: str, options: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exported(folder, to, tmp_path / "out", *shlex.split(options)) == 0
    said = capsys.readouterr().out
    one = read(folder)
    names: dict[str, Any] = {"torch": torch, "batch": one.example}
    if to == "onnx":
        names["onnxruntime"] = importlib.import_module("onnxruntime")
    names["module"] = MLP(**RECIPE["model"]["init_args"]).eval()
    for line in said.split("\nload it:\n")[1].splitlines():
        exec(line.strip(), names)  # noqa: S102 (these lines are what is tested)
    found = names["outputs"] if to in LOADED else names["module"](one.example)
    found = torch.as_tensor(found[0]) if to == "onnx" else found
    assert torch.allclose(found, one.module(one.example), atol=1e-4)
    if to not in LOADED and not options:
        zoo.assert_equal(state(names["module"]), state(one.module))
    assert "bit for bit" in said or (to in LOADED and " differ from " in said)
    size = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.name != "config.json" and f.is_file())
    written = re.search(r"wrote \S+ \(([\d.]+) (k?)B\)", said)
    assert written is not None
    assert float(written[1]) * (1000 if written[2] else 1) == pytest.approx(size, rel=0.01)


def test_int8_says_how_far_its_outputs_are_off(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exported(folder, "sparse", tmp_path / "exact") == 0
    assert exported(folder, "sparse", tmp_path / "rounded", "--values", "int8") == 0
    said = capsys.readouterr().out
    assert (tmp_path / "rounded").stat().st_size < (tmp_path / "exact").stat().st_size
    one = read(folder)
    module = MLP(**RECIPE["model"]["init_args"]).eval()
    module.load_state_dict(load_sparse(tmp_path / "rounded"))
    apart = (module(one.example) - one.module(one.example)).abs().max().item()
    found = re.search(r"differ by at most ([\d.e-]+);", said)
    assert found is not None and float(found[1]) == pytest.approx(apart, rel=0.05) and apart > 0


@pytest.mark.slow
def test_compaction_says_what_went_and_what_stayed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = read(folder)
    with torch.no_grad():
        one.module.hidden[0].weight[:5] = 0
        one.module.hidden[0].bias[:5] = 0
    torch.save(state(one.module), tmp_path / "dead.pt")
    options = ["--compact", "--checkpoint", str(tmp_path / "dead.pt")]
    assert exported(folder, "state_dict", tmp_path / "small.pt", *options) == 0
    said = capsys.readouterr().out
    small = torch.load(tmp_path / "small.pt", weights_only=True)
    units = len(small["hidden.0.weight"])
    assert units <= 15 and f"20 x 64  {units} x 64" in re.sub(" {2,}", "  ", said)
    left = sum(t.numel() for t in small.values())
    assert f"{left:,} of 1,682 parameters are left" in said


# What is wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--to sparse -o own.yaml", "own.yaml exists already"),
        ("--to onnx -o x --values int8", "--values is of --to sparse, and --to onnx has none"),
        ("--to sparse -o x --opset 18", "--opset is of --to onnx"),
        pytest.param("--to onnx -o x --opset 5", "begins at 18", marks=zoo.needs_onnx),
        ("--to onnx -o x --keep hidden", "give that too"),
        ("--to pickle -o x", "--to"),
        ("-o x", "--to"),
        ("--to sparse -o x --round 9", "has no round 9; finished rounds are [0, 1, 2]"),
        ("--to sparse -o x --run nowhere", "nowhere holds no run"),
        ("--to sparse -o x --run run --ticket a.ticket", "--run and --ticket both name weights"),
        ("--to sparse -o x --round 1 --ticket a.ticket", "a round is of a run"),
        ("--to sparse -o x --ticket a.ticket", "a.ticket does not exist"),
        ("--to sparse -o x --checkpoint none.pt", "there is no checkpoint 'none.pt'"),
        ("--to sparse -o x --lottery.dirpath other", "has no run yet in other"),
        ("--to sparse -o x --model.init_args.hidden [30]", "hidden.1.weight: only in what was read"),
        ("--to sparse -o x --model.init_args.hiden [30]", "Option 'hiden' is not accepted"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(
    options: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    assert message in refused(capsys, ["export", "own.yaml", *shlex.split(options)])
    assert sorted(folder.iterdir()) == before


def test_weights_that_were_not_kept_come_with_those_that_were(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(folder / "own.yaml")
    dirpath = str(tmp_path / "run")
    own = ["--lottery.dirpath", dirpath, "--lottery.keep", "last"]
    assert cli.main(["run", recipe, *own]) == 0
    error = refused(
        capsys, ["export", recipe, "--to", "sparse", "-o", str(tmp_path / "x"), "--run", dirpath, "--round", "1"]
    )
    assert "the weights of round 1 were not kept" in error
    assert "--round 2" in error and "--round 0" not in error and "--ticket FILE" in error
    published = Run(dirpath).copy(tmp_path / "published")
    error = refused(
        capsys, ["export", recipe, "--to", "sparse", "-o", str(tmp_path / "x"), "--run", str(published.path)]
    )
    assert "--round" not in error and "--ticket FILE" in error


def test_a_safetensors_directory_is_not_written_over(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    arguments = ["export", str(folder / "own.yaml"), "--to", "safetensors", "-o", str(tmp_path)]
    assert "config.json exists already" in refused(capsys, arguments)
    assert (tmp_path / "config.json").read_text() == "{}"


def test_help_lists_every_format_and_says_which_network(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="^0$"):
        cli.main(["export", "--help"])
    said = capsys.readouterr().out
    assert all(f"  {name} " in said and about in said for name, about in FORMATS.items())
    assert "--run RUN" in said and max(map(len, said.splitlines())) <= 88
    with pytest.raises(SystemExit, match="^2$"):
        cli.main(["export"])
    assert capsys.readouterr().out == said
