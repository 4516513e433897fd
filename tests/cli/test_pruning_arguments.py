"""Every piece of a pruning can be named in YAML and on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lottery import Run, cli

DIGITS = str(Path(__file__).parents[2] / "recipes" / "digits.yaml")
pytestmark = pytest.mark.filterwarnings("ignore:[\\s\\S]*deprecated")


def command(dirpath: Path, *overrides: str) -> list[str]:
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "3"]
    own = ["--lottery.rounds", "1", "--lottery.dirpath", str(dirpath / "run")]
    plain = ["--lottery.test_each_round", "false", "--lottery.pruning.groups", "{}"]
    plain += ["--lottery.pruning.amount", "null"]
    return ["run", DIGITS, *short, *own, *plain, *overrides]


@pytest.mark.parametrize(
    ("settings", "stored"),
    [
        (
            ["score snip", "steps 10", "weights start", "scope global"],
            {"score": {"name": "snip", "batches": 1}, "steps": 10, "weights": "start"},
        ),
        (
            ["score {name: snip, batches: 2}", "scope erk", "structure 2:4", "exclude [output.weight]"],
            {"score": {"name": "snip", "batches": 2}, "scope": "erk", "structure": {"name": "n:m", "n": 2, "m": 4}},
        ),
        (
            ["scope layerwise", "densities {output.weight: [0.5], '*': [0.1]}"],
            {"densities": {"output.weight": [0.5], "*": [0.1]}},
        ),
    ],
)  # fmt: skip
def test_a_pruning_is_written_in_words(settings: list[str], stored: dict[str, object], tmp_path: Path) -> None:
    words = [
        word
        for setting in settings
        for word in (f"--lottery.pruning.{setting.partition(' ')[0]}", setting.partition(" ")[2])
    ]
    assert cli.main(command(tmp_path, *words)) == 0
    run = Run(tmp_path / "run")
    pruning = run.info.settings.pruning
    assert {name: pruning[name] for name in stored} == stored
    assert run.ticket(1).density < 1


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("score", "magnitud", "Did you mean magnitude"),
        ("score", "{name: snip, batch: 3}", "no setting batch; it has batches"),
        ("structure", "chanel", "Did you mean channel"),
        ("structure", "2:5", "that 5 divides"),
        ("scope", "erkk", "erk"),
        ("steps", "0", "steps=0"),
        ("densities", "[0.00001]", "would leave 0 of the"),
    ],
)
def test_what_is_wrong_is_named_without_a_traceback(
    setting: str, value: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(tmp_path, f"--lottery.pruning.{setting}", value)
    try:
        status: object = cli.main(arguments)
    except SystemExit as ended:
        status = ended.code
    error = capsys.readouterr().err
    assert status == 2 and "Traceback" not in error
    assert message in error
    assert not (tmp_path / "run" / "manifest.json").exists()
