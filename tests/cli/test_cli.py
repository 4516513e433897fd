"""The command line: a recipe runs, goes on, and refuses what is wrong in one line."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
import zoo
from commands import helped, refused

from lottery import Pruning, Rewind, Run, cli
from lottery.cli import run as run_recipe
from lottery.training import recipes

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "recipes" / "digits.yaml")
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
pytestmark = pytest.mark.filterwarnings("ignore:[\\s\\S]*deprecated")
TINY = ["--trainer.max_epochs", "2", "--lottery.rounds", "2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run that nobody changes."""
    dirpath = tmp_path_factory.mktemp("finished") / "run"
    assert cli.main(command(dirpath)) == 0
    return dirpath


def command(dirpath: Path, *overrides: str, recipe: str = DIGITS) -> list[str]:
    return ["run", recipe, *TINY, "--lottery.dirpath", str(dirpath), *overrides]


def files(dirpath: Path) -> dict[str, bytes]:
    paths = (path for path in dirpath.rglob("*") if path.is_file())
    # the lock says which process wrote last
    return {str(p): p.read_bytes() for p in paths if p.name != "run.lock"}


def test_a_recipe_ends_in_the_table_and_the_next_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dirpath = tmp_path / "my run [1]"
    assert cli.main(command(dirpath)) == 0
    said = capsys.readouterr()
    table, following = said.out.split("\nnext:\n")
    assert f"\n{dirpath}\n" in table
    rows = [line.split() for line in table.splitlines() if re.match(" +[012] ", line)]
    assert [row[:3] for row in rows] == [["0", "100", "%"], ["1", "80.4", "%"], ["2", "64.7", "%"]]
    given = f"--lottery.dirpath '{dirpath}'"
    assert following.splitlines() == [
        f"  lottery inspect '{dirpath}'",
        f"  lottery inspect '{dirpath}' --round 2",
        f"  lottery report '{dirpath}'",
        f"  lottery cost {DIGITS} --trainer.max_epochs 2 --lottery.rounds 2 {given}",
        f"  lottery run {DIGITS} --trainer.max_epochs 2 {given} --lottery.rounds 4    # two more rounds",
    ]
    assert said.err == ""  # no tips, no deprecations


def test_the_same_command_again_trains_nothing(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(finished)
    assert cli.main(command(finished)) == 0
    assert files(finished) == before
    assert "two more rounds" in capsys.readouterr().out


def test_a_command_that_was_stopped_goes_on(tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killer = zoo.KillAt("on_train_epoch_start", 3)
    with monkeypatch.context() as patch, pytest.raises(zoo.Killed):
        hook = killer.on_train_epoch_start
        patch.setattr("lottery.tasks.MLP.on_train_epoch_start", hook)
        cli.main(command(tmp_path))
    assert Run(tmp_path).in_progress == 1
    assert cli.main(command(tmp_path)) == 0
    assert_same_rounds(tmp_path, finished)


def test_more_rounds_go_on_with_a_finished_run(tmp_path: Path, finished: Path) -> None:
    assert cli.main(command(tmp_path, "--lottery.rounds=1")) == 0
    assert Run(tmp_path).rounds == [0, 1]
    assert cli.main(command(tmp_path)) == 0
    assert_same_rounds(tmp_path, finished)


def assert_same_rounds(left: Path, right: Path) -> None:
    assert Run(left).rounds == Run(right).rounds
    for round in Run(left).rounds:
        zoo.assert_equal(Run(left).weights(round), Run(right).weights(round))


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        (["--lottery.pruning", "0.3"], "pruning.amount: 0.2 in the run, 0.3 now"),
        (["--lottery.rewind", "1ep"], "rewind.to: 'init' in the run, '1ep' now"),
        (["--seed_everything", "1"], "seed_everything: '0' in the run, '1' now"),
    ],
)
def test_other_settings_in_the_same_directory_are_refused(
    finished: Path, override: list[str], difference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(finished)
    error = refused(capsys, command(finished, *override))
    assert difference in error and str(finished) in error
    assert files(finished) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "recipes/nope.yaml"], "there is no recipe 'recipes/nope.yaml'"),
        (["inspect", "nowhere"], "nowhere holds no run"),
        (["inspect", "nowhere.ticket"], "nowhere.ticket does not exist"),
        (["inspect", "pyproject.toml"], "pyproject.toml is not a ticket"),
        (["ls", "nowhere"], "nowhere does not exist"),
        (["report", "nowhere"], "nowhere holds no run"),
        (["report", "name=nowhere"], "'name=nowhere' is neither a path nor NAME=RUN"),
        (["report", "=nowhere"], "'=nowhere' names no arm"),
    ],
)
def test_what_is_not_there_is_named_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, arguments)
    assert error.startswith("error: ") and message in error
    assert error.count("\n") == 1


def test_an_unfinished_round_is_named_with_the_finished_ones(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, ["inspect", str(finished), "--round", "3"])
    assert "round 3" in error and "[0, 1, 2]" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (["--lottery.pruningg", "0.3"], "--lottery.pruningg"),
        (["--lottery.pruningg", "0.3"], "did you mean --lottery.pruning?"),
        (["--lottery.rounds", "many"], "lottery.rounds"),
        (["--lottery.pruning", "1.3"], "amount=1.3 must be a fraction"),
        (["--lottery.pruning.densities", "[0.5]"], "amount=0.2 and densities both say how much goes"),
        (["--lottery.rewind", "soon"], "'soon' is not a step"),
        (["--lottery.rewind", "2ep"], "not before the end of a round"),
        (["--model.init_args.inputz", "5"], "inputz"),
        (["--data", "lottery.tasks.Nope"], "no attribute 'Nope'"),
        (["--trainer.max_time", "soon"], "not a valid duration"),
        (["--trainer.accelerator", "abacus"], "abacus"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_written(
    override: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, command(tmp_path / "run", *override))
    assert error.startswith("error: ") and message in error and "usage:" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["inspect", "report", "ls"])
def test_an_unknown_option_is_named(command: str, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, [command, str(finished), "--rond", "1"])
    assert f"usage: lottery {command}" in error and "--rond" in error


def test_a_failure_in_the_users_own_code_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("a bug of the user's")

    monkeypatch.setattr("lottery.tasks.MLP.training_step", fail)
    with pytest.raises(ValueError, match="a bug of the user's"):
        cli.main(command(tmp_path))


def test_inspect_shows_a_run_and_a_ticket(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert cli.main(["inspect", str(finished)]) == 0
    assert "val_acc before training" in capsys.readouterr().out
    assert cli.main(["inspect", str(finished), "--round", "1"]) == 0
    assert re.search(r"output.weight +10 x 50 +500 +450 +90 %", capsys.readouterr().out)


def test_inspect_shows_a_ticket_file_as_it_shows_the_round(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my.ticket"
    Run(finished).ticket(2).save(path)
    shown = []
    for arguments in ([str(finished), "--round", "2"], [str(path)]):
        capsys.readouterr()
        assert cli.main(["inspect", *arguments]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert Run(finished).info.id in shown[0] and "test_acc" in shown[0]
    error = refused(capsys, ["inspect", str(path), "--round", "1"])
    assert "leave out --round 1" in error


def test_ls_shows_runs_and_tickets(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").symlink_to(finished)
    Run(finished).ticket(1).save(tmp_path / "my.ticket")
    (tmp_path / "bad.ticket").touch()
    capsys.readouterr()
    assert cli.main(["ls", str(finished.parent)]) == 0
    assert re.search(r"\n run +finished +3 +64.7 % +test_acc +0\.\d{4} ", capsys.readouterr().out)
    assert cli.main(["ls", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"\n my.ticket +ticket, round 1 +80.4 % ", said)
    assert f"damaged: {tmp_path / 'bad.ticket'}" in said
    (tmp_path / "empty").mkdir()
    assert cli.main(["ls", str(tmp_path / "empty")]) == 0
    assert "lottery run recipes/digits.yaml" in capsys.readouterr().out


def test_report_goes_beside_the_run_or_where_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = []
    for name in ("run", "a=b"):
        arms.append(command(tmp_path / name, "--lottery.rounds", "0"))
        assert cli.main(arms[-1]) == 0
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    for arguments, written in (
        (["run"], "run/report.html"),
        (["a=b"], "a=b/report.html"),
        (["one=run", "two=a=b"], "report.html"),
        (["run", "-o", "out/page.md"], "out/page.md"),
    ):
        assert cli.main(["report", *arguments]) == 0
        assert capsys.readouterr().out.startswith(f"{written} (")
        assert Path(written).stat().st_size > 1000
    assert "<h2>two</h2>" in Path("report.html").read_text()
    error = refused(capsys, ["report", "run", "-o", "page.pdf"])
    assert "page.pdf" in error and ".html" in error


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert "lottery run recipes/digits.yaml " in helped(capsys, "--help")
    assert "--round 7" in helped(capsys, "inspect", "--help")
    assert "lottery ls experiments" in helped(capsys, "ls", "--help")
    assert "-o digits.md" in helped(capsys, "report", "--help")
    of_a_recipe = helped(capsys, "run", DIGITS, "--help")
    assert "--lottery.rounds ROUNDS" in of_a_recipe
    assert "--lottery.pruning.amount 0.5 \\\n" in of_a_recipe
    assert cli.main(["run", "--help"]) == 0
    assert "lottery run recipes/digits.yaml\n" in capsys.readouterr().out
    assert cli.main(["run"]) == 2
    assert "lottery run recipes/digits.yaml\n" in capsys.readouterr().out


def test_the_examples_of_the_help_are_valid(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shlex

    monkeypatch.chdir(ROOT)
    text = run_recipe.EPILOG.replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("  lottery run ")]
    commands = [shlex.split(line.split("   ")[0] if "'" not in line else line)[2:] for line in lines]
    settings = [c for c in commands if not {"--help", "--print_config"} & {*c}]
    assert len(settings) >= 6
    for recipe, *overrides in settings:
        recipes.load(recipe, overrides)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_can_be_made_and_says_what_it_is(recipe: Path) -> None:
    loaded = recipes.load(str(recipe))
    assert loaded.ticket in loaded.trainer.callbacks
    assert loaded.dirpath == Path("checkpoints") / recipe.stem
    opening = recipe.read_text().split("\n\n")[0]
    assert opening.startswith("# ")
    for word in ("Shows", "Costs", "Expect", f"lottery run recipes/{recipe.name}"):
        assert word in opening.split("\nseed_everything")[0]


PRUNINGS = {
    "0.3": Pruning(0.3),
    "{amount: 0.3, scope: layerwise, groups: {output.weight: 0.1}}": Pruning(0.3, "layerwise", {"output.weight": 0.1}),
    "[0.5, 0.2]": Pruning(densities=[0.5, 0.2]),
    "{densities: [0.5, 0.2], amount: null, scope: global, groups: {}, exclude: [output.*]}": Pruning(
        densities=[0.5, 0.2], scope="global", exclude=["output.*"]
    ),
}
REWINDS = {
    "1ep": Rewind("1ep"),
    "{to: 20it, optimizer: fresh}": Rewind("20it", optimizer="fresh"),
    "{rule: fine-tune, length: 1ep}": Rewind(rule="fine-tune", length="1ep"),
}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        *(("pruning", text, value) for text, value in PRUNINGS.items()),
        *(("rewind", text, value) for text, value in REWINDS.items()),
    ],
)
def test_values_come_from_yaml_and_the_command_line_alike(name: str, text: str, value: Any, tmp_path: Path) -> None:
    given = recipes.load(DIGITS, [*TINY, f"--lottery.{name}", text])
    assert getattr(given.ticket, name) == value
    recipe = yaml.safe_load(Path(DIGITS).read_text())
    recipe["lottery"] |= {"rounds": 2, name: yaml.safe_load(text)}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(recipe))
    assert getattr(recipes.load(str(tmp_path / "own.yaml")).ticket, name) == value


def test_one_part_of_the_recipes_pruning_can_be_changed() -> None:
    pruning = recipes.load(DIGITS, ["--lottery.pruning.amount", "0.5"]).ticket.pruning
    assert pruning == Pruning(0.5, "layerwise", {"output.weight": 0.1})


def test_the_progress_bar_can_be_left_out() -> None:
    bar = recipes.load(DIGITS, ["--trainer.enable_progress_bar", "false"])
    assert bar.trainer.progress_bar_callback is None
    assert recipes.load(DIGITS).trainer.progress_bar_callback is not None


@pytest.mark.slow
def test_a_terminal_shows_a_bar_and_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    arguments = command(tmp_path, "--trainer.max_epochs", "30")
    said, status = in_terminal(arguments, until="round 1/2  density 80.4 %")
    assert status == 130
    assert "Traceback" not in said
    assert re.search("^round 0/2   100 %  val_acc", said, re.MULTILINE)  # not in the bar
    going_on = said.split("The same command goes on:")[1].split()
    assert going_on == ["lottery", *arguments]


def in_terminal(arguments: list[str], until: str | None = None) -> tuple[str, int]:
    """What a command says in a terminal of 80 columns, without colours; Ctrl+C once it said `until`."""
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "lottery.cli", *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    said = ""
    try:
        while select.select([ours], [], [], 60)[0]:
            try:
                said += os.read(ours, 65536).decode(errors="replace")
            except OSError:  # the other end is closed
                break
            if until is not None and until in said:
                process.send_signal(signal.SIGINT)
                until = None
        return _plain(said), process.wait(60)
    finally:
        process.kill()
        os.close(ours)


def _plain(said: str) -> str:
    """A terminal's lines, those that were rewritten in their last form."""
    said = re.sub(r"\x1b\[2K", "\r", said)
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said).replace("\r\n", "\n")
    return "\n".join(line.split("\r")[-1] for line in said.split("\n"))
