"""What the files of a run say, as types."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import begun
import pytest

from lottery import Run, StorageError
from lottery.runs.layout import HISTORY, RUN, SUMMARY, round_file
from lottery.runs.schema import RoundSummary, RunInfo
from lottery.storage.directory import Directory
from lottery.storage.encoding import encode_json


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(shutil.copytree(begun.BEGUN, tmp_path / "run"))


def change(run: Run, name: str, **changes: Any) -> None:
    """Write other values into a file of a run; ... leaves a name out."""
    directory = Directory(run.path)
    stored = {**directory.read_json(name, dict), **changes}
    directory.commit({name: encode_json({k: v for k, v in stored.items() if v is not ...})})


def test_what_is_read_is_what_was_written(run: Run) -> None:
    summary = run.summary(0)
    assert RoundSummary.of(json.loads(json.dumps(summary.plain()))) == summary
    assert RunInfo.of(json.loads(json.dumps(run.info.plain()))) == run.info


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        (RUN, {"seed": ...}, r"run\.json .*missing required field `seed`"),
        (RUN, {"id": 5}, r"run\.json .*Expected `str`, got `int`.*\$\.id"),
        (RUN, {"settings": {}}, r"run\.json .*missing required field"),
        (round_file(0, SUMMARY), {"density": ...}, r"rounds/00/summary\.json .*missing required field `density`"),
        (round_file(0, SUMMARY), {"steps": "many"}, r"rounds/00/summary\.json .*\$\.steps"),
    ],
)
def test_what_is_missing_or_of_another_type_is_named_with_its_file(
    run: Run, name: str, changes: dict[str, Any], said: str
) -> None:
    change(run, name, **changes)
    with pytest.raises(StorageError, match=rf"(?s){said}.*restore it from a copy"):
        _ = run.info, run.summary(0)


def test_a_history_that_is_no_list_of_rows_is_named(run: Run) -> None:
    Directory(run.path).commit({round_file(0, HISTORY): encode_json({"step": 1})})
    with pytest.raises(StorageError, match=r"rounds/00/history\.json"):
        run.records(0)


def test_what_a_newer_version_adds_is_left_out_and_what_an_older_one_lacked_is_decided_anew(run: Run) -> None:
    expected = run.summary(0)
    change(run, round_file(0, SUMMARY), another=1)
    assert run.summary(0) == expected
    change(run, round_file(0, SUMMARY), metric=..., moves=...)
    assert run.summary(0) == expected
