"""The search for the step to rewind to: few trainings, each made once, and a recipe in which nothing else changes."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import zoo
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from lottery import Run, StorageError, cli
from lottery.foundations.steps import Step
from lottery.runs.branch import Branch
from lottery.studies.rewinding import Length, RewindSearch, _bisect, _length, find_rewind, written
from lottery.training import recipes

pytestmark = pytest.mark.filterwarnings("ignore:[\\s\\S]*deprecated")

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
TINY = """\
seed_everything: 5  # of lottery run; a search has its own
threads: 1
trainer: {max_epochs: 2, accelerator: cpu, num_sanity_val_steps: 0, enable_checkpointing: false}
model:
  class_path: lottery.tasks.MLP
  init_args: {inputs: 64, hidden: [12], classes: 10}
data:
  class_path: lottery.tasks.Digits
lottery: {rounds: 2, monitor: val_acc, keep: all, test_each_round: true}  # in a minute
"""
STEPS = ("init", "5it")

steps = st.builds(Step, st.integers(0, 99), st.integers(0, 9999))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory, recipe: Path) -> tuple[Path, RewindSearch]:
    """The trainings of a search that tested every step, and what it found."""
    path = tmp_path_factory.mktemp("searched") / "search"
    return path, find_rewind(recipe, path, steps=STEPS, seeds=1, every=True)


@pytest.fixture(scope="module")
def searched(search: tuple[Path, RewindSearch]) -> Path:
    return search[0]


@pytest.fixture(scope="module")
def heights(search: tuple[Path, RewindSearch]) -> dict[Step, float]:
    return {step: found for step, (found,) in search[1].heights.items()}


def files(path: Path) -> dict[str, tuple[int, bytes]]:
    """Contents and time of everything below a directory that is no log."""
    return {
        str(file.relative_to(path)): (file.stat().st_mtime_ns, file.read_bytes())
        for file in path.rglob("*")
        if file.is_file() and file.suffix != ".log" and file.name != "run.lock"
    }


# the search


@given(st.data())
def test_bisection_finds_the_first_step_that_is_stable_with_few_trainings(data: Any) -> None:
    count = data.draw(st.integers(1, 100))
    first = data.draw(st.integers(0, count))
    candidates = tuple(Step(0, i) for i in range(count))
    search = RewindSearch(candidates, Length(0, 0))

    def test(step: Step) -> bool:
        assert step not in search.heights
        search.heights[step] = [0.0 if step.iterations >= first else 1.0]
        return search.stable(step)

    _bisect(candidates, test)
    assert search.found == (candidates[first] if first < count else None)
    assert len(search.heights) <= math.floor(math.log2(count)) + 1


@settings(max_examples=10)
@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=1, max_size=5), st.floats(0, 1))
def test_a_step_is_stable_by_the_mean_over_networks(measured: list[list[float]], threshold: float) -> None:
    candidates = tuple(Step(0, i) for i in range(len(measured)))
    heights = dict(zip(candidates, measured, strict=True))
    search = RewindSearch(candidates, Length(10, 20), threshold, heights)
    table = search.table()
    assert table["stable"].tolist() == [sum(h) / 2 < threshold for h in measured]
    assert table["share"].tolist() == [s.iterations / 20 for s in candidates]
    stable = [step for step in candidates if search.stable(step)]
    assert search.found == (stable[0] if stable else None)


@settings(max_examples=20)
@given(st.lists(st.floats(0, 0.1), min_size=3, max_size=6), st.floats(0, 0.1))
def test_a_step_is_stable_where_three_seeds_show_it(heights: list[float], threshold: float) -> None:
    """By the upper end of a one-sided interval, which scipy's test has too."""
    search = RewindSearch((Step(),), Length(1, 1), threshold, {Step(): heights})
    assert search.sure
    if np.ptp(heights) > 1e-6:
        p = stats.ttest_1samp(heights, threshold, alternative="less").pvalue
        assume(abs(p - 0.05) > 1e-6)
        assert search.stable(Step()) == (p < 0.05)
    assert search.table()["high"].iloc[0] >= np.mean(heights) - 1e-12


def test_a_barrier_that_could_not_be_measured_is_not_stable() -> None:
    search = RewindSearch((Step(),), Length(1, 1), heights={Step(): [math.nan]})
    assert search.found is None


@pytest.mark.parametrize(
    "overrides",
    [
        ["--trainer.accumulate_grad_batches", "3"],
        ["--trainer.limit_train_batches", "0.3"],
        ["--trainer.max_epochs", "-1", "--trainer.max_steps", "19"],
    ],
)
def test_the_length_of_a_training_is_the_number_of_its_steps(
    recipe: Path, tmp_path: Path, overrides: list[str]
) -> None:
    own = ["--lottery.rounds", "0", "--lottery.dirpath", str(tmp_path / "run")]
    quiet = ["--trainer.enable_progress_bar", "false"]
    found = recipes.load(str(recipe), [*overrides, *own, *quiet])
    length = _length(found)
    found.trainer.fit(found.model, datamodule=found.datamodule)
    run = Run(tmp_path / "run")
    assert run.summary(0).steps == length.total
    assert run.records(0)[0]["step"] == length.epoch


# a small search


def test_the_dense_network_is_that_of_lottery_run_and_a_child_goes_on_from_its_step(
    searched: Path, recipe: Path, tmp_path: Path
) -> None:
    network = searched / "seed-0"
    seeding = ["--seed_everything", "0", "--data.init_args.seed", "0"]
    own = ["--lottery.rounds", "0", "--lottery.dirpath", str(tmp_path / "run")]
    assert cli.main(["run", str(recipe), *seeding, *own]) == 0
    expected = zoo.contents(tmp_path / "run")
    zoo.assert_equal(zoo.contents(network / "dense"), expected)

    total = expected["round 0"]["summary"]["steps"]
    for step in STEPS:
        child = Run(network / f"step-{step}")
        start = Branch(str(network / "dense"), start=step).ticket()
        zoo.assert_equal(dict(child.ticket(0).weights), dict(start.weights))
        assert child.summary(0).steps == total
        assert not child.weights(0)["output.weight"].equal(Run(network / "dense").weights(0)["output.weight"])


def test_nothing_is_trained_twice_and_candidates_come_in_the_order_of_the_training(
    searched: Path, recipe: Path, heights: dict[Step, float]
) -> None:
    before = files(searched)
    said: list[str] = []
    given = ["5it", "init", "0it", "5it"]
    search = find_rewind(recipe, searched, steps=given, seeds=1, every=True, show=said.append)
    assert files(searched) == before
    assert [str(step) for step in search.steps] == list(STEPS)
    assert {step: found for step, (found,) in search.heights.items()} == heights
    assert len(said) == 1 + len(STEPS)


def test_the_command_writes_a_recipe_that_rewinds_to_what_was_found(
    searched: Path, recipe: Path, heights: dict[Step, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = list(heights.values())[-1]
    threshold = last + 1e-6  # the last is stable, whatever the others are
    output = tmp_path / "not there yet" / "found.yaml"
    command = ["find-rewind", str(recipe), "--dirpath", str(searched), "--seeds", "1", "--every"]
    options = ["--steps", ",".join(STEPS), "--threshold", str(threshold)]
    assert cli.main([*command, *options, "-o", str(output)]) == 0
    said = capsys.readouterr().out
    expected = next(step for step, height in heights.items() if height < threshold)
    assert f"Stable from {expected} on, by a mean of too few seeds to be sure. {output} rewinds to it." in said
    assert output.read_text() == written(TINY, expected)
    assert recipes.load(str(output)).ticket.rewind.to == str(expected)
    for step, height in heights.items():
        assert any(str(step) in line and f"{height:.2%}" in line for line in said.splitlines())


def test_without_a_stable_step_no_recipe_is_written(
    searched: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "found.yaml"
    before = files(searched)
    command = ["find-rewind", str(recipe), "--dirpath", str(searched), "--seeds", "1"]
    options = ["--steps", ",".join(STEPS), "--threshold", "0"]
    assert cli.main([*command, *options, "-o", str(output)]) == 1
    said = capsys.readouterr().out
    assert "No tested step has a barrier below 0.0%: give later ones" in said
    assert not output.exists()
    assert files(searched) == before


def test_a_step_that_the_dense_network_was_trained_without_is_named(searched: Path, recipe: Path) -> None:
    before = files(searched)
    with pytest.raises(StorageError, match=r"without storing its state at 7it:"):
        find_rewind(recipe, searched, steps=["init", "7it"], seeds=1)
    assert files(searched) == before


def test_trainings_of_other_settings_are_not_gone_on_with(searched: Path, recipe: Path) -> None:
    before = files(searched)
    with pytest.raises(StorageError, match="max_epochs: 2 in the run, 3 now"):
        other = ["--trainer.max_epochs", "3"]
        find_rewind(recipe, searched, steps=STEPS, seeds=1, overrides=other)
    assert files(searched) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--lottery.monitor", "null"], "monitors no metric"),
        (["--steps", "init,sometime"], "'sometime' is not a step"),
        (["--steps", "init,34it,1ep,2ep"], "34it, 2ep is not before the end"),
        (["--seeds", "0"], "seeds=0: give 1 or more"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_training(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    where = ["--dirpath", str(tmp_path / "search"), "-o", str(tmp_path / "o.yaml")]
    assert cli.main(["find-rewind", str(recipe), *where, *options]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TINY, "o.yaml exists already, and nothing is overwritten"),
        (TINY.replace("lottery: {", "lottery: {rewind: {to: 1ep}, "), "`to: init`"),
        (TINY[: TINY.index("lottery: {")], "no section `lottery`"),
    ],
)
def test_a_recipe_that_could_not_be_written_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    recipe, output = tmp_path / "recipe.yaml", tmp_path / "o.yaml"
    recipe.write_text(text)
    if text == TINY:
        output.write_text("mine")
    where = ["--dirpath", str(tmp_path / "search"), "-o", str(output)]
    assert cli.main(["find-rewind", str(recipe), *where]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "search").exists()
    assert not output.exists() or output.read_text() == "mine"


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["find-rewind", "--help"]) == 0
    assert "lottery find-rewind recipes/" in capsys.readouterr().out
    assert cli.main(["find-rewind"]) == 2


# the recipe that is written

ODD = [
    "lottery: {rounds: 3}\n",
    "lottery: {rounds: 3, rewind: '1ep'}  # one line\n",
    "lottery:\n    # four spaces\n    rounds: 3\ntrainer: {max_epochs: 2}\n",
    'lottery:\n  rewind: "init"   # quoted\n  rounds: 3\n',
    "model:\n  rewind: mine\nlottery:\n  pruning:\n    rewind: mine\n  rounds: 3\n",
    "# lottery:\n#   rewind: 1ep\nlottery:\n  rounds: 3\n\n\n  rewind: 2ep",
]
# a rewind with settings of its own is refused, see below
TEXTS = [
    text
    for text in [TINY, *(path.read_text() for path in RECIPES), *ODD]
    if not isinstance(yaml.safe_load(text)["lottery"].get("rewind"), dict)
]


@pytest.mark.parametrize("text", TEXTS, ids=str.__len__)
def test_a_recipe_with_another_rewind_point_is_else_the_same(text: str) -> None:
    expected = yaml.safe_load(text)

    @settings(max_examples=3)
    @given(steps)
    def holds(step: Step) -> None:
        expected["lottery"]["rewind"] = str(step)
        found = written(text, step)
        assert yaml.safe_load(found) == expected
        assert len(set(text.splitlines()) - set(found.splitlines())) <= 1

    holds()


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "lottery:\n", "trainer: {}\n"])
def test_a_recipe_without_the_section_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no section `lottery`"):
        written(text, Step())


# slow: a process whose output is no terminal


@pytest.mark.slow
def test_what_is_said_goes_to_the_output_and_what_training_prints_to_the_log(recipe: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from lottery.studies.rewinding import find_rewind\n"
        "find_rewind(*sys.argv[1:], steps=['init'], seeds=[7], show=print)\n"
    )
    arguments = [sys.executable, "-c", script, str(recipe), str(tmp_path / "search")]
    said = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    first, second = said.splitlines()
    assert first == "seed 7: training the dense network"
    assert second.startswith("seed 7: error barrier from init: ")
    log = (tmp_path / "search" / "seed-7" / "dense.log").read_text()
    assert "Prunable parameters" in log and "training the dense" not in log
