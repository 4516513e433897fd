"""A few faults in each run of the tests, by a seed that is printed; hundreds by hand: `python -m tests.faults`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from faults.campaign import Outcome, campaign
from faults.runs import RUNS


def inject(folder: Path, count: int, runs: list[str]) -> Outcome:
    seed = time.time_ns() % 10**6
    print(f"python -m tests.faults --seed {seed} --count {count}")
    outcome = Outcome()
    for outcome in campaign(folder, runs, count, seed):
        pass
    return outcome


def test_a_few_faults_lose_nothing(tmp_path: Path) -> None:
    kind = list(RUNS)[time.time_ns() % (len(RUNS) - 1)]
    outcome = inject(tmp_path, 4, [kind])
    assert not outcome.wrong and outcome.total >= 4


@pytest.mark.slow
def test_forty_faults_lose_nothing(tmp_path: Path) -> None:
    outcome = inject(tmp_path, 40, list(RUNS))
    assert not outcome.wrong and outcome.total >= 40
