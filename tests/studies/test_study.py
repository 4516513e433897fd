"""Studies: every cell is the training that it says it is, once, whatever happens to the processes that train it."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zoo
from hypothesis import given
from hypothesis import strategies as st

from lottery import Run, StorageError, cli
from lottery.runs.layout import STUDY
from lottery.storage.directory import Directory
from lottery.studies import Study, controls, planned, prepare, run_study
from lottery.studies.barriers import BARRIER
from lottery.studies.begin import TrainingsFailed
from lottery.studies.cell import load_recipe
from lottery.studies.driver import Progress, standing
from lottery.studies.engines.local import LocalEngine
from lottery.studies.jobs import Ended
from lottery.studies.plan import RECIPE, TICKET, Cell, Plan, coarse_to_fine
from lottery.studies.points import diverged

pytestmark = pytest.mark.filterwarnings("ignore:[\\s\\S]*deprecated")

TINY = """\
threads: 1
trainer: {max_epochs: 2, accelerator: cpu, num_sanity_val_steps: 0, enable_checkpointing: false}
model:
  class_path: lottery.tasks.MLP
  init_args: {inputs: 64, hidden: [12], classes: 10}
data:
  class_path: lottery.tasks.Digits
lottery: {rounds: 2, monitor: val_acc, keep: all, test_each_round: true}
"""
GRID: dict[str, Any] = {"seeds": 2, "controls": ["signs", "order"], "rounds": [2]}
GRID_OPTIONS = ["--seeds", "2", "--controls", "signs,order", "--rounds", "2"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, recipe: Path) -> Study:
    """A finished study that nobody changes."""
    path = tmp_path_factory.mktemp("trained") / "study"
    return run_study(recipe, path, engine=LocalEngine(2), **GRID)


@pytest.fixture
def copied(trained: Study, tmp_path: Path) -> Path:
    """A study like it, to be changed."""
    return Path(shutil.copytree(trained.path, tmp_path / "study"))


class Recording(LocalEngine):
    """Keeps what it said."""

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs)
        self.ended: list[Ended] = []

    def wait(self, seconds: float) -> list[Ended]:
        ended = super().wait(seconds)
        self.ended += ended
        return ended


def files(path: Path) -> dict[str, tuple[int, bytes]]:
    """Contents and time of everything below a directory that is no lock."""
    return {
        str(file.relative_to(path)): (file.stat().st_mtime_ns, file.read_bytes())
        for file in path.rglob("*")
        if file.is_file() and file.name != "run.lock"
    }


def results(study: Study) -> dict[str, Any]:
    """Everything that the cells of a study say about their results."""
    found = {}
    for cell in study.plan.cells():
        directory = Directory(study.path / cell.key)
        barrier = directory.read_json(BARRIER, dict) if BARRIER in directory else None
        found[cell.key] = zoo.contents(study.path / cell.key), barrier
    return found


# plans

names = st.sampled_from(["ticket", "reinit", "one-shot-layerwise", "transfer-a b"])
numbers = st.integers(0, 2**32 - 1)


@given(st.builds(Cell, names, numbers, st.none() | st.integers(0, 1000)))
def test_a_cell_is_known_by_its_directory(cell: Cell) -> None:
    assert Cell.of(cell.key) == cell


@given(st.lists(st.integers(1, 200), min_size=1, unique=True).map(sorted))
def test_rounds_come_once_each_the_last_and_the_middle_first(rounds: list[int]) -> None:
    order = coarse_to_fine(rounds)
    assert sorted(order) == rounds
    assert order[0] == rounds[-1]
    if len(rounds) > 2:
        assert order[1] == rounds[(len(rounds) - 1) // 2]


def some(values: st.SearchStrategy[Any], least: int = 1) -> st.SearchStrategy[Any]:
    return st.lists(values, min_size=least, max_size=4, unique=True).map(tuple)


plans = st.builds(
    Plan,
    recipe=st.just(TINY),
    overrides=st.just(("--trainer.max_epochs", "3")),
    seeds=some(st.integers(0, 9)),
    controls=some(st.sampled_from(["reinit", "random", "signs", "order"]), 0),
    rounds=some(st.integers(1, 9)),
    last=st.just(9),
    seed_settings=st.just(("data.init_args.seed",)),
)


@given(plans)
def test_tickets_come_first_and_only_what_measures_a_barrier_trains_round_0(plan: Plan) -> None:
    cells = list(plan.cells())
    assert len(set(cells)) == len(cells)
    first = [cell.arm for cell in cells[: len(plan.seeds)]]
    assert first == [TICKET] * len(plan.seeds)
    controls_of_a_seed = len(plan.controls) * len(plan.rounds) + ("order" in plan.controls)
    assert len(cells) == len(plan.seeds) * (1 + controls_of_a_seed)
    assert {cell.arm for cell in cells if cell.round == 0} <= {"order"}


@given(plans, plans)
def test_an_extended_plan_has_the_cells_of_both_and_keeps_the_order_of_what_it_had(plan: Plan, other: Plan) -> None:
    both = plan.extended(other)
    assert set(both.cells()) >= {*plan.cells(), *other.cells()}
    assert both.seeds[: len(plan.seeds)] == plan.seeds
    assert both.controls[: len(plan.controls)] == plan.controls
    assert set(both.rounds) == {*plan.rounds, *other.rounds}
    assert both.extended(other) == both.extended(plan) == both


@given(plan=plans)
def test_a_plan_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> None:
    path = tmp_path_factory.mktemp("plan")
    plan.write(path)
    assert Plan.read(path) == plan


def test_a_control_is_the_same_however_it_is_written(recipe: Path, tmp_path: Path) -> None:
    made = controls.resolve("one-shot=layerwise")
    study = prepare(recipe, tmp_path, controls=[made, {"name": "signs"}, "reinit"])
    assert list(study.plan.arms.values()) == [controls.resolve(c) for c in (made, "signs", "reinit")]
    again = planned(recipe, tmp_path, controls=["signs", "one-shot=layerwise"])
    assert again == study.plan


def test_a_recipe_without_threads_trains_on_one(recipe: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "any.yaml"
    recipe.write_text(TINY.replace("threads: 1\n", ""))
    assert planned(recipe, tmp_path / "a").overrides == ("--threads", "1")
    own = planned(recipe, tmp_path / "a", overrides=["--threads", "2"])
    assert own.overrides == ("--threads", "2")


# what is trained


def test_each_training_is_a_point_at_the_density_and_with_the_budget_of_its_ticket(trained: Study) -> None:
    progress, points = trained.progress(), trained.points()
    assert progress.done == set(progress.cells)
    assert not progress.failed and not progress.left
    places = set(points[["arm", "seed", "round"]].itertuples(index=False, name=None))
    assert places == {
        (arm, seed, round)
        for seed in (0, 1)
        for arm, round in [("dense", 0), ("ticket", 1), ("ticket", 2), ("signs", 2), ("order", 2)]
    }
    assert len(places) == len(points)
    assert (points.groupby("round")["density"].nunique() == 1).all()
    assert points["budget"].unique().tolist() == [2]
    assert points["steps"].nunique() == 1
    assert trained.table()["done"].tolist() == trained.table()["cells"].tolist()


def test_a_point_holds_the_test_metric_at_the_step_that_validation_chose(trained: Study) -> None:
    points = trained.points().set_index(["arm", "seed", "round"])
    for (arm, seed, round), row in points.iterrows():
        own = arm in ("dense", TICKET)
        run = trained.ticket_run(seed) if own else trained.run_of(arm, seed, round)
        number = round if own else 0
        assert row["value"] == run.summary(number).test_best["test_acc"]
        steps, values = zip(*row["progress"])
        measured = {r["step"]: r["val_acc"] for r in run.records(number) if "val_acc" in r}
        assert [measured[step] for step in steps] == list(values) == sorted(set(values))
        assert (steps[0], steps[-1]) == (min(measured), row["step"])
        assert values[-1] == max(measured.values()) == run.summary(number).best["val_acc"]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_run_of_a_seed_is_that_of_lottery_run(trained: Study, recipe: Path, tmp_path: Path, seed: int) -> None:
    number = str(seed)
    seeding = ["--seed_everything", number, "--data.init_args.seed", number]
    directory = ["--lottery.dirpath", str(tmp_path / "run")]
    assert cli.main(["run", str(recipe), *seeding, *directory]) == 0
    expected = zoo.contents(tmp_path / "run")
    zoo.assert_equal(zoo.contents(trained.ticket_run(seed).path), expected)


def test_a_seed_decides_the_initial_weights_and_the_order_of_the_data(trained: Study) -> None:
    initial = [trained.ticket_run(s).weights("initial")["output.weight"] for s in (0, 1)]
    assert not initial[0].equal(initial[1])
    for seed, arm in enumerate(("order", TICKET)):
        found = load_recipe(trained.path, trained.plan, Cell(arm, seed, 2))
        assert found.config["seed_everything"] == seed
        assert found.datamodule.hparams["seed"] == seed


def test_a_control_starts_with_the_mask_of_its_ticket(trained: Study) -> None:
    for arm in ("signs", "order"):
        for seed in (0, 1):
            ticket = trained.ticket_run(seed).ticket(2)
            made = trained.run_of(arm, seed, 2).ticket(0)
            assert made.masks == ticket.masks
            assert (made == ticket) == (arm == "order")


def test_the_barrier_is_measured_in_each_cell_of_another_order_and_of_dense(trained: Study) -> None:
    barriers = trained.barriers()
    assert set(zip(barriers["seed"], barriers["round"], strict=True)) == {
        (seed, round) for seed in (0, 1) for round in (0, 2)
    }
    assert (barriers["density"] < 1).tolist() == (barriers["round"] > 0).tolist()
    assert (barriers["height"] >= 0).all()
    for cell in trained.plan.cells():
        directory = Directory(trained.path / cell.key)
        assert (BARRIER in directory) == (cell.arm == "order")


def test_the_ends_of_the_line_are_the_errors_of_the_two_trainings(trained: Study) -> None:
    for seed in (0, 1):
        cell = trained.path / Cell("order", seed, 2).key
        errors = Directory(cell).read_json(BARRIER, dict)["errors"]
        ends = trained.ticket_run(seed).summary(2), Run(cell).summary(0)
        for error, end in zip((errors[0], errors[-1]), ends, strict=True):
            assert 1 - error == pytest.approx(end.test_last["test_acc"], abs=1e-6)


# going on


def test_a_finished_study_is_not_touched_again(trained: Study, recipe: Path) -> None:
    before = files(trained.path)
    engine = Recording(2)
    again = run_study(recipe, trained.path, engine=engine, **GRID)
    assert not engine.ended
    assert files(again.path) == before


def test_what_is_asked_for_beside_a_study_is_all_that_is_new(trained: Study, recipe: Path) -> None:
    more = {"seeds": [1, 7], "controls": ["reinit"], "rounds": [1]}
    plan = planned(recipe, trained.path, **more)  # type: ignore[arg-type]
    left = set(standing(trained.path, plan).left)
    assert left == {*plan.cells()} - {*trained.plan.cells()}
    assert plan.seeds == (0, 1, 7)
    assert list(plan.arms) == ["signs", "order", "reinit"]


def test_another_control_is_trained_and_the_rest_left_as_it_is(copied: Path, recipe: Path) -> None:
    before = files(copied)
    engine = Recording(2)
    study = run_study(recipe, copied, engine=engine, **{**GRID, "controls": ["random"]})
    new = {Cell("random", seed, 2).key for seed in (0, 1)}
    assert {ended.job.key for ended in engine.ended} == new
    assert all(ended.error is None for ended in engine.ended)
    after = files(copied)
    changed = {name for name in after if after[name] != before.get(name)}
    changed -= {name for name in changed if name.startswith("random/")}
    assert changed == {STUDY}
    assert not study.progress().left
    assert before.keys() <= after.keys()


def test_a_barrier_that_was_not_measured_is_measured_without_training_again(copied: Path) -> None:
    cell = copied / Cell("order", 1, 2).key
    expected = Directory(cell).read_json(BARRIER, dict)
    Directory(cell).commit({}, drop=[BARRIER])
    before = files(cell)
    study = Study(copied)
    assert study.progress().left == [Cell("order", 1, 2)]
    assert not study.run(LocalEngine(1)).failed
    assert Directory(cell).read_json(BARRIER, dict) == expected
    after = files(cell)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {BARRIER, "manifest.json"}


@pytest.mark.parametrize(
    ("change", "overrides", "said"),
    [
        (("hidden: [12]", "hidden: [13]"), [], ["hidden: [12]", "hidden: [13]"]),
        (None, ["--trainer.max_epochs", "3"], ["none in the study", "--trainer.max_epochs 3 now"]),
    ],
)
def test_another_recipe_or_setting_is_refused_with_the_difference(
    trained: Study, tmp_path: Path, change: tuple[str, str] | None, overrides: list[str], said: list[str]
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(TINY.replace(*change) if change else TINY)
    before = files(trained.path)
    with pytest.raises(StorageError) as refused:
        run_study(other, trained.path, overrides=overrides, **GRID)
    for words in (str(trained.path), "Nothing was changed", *said):
        assert words in str(refused.value)
    assert files(trained.path) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: '"a study"',
        lambda text: text.replace('"seeds"', '"sedes"'),
        lambda text: text.replace('"signs"', '"sings"'),
    ],
)
def test_a_damaged_plan_is_named(trained: Study, tmp_path: Path, damage: Callable[[str], str]) -> None:
    trained.plan.write(tmp_path)
    (tmp_path / STUDY).write_text(damage((tmp_path / STUDY).read_text()))
    with pytest.raises(StorageError, match="study.json is damaged"):
        Study(tmp_path)


def test_a_file_of_a_study_that_is_not_there_is_named(trained: Study, tmp_path: Path) -> None:
    for missing in (STUDY, RECIPE):
        trained.plan.write(tmp_path)
        (tmp_path / missing).unlink()
        with pytest.raises(StorageError, match=f"there is no {missing} in it"):
            Study(tmp_path)


def test_a_study_of_another_version_is_not_called_damaged(trained: Study, tmp_path: Path) -> None:
    trained.plan.write(tmp_path)
    plain = {**json.loads((tmp_path / STUDY).read_text()), "format": 99}
    (tmp_path / STUDY).write_text(json.dumps(plain))
    with pytest.raises(StorageError, match="another version of lottery"):
        Study(tmp_path)


# what fails


def test_a_cell_that_fails_is_tried_reported_and_tried_again_by_the_next_start(
    copied: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run of the transfer is not there at first; its path is relative."""
    monkeypatch.chdir(tmp_path)
    grid = ["--seeds", "2", "--rounds", "2", "--controls", "transfer=other"]
    command = ["study", str(recipe), *grid, "--dirpath", str(copied), "--jobs", "2"]
    cells = [Cell("transfer-other", seed, 2) for seed in (0, 1)]

    assert cli.main([*command, "--attempts", "2"]) == 1
    said = capsys.readouterr().out
    assert "2 trainings failed. The same command tries them again" in said
    progress = Study(copied).progress()
    assert set(progress.failed) == set(cells)
    for cell in cells:
        reason = progress.failed[cell]
        assert "other holds no run" in reason
        assert f"failed: {cell.key}: {reason}" in said
        assert (copied / f"{cell.key}.failed").read_text() == f"{reason}\n"
        log = (copied / f"{cell.key}.log").read_text()
        assert log.count("Traceback (most recent call last)") == 2

    shutil.copytree(copied / "ticket" / "seed-0", tmp_path / "other")
    assert cli.main(command) == 0
    assert not list(copied.rglob("*.failed"))
    assert not Study(copied).progress().left
    found = Study(copied).run_of("transfer-other", 1, 2).ticket(0)
    assert found.masks == Run(tmp_path / "other").ticket(2).masks


def test_evidence_says_which_training_is_missing(copied: Path) -> None:
    cell = copied / Cell("signs", 1, 2).key
    shutil.rmtree(cell)
    cell.write_text("in the way")
    study = Study(copied)
    progress = study.run(LocalEngine(1), attempts=1)
    assert list(progress.failed) == [Cell("signs", 1, 2)]
    assert "cannot be written" in progress.failed[Cell("signs", 1, 2)]
    assert study.evidence().missing == ["signs round 2: seed 1"]


def test_a_training_that_was_given_up_because_it_diverged_is_a_result(copied: Path) -> None:
    """One that stopped for another reason is not; and of a ticket that diverged no later round trains."""
    shutil.rmtree(copied / Cell("signs", 1, 2).key)
    shutil.rmtree(copied / Cell("order", 0, 2).key)
    (copied / f"{Cell('signs', 1, 2).key}.failed").write_text(
        "DivergedError: NaN or infinite are 5 weights of output\n"
    )
    (copied / f"{Cell('order', 0, 2).key}.failed").write_text("OSError: no space left\n")
    evidence = Study(copied).evidence()
    assert evidence.missing == ["order round 2: seed 0"]
    assert np.isneginf(evidence.outcomes("signs")[0, 1])
    assert evidence.collapses["signs"].collapsed == 1

    ticket = {Cell(TICKET, 5): "DivergedError: round 1 diverged: NaN or infinite are ..."}
    there = [
        {"arm": "dense", "seed": 0, "round": 0, "density": 1.0},
        {"arm": TICKET, "seed": 0, "round": 2, "density": 0.6},
    ]
    there.append({"arm": "dense", "seed": 5, "round": 0, "density": 1.0})
    (lost,) = diverged(ticket, [2], there)
    assert (lost["arm"], lost["seed"], lost["round"], lost["density"]) == (TICKET, 5, 2, 0.6)


def test_a_run_that_fails_gives_its_finished_rounds_to_the_controls(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "picky.py").write_text(
        "from lottery.tasks.models import MLP\n"
        "class Picky(MLP):\n"
        "    def on_train_start(self):\n"
        "        if (self.output.weight == 0).float().mean() > 0.3:\n"
        "            raise ArithmeticError('too sparse for me')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TrainingsFailed, match="2 of the 3 trainings") as error:
        run_study(
            recipe,
            tmp_path / "study",
            seeds=1,
            controls=["signs"],
            rounds=[1, 2],
            overrides=["--model", "picky.Picky", "--lottery.pruning.scope", "layerwise"],
            engine=LocalEngine(2),
            attempts=1,
        )
    study = error.value.study
    progress = study.progress()
    assert {cell.key for cell in progress.done} == {"signs/seed-0/round-01"}
    assert not progress.left
    assert {cell.key: reason for cell, reason in progress.failed.items()} == {
        "ticket/seed-0": "ArithmeticError: too sparse for me",
        "signs/seed-0/round-02": "the run of its ticket, ticket/seed-0, did not come to round 2",
    }
    assert study.points()["arm"].tolist() == ["dense", "ticket", "signs"]


def test_a_training_that_runs_out_of_time_has_failed(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a study of which nothing is finished says no more than that."""
    no_time = ["--trainer.max_time", "00:00:00:00"]
    options = ["--seeds", "1", "--dirpath", str(tmp_path / "study"), "--attempts", "1"]
    assert cli.main(["study", str(recipe), *options, *no_time]) == 1
    said = capsys.readouterr().out
    assert "failed: ticket/seed-0: RuntimeError: the training stopped" in said
    assert "did not come to round 2\n  it was not begun" in said
    assert "next:" not in said


FRAIL = """\
import os, signal
from pathlib import Path
from lottery.tasks import MLP

class Frail(MLP):
    \"\"\"Its first training is killed.\"\"\"

    def on_train_batch_end(self, *_):
        killed = Path(__file__).with_name("killed")
        if self.trainer.global_step == 40 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_worker_is_named_and_its_training_goes_on_with_the_same_bits(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "frail_of_mine.py").write_text(FRAIL)
    monkeypatch.syspath_prepend(tmp_path)
    engine = Recording(1)
    found = []
    for name in ("killed once", "undisturbed"):
        study = run_study(
            recipe,
            tmp_path / name,
            seeds=[3],
            controls=[],
            overrides=["--model", "frail_of_mine.Frail", "--model.inputs", "64"]
            + ["--trainer.max_epochs", "3", "--lottery.rounds", "1"]
            + ["--lottery.save_every", "7it"],
            engine=engine,
        )
        assert not study.progress().failed
        found.append(results(study))
    errors = [ended.error for ended in engine.ended]
    assert errors == ["the worker was killed by SIGKILL", None, None]
    assert "goes on from step 35" in (tmp_path / "killed once" / "ticket" / "seed-3.log").read_text()
    zoo.assert_equal(*found)


@pytest.mark.slow
def test_data_without_a_seed_of_their_own_follow_seed_everything(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unseeded.py").write_text(
        "from lottery.tasks.data import Digits\n"
        "class Unseeded(Digits):\n"
        "    def __init__(self): super().__init__(batch_size=32)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    study = run_study(
        recipe,
        tmp_path / "study",
        seeds=[0, 1],
        controls=[],
        overrides=["--data", "unseeded.Unseeded", "--lottery.rounds", "1"],
        engine=LocalEngine(2),
    )
    assert study.plan.seed_settings == ()
    assert not study.progress().left
    values = study.points()["value"]
    assert values.nunique() > 1


# the command


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error of a command that ends with exit code 2."""
    capsys.readouterr()
    try:
        status: Any = cli.main(["study", *arguments])
    except SystemExit as ended:
        status = ended.code
    error = capsys.readouterr().err
    assert status == 2 and "Traceback" not in error
    return error


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"controls": ("reinit", "sings")}, "Did you mean signs"),
        ({"controls": ("signs", {"name": "signs"})}, "signs is there twice"),
        ({"controls": ("transfer",)}, "write transfer=PATH"),
        ({"rounds": (0, 2)}, "give some of 1 to 9"),
        ({"rounds": (1, 10)}, "give some of 1 to 9"),
        ({"rounds": (1, 1)}, "rounds=[1, 1] must be"),
        ({"seeds": (0, 1, 0)}, "seeds=[0, 1, 0] must be"),
        ({"seeds": ()}, "seeds=[] must be"),
        ({"seeds": (0, -1)}, "a seed is a number from 0"),
        ({"seeds": (2**32,)}, "a seed is a number from 0"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    grid: dict[str, Any] = {"seeds": (0,), "controls": ("signs",), "rounds": (1,)}
    with pytest.raises(ValueError, match=re.escape(said)):
        Plan(TINY, (), **{**grid, **changes}, last=9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--lottery.monitor", "null"], "set lottery.monitor, such as val_acc"),
        (["--lottery.rounds", "0"], "lottery.rounds=0: a study needs tickets"),
        (["--controls", "reinit,sings"], "Did you mean signs"),
        (["--rounds", "1,3"], "give some of 1 to 2"),
        (["--seeds", "0,1,0"], "seeds=[0, 1, 0] must be"),
        (["--seeds", "many"], "argument --seeds"),
        (["--trainer.max_epocs", "3"], "did you mean --trainer.max_epochs"),
        (["--engine", "clouds"], "argument --engine"),
    ],
)
def test_what_cannot_be_studied_is_refused_before_anything_is_written(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    path = tmp_path / "study"
    assert said in refused(capsys, str(recipe), "--dirpath", str(path), *options)
    assert not path.exists()


def test_an_engine_with_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match="jobs=0 must be 1 or more"):
        LocalEngine(0)


def test_help_lists_the_controls(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["study", "--help"]) == 0
    said = capsys.readouterr().out
    for name, does in controls.available().items():
        assert name in said and does in said
    assert cli.main(["study"]) == 2


def test_a_dry_run_shows_what_is_new_and_writes_nothing(
    trained: Study, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(trained.path)
    asked = ["study", str(recipe), "--rounds", "1,2", "--dry-run", "--dirpath"]
    assert cli.main([*asked, str(tmp_path / "new")]) == 0
    assert "0 of 35 done" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()
    assert cli.main([*asked, str(trained.path), "--controls", "order"]) == 0
    assert "8 of 30 done" in capsys.readouterr().out
    assert files(trained.path) == before


def test_a_study_goes_on_by_its_directory_and_takes_no_other_settings(
    trained: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(trained.path)
    before = files(trained.path)
    assert cli.main(["study", path]) == 0
    said = capsys.readouterr().out
    assert "8 of 8 done" in said
    verdict = str(trained.evidence().verdict())
    assert " ".join(verdict.split()) in " ".join(said.split())  # lines are wrapped
    for options in (["--seeds", "9"], ["--controls", "x"], ["--trainer.max_epochs", "3"], ["--level", "0.1"]):
        assert "leave them out to go on with it" in refused(capsys, path, *options)
    assert files(trained.path) == before


# slow: processes that are ended from outside


def command(recipe: Path, path: Path, *options: str) -> list[str]:
    main = [sys.executable, "-m", "lottery.cli", "study", str(recipe)]
    return [*main, *GRID_OPTIONS, "--dirpath", str(path), "--jobs", "2", *options]


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts commands in sessions of their own, as terminals do; ends what is left of them."""
    started: list[subprocess.Popen[str]] = []

    def begin(arguments: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            arguments,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def in_training(path: Path) -> set[str]:
    """The cells on which a process works."""
    locks = path.glob("*/seed-*/**/run.lock")
    return {str(lock.parent.relative_to(path)) for lock in locks if Directory(lock.parent).in_use}


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def wait_for_workers(path: Path) -> None:
    """Locks go with their processes."""
    deadline = time.monotonic() + 60
    while left := in_training(path):
        assert time.monotonic() < deadline, f"{left} trained on without a driver"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_study_that_was_stopped_and_killed_goes_on_to_the_same_bits(
    trained: Study, recipe: Path, tmp_path: Path, start: Callable[..., Any]
) -> None:
    """By Ctrl+C while tickets, by SIGKILL while controls are trained; workers end with their driver."""
    path = tmp_path / "study"
    stopped = start(command(recipe, path))
    wait_until(lambda: in_training(path), stopped)
    os.killpg(stopped.pid, signal.SIGINT)
    said, complaint = stopped.communicate()
    assert stopped.returncode == 130
    assert not in_training(path)
    assert "stopped. The same command goes on:\n  lottery study " in complaint
    assert "Traceback" not in said + complaint
    assert Study(path).progress().left
    assert not Study(path).progress().failed

    killed = start(command(recipe, path))
    wait_until(lambda: any("order" in key for key in in_training(path)), killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    wait_for_workers(path)
    assert Study(path).progress().left

    last = start(command(recipe, path))
    said, complaint = last.communicate()
    assert last.returncode == 0, said + complaint
    zoo.assert_equal(results(Study(path)), results(trained))


@pytest.mark.slow
def test_two_drivers_share_a_study(trained: Study, recipe: Path, tmp_path: Path, start: Callable[..., Any]) -> None:
    path = tmp_path / "study"
    drivers = [start(command(recipe, path, "--jobs", "1")) for _ in range(2)]
    for driver in drivers:
        said, complaint = driver.communicate()
        assert driver.returncode == 0, said + complaint
    zoo.assert_equal(results(Study(path)), results(trained))


@pytest.mark.slow
def test_progress_is_shown_while_it_is_made(recipe: Path, tmp_path: Path) -> None:
    """Cells are done once each, tickets before their controls, never more at once than there are slots."""
    seen: list[tuple[set[Cell], set[Cell]]] = []

    def note(progress: Progress) -> None:
        seen.append((set(progress.done), set(progress.running)))

    study = prepare(recipe, tmp_path / "study", 2, ["signs"], [1, 2])
    study.run(LocalEngine(2), show=note)
    for (before, _), (after, running) in itertools.pairwise(seen):
        assert before <= after
        assert len(running) <= 2
        assert not after & running
    assert seen[-1] == (set(study.plan.cells()), set())
