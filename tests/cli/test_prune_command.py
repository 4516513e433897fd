"""`lottery prune`: what it finds is what a run finds, and what is wrong is refused in words."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import yaml
import zoo
from commands import RECIPE, checkpoint, refused

from lottery import Run, Ticket, cli
from lottery.pruning import scores, structures
from lottery.pruning.amounts import Scope
from lottery.tasks.models import MLP

pytestmark = pytest.mark.filterwarnings("ignore:[\\s\\S]*deprecated")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(folder: Path, **lottery: Any) -> Path:
    path = folder / "own.yaml"
    settings = {"dirpath": str(folder / "run"), **lottery}
    own = {**RECIPE, "lottery": {**RECIPE["lottery"], **settings}}
    path.write_text(yaml.safe_dump(own))
    return path


def pruned(recipe: Path, *options: str) -> Ticket:
    out = recipe.with_name("out.ticket")
    out.unlink(missing_ok=True)
    assert cli.main(["prune", str(recipe), "-o", str(out), *options]) == 0
    return Ticket.load(out)


# Laws


@pytest.mark.parametrize(
    "pruning",
    [
        {"amount": 0.3},
        {"score": "random", "densities": [0.2]},
        {"score": {"name": "snip", "batches": 2}, "amount": 0.9, "steps": 3},
        {"score": "synflow", "densities": [0.05], "steps": 20},
        {"score": "taylor", "structure": "channel", "amount": 0.5},
        {"score": "fisher", "structure": "2:4", "exclude": ["output.*"]},
    ],
    ids=lambda pruning: str(pruning.get("score", "magnitude")),
)
def test_what_it_finds_is_what_the_first_round_of_a_run_finds(pruning: dict[str, Any], tmp_path: Path) -> None:
    recipe = written(tmp_path, pruning={**pruning, "weights": "start"})
    found = pruned(recipe)
    assert not (tmp_path / "run").exists()
    assert cli.main(["run", str(recipe)]) == 0
    run = Run(tmp_path / "run")
    assert found.masks == run.masks[1]
    zoo.assert_equal(dict(found.weights), run.weights("initial"))


@pytest.mark.parametrize("score", ["snip", "magnitude_increase"])
def test_what_it_finds_for_a_round_is_what_the_round_after_it_has(score: str, tmp_path: Path) -> None:
    recipe = written(tmp_path, rounds=2, pruning={"amount": 0.5, "score": score})
    assert cli.main(["run", str(recipe)]) == 0
    run = Run(tmp_path / "run")
    for round in (0, 1):
        found = pruned(recipe, "--run", str(run.path), "--round", str(round))
        assert found.masks == run.masks[round + 1]
        zoo.assert_equal(dict(found.weights), run.weights(round))


def test_options_say_the_same_as_settings_of_the_recipe(tmp_path: Path) -> None:
    options = "--density 0.2 --score '{name: snip, batches: 2}' --steps 2 --scope uniform"
    asked = pruned(written(tmp_path), *shlex.split(options))
    settings = {"densities": [0.2], "score": {"name": "snip", "batches": 2}, "steps": 2, "scope": "uniform"}
    assert pruned(written(tmp_path, pruning=settings)) == asked


def test_a_checkpoint_is_pruned_by_its_own_weights(recipe: Path, tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    weights = torch.load(path, weights_only=True)
    torch.save({"epoch": 3, "state_dict": weights}, tmp_path / "as.ckpt")
    found = pruned(recipe, "--density", "0.25", "--checkpoint", str(path))
    zoo.assert_equal(dict(found.weights), weights)
    kept = torch.cat([weights[n].abs()[mask] for n, mask in found.masks.items()])
    gone = torch.cat([weights[n].abs()[~mask] for n, mask in found.masks.items()])
    assert found.masks.kept == round(0.25 * found.masks.total)
    assert kept.min() >= gone.max()
    again = pruned(recipe, "--density", "0.25", "--checkpoint", str(tmp_path / "as.ckpt"))
    assert again == found


def test_a_score_of_two_states_compares_a_checkpoint_with_the_recipes_start(recipe: Path, tmp_path: Path) -> None:
    start = pruned(recipe).weights
    path = checkpoint(tmp_path)
    end = torch.load(path, weights_only=True)
    options = ["--density", "0.25", "--checkpoint", str(path), "--score", "distance"]
    found = pruned(recipe, *options)
    far = {n: (end[n] - start[n]).abs() for n in found.masks}
    kept = torch.cat([far[n][mask] for n, mask in found.masks.items()])
    gone = torch.cat([far[n][~mask] for n, mask in found.masks.items()])
    assert kept.min() >= gone.max() > 0


def test_a_ticket_is_pruned_further(recipe: Path, tmp_path: Path) -> None:
    first = pruned(recipe, "--density", "0.5", "--score", "random")
    first.save(tmp_path / "first.ticket")
    given = ["--lottery.ticket", str(tmp_path / "first.ticket")]
    second = pruned(recipe, "--density", "0.2", *given)
    assert second.masks.nested_in(first.masks)
    assert second.masks.kept == round(0.2 * second.masks.total)


def test_the_seed_is_that_of_the_scores_draws_alone(recipe: Path) -> None:
    options = ["--density", "0.2", "--score", "random", "--seed"]
    one, same, other = (pruned(recipe, *options, seed) for seed in ("1", "1", "2"))
    assert one == same and one.masks != other.masks
    zoo.assert_equal(dict(one.weights), dict(other.weights))


# What it says


def test_it_ends_in_commands_that_go_on(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    found = pruned(recipe, "--density", "0.2", "--model.init_args.hidden", "[30]")
    said = capsys.readouterr()
    assert said.err == ""
    assert f"density 20 %, {100 * effective(found):.3g} % on a path" in said.out
    inspect, train = said.out.split("\nnext:\n")[1].splitlines()
    assert cli.main(shlex.split(inspect)[1:]) == 0
    assert "score magnitude" in capsys.readouterr().out
    assert cli.main(shlex.split(train)[1:]) == 0
    run = Run("checkpoints/out")
    assert run.rounds == [0] and run.masks[0] == found.masks
    zoo.assert_equal(run.weights("initial"), dict(found.apply(MLP(64, [30])).state_dict()))


def effective(ticket: Ticket) -> float:
    return ticket.provenance["connectivity"]["effective_density"]


def test_a_structure_that_gives_another_density_says_so(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pruned(recipe, "--density", "0.1", "--structure", "2:4", "--exclude", "output.*")
    assert "density 50 % (10 % was asked for" in capsys.readouterr().out


def test_help_lists_every_score_scope_and_structure(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prune", "--help"]) == 0
    said = capsys.readouterr().out
    for name, about in {**scores.available(), **structures.available()}.items():
        assert f"  {name} " in said and about in said
    for scope in get_args(Scope):
        assert f"  {scope} " in said
    assert cli.main(["prune"]) == 2
    assert capsys.readouterr().out == said


def test_the_weights_in_the_file_are_those_that_were_asked_for(recipe: Path) -> None:
    assert not pruned(recipe, "--weights", "none").weights
    signs = pruned(recipe, "--weights", "signs").weights["output.weight"]
    assert len(signs[signs != 0].abs().unique()) == 1


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--density 1.3", "--density=1.3 must be a fraction between 0 and 1"),
        ("--density 0.1 --score snipp", "Did you mean snip?"),
        ("--density 0.1 --score '{name: snip'", "cannot be read"),
        ("--structure 2:5", "exclude=['hidden.0.weight']"),
        ("--density 0.1 --exclude 'fc*'", "exclude='fc*' matches no parameter"),
        ("--density 0.1 --score movement", "lottery.pruning.score movement"),
        ("--density 0.1 --score distance", "--checkpoint FILE or --run RUN"),
        ("--density 0.1 --round 2", "Give --run RUN"),
        ("--density 0.1 --run nowhere", "nowhere holds no run"),
        ("--density 0.1 --checkpoint nope.ckpt", "there is no checkpoint 'nope.ckpt'"),
        ("--density 0.1 --checkpoint own.yaml", "own.yaml is no checkpoint"),
        ("--density 0.002", "layer collapse"),
        ("--density 0.1 --scope gloobal", "--scope"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(
    options: str, message: str, recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe.parent)
    arguments = ["prune", "own.yaml", "-o", "x.ticket", *shlex.split(options)]
    assert message in refused(capsys, arguments)
    assert not Path("x.ticket").exists()


def test_a_checkpoint_of_another_architecture_names_its_parameters(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["prune", str(recipe), "-o", str(tmp_path / "x.ticket"), "--checkpoint"]
    error = refused(capsys, [*arguments, str(checkpoint(tmp_path, hidden=[20]))])
    assert "hidden.1.weight: only in the module" in error
    assert "output.weight: (10, 20) in what was read, (10, 12) in the module" in error
    assert "hidden.0" not in error


@pytest.mark.parametrize(("value", "score"), [(math.nan, "magnitude"), (math.inf, "random")])
def test_weights_that_are_not_finite_are_named_whatever_the_score(
    value: float, score: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint(tmp_path)
    weights = torch.load(path, weights_only=True)
    weights["output.weight"][0, :3] = value
    torch.save(weights, path)
    arguments = ["prune", str(recipe), "-o", str(tmp_path / "x.ticket")]
    error = refused(capsys, [*arguments, "--checkpoint", str(path), "--score", score])
    assert "output.weight has 3 NaN or infinite values among 120" in error


def test_a_file_that_could_execute_code_is_refused_with_the_way_out(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(MLP(64), tmp_path / "whole.pt")
    arguments = ["prune", str(recipe), "-o", str(tmp_path / "x.ticket")]
    error = refused(capsys, [*arguments, "--checkpoint", str(tmp_path / "whole.pt")])
    assert "objects besides tensors" in error and "state_dict" in error


def test_nothing_is_overwritten_and_nothing_to_prune_is_said(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ticket = pruned(recipe, "--density", "0.2")
    out = tmp_path / "out.ticket"
    again = ["prune", str(recipe), "-o"]
    error = refused(capsys, [*again, str(out), "--density", "0.1"])
    assert f"{out} exists already" in error and Ticket.load(out) == ticket
    given = ["--lottery.ticket", str(out), "--density", "0.5"]
    error = refused(capsys, [*again, str(tmp_path / "x.ticket"), *given])
    assert "density of 0.2" in error and "lower" in error
