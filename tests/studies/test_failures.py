"""What goes wrong in a study is said, and stops nothing else."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lottery import StorageError, storage
from lottery.studies import begin, driver
from lottery.studies.begin import TrainingsFailed, run_study
from lottery.studies.driver import Progress, drive
from lottery.studies.engines import local, slurm
from lottery.studies.engines.elsewhere import Surroundings, perform_elsewhere
from lottery.studies.engines.local import LocalEngine
from lottery.studies.jobs import Ended, Job, reason
from lottery.studies.plan import Cell, Plan
from lottery.studies.study import Study

PLAN = Plan("recipe", (), (0, 1), ("reinit",), (1,), 1)


class Words:
    """An engine whose jobs fail with words, at once."""

    slots = 2

    def __init__(self, words: str) -> None:
        self.words, self.jobs = words, []  # type: ignore[var-annotated]

    def start(self, job: Job) -> None:
        self.jobs.append(job)

    def wait(self, seconds: float) -> list[Ended]:
        jobs, self.jobs = self.jobs, []
        return [Ended(job, self.words) for job in jobs]

    def close(self) -> None:
        pass


def answer_at_length(job: Job, answers: Any, device: str | None, directory: str) -> None:
    answers.send("x" * 2**22)


def test_an_error_longer_than_a_pipe_takes_reaches_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_perform", answer_at_length)
    engine = LocalEngine(1)
    engine._context = multiprocessing.get_context("fork")  # type: ignore[assignment]
    engine.start(Job("ticket/seed-0", str(tmp_path)))
    ended = next(found for _ in range(60) if (found := engine.wait(1.0)))
    engine.close()
    assert len(ended) == 1 and ended[0].error is not None and len(ended[0].error) == 2**22


def test_reasons_can_be_stored_and_are_short() -> None:
    long = reason(ValueError(f"\ud800{'x' * 10**6}"))
    assert long.encode() and len(long) < 5000 and long.startswith("ValueError: \\ud800xxx")
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise SystemExit(1)
    except SystemExit as error:
        assert reason(error) == "KeyboardInterrupt"


def test_an_interrupt_of_a_training_elsewhere_is_an_answer(tmp_path: Path) -> None:
    with mock.patch("lottery.studies.engines.elsewhere.perform", side_effect=SystemExit(3)):
        said = perform_elsewhere(Job("ticket/seed-0", str(tmp_path)), Surroundings.here())
    assert said == "SystemExit: 3"


def test_a_full_disk_ends_no_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise StorageError(f"could not write {path}: {os.strerror(errno.ENOSPC)}")

    monkeypatch.setattr(storage, "write", full)
    progress = drive(tmp_path, PLAN, Words("no \ud800 luck"), attempts=1)
    assert not progress.left and set(progress.failed) == set(PLAN.cells())


def test_a_lone_surrogate_in_an_error_ends_no_study(tmp_path: Path) -> None:
    progress = drive(tmp_path, PLAN, Words("no \ud800 luck"), attempts=1)
    assert set(progress.failed) == set(PLAN.cells())
    assert driver.standing(tmp_path, PLAN).failed[Cell("ticket", 0)] == "no \\ud800 luck"


@pytest.mark.parametrize("listed", ["slurm_load_jobs error: Unable to contact", "12", "12 RUNNING now", "Notice: down"])
def test_words_of_squeue_that_are_no_states_say_nothing_of_jobs(listed: str) -> None:
    assert slurm._states(f"11 RUNNING\n{listed}\n") is None
    assert slurm._states("11 RUNNING\n\n12_3 PENDING\n") == {"11": "RUNNING", "12_3": "PENDING"}


def test_cells_are_tried_once_at_least(tmp_path: Path) -> None:
    for use in (lambda: drive(tmp_path, PLAN, Words(""), attempts=0), lambda: run_study("x", tmp_path, attempts=0)):
        with pytest.raises(ValueError, match="attempts=0 must be 1 or more"):
            use()


def test_a_study_with_failed_trainings_does_not_return_as_if_it_had_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PLAN.write(tmp_path)
    monkeypatch.setattr(begin, "prepare", lambda *_: Study(tmp_path))

    def gone(self: Study, *_: Any, **__: Any) -> Progress:
        return Progress(list(PLAN.cells()), failed={Cell("ticket", 1): "Traceback\nValueError: no"})

    monkeypatch.setattr(Study, "run", gone)
    with pytest.raises(TrainingsFailed, match=r"(?s)1 of the 4 trainings.*ticket/seed-1: ValueError: no") as error:
        run_study("recipe", tmp_path)
    assert error.value.study.path == tmp_path and list(error.value.failed) == [Cell("ticket", 1)]


def test_a_damaged_cell_stops_neither_training_nor_reading_of_the_others(tmp_path: Path) -> None:
    PLAN.write(tmp_path)
    (tmp_path / "ticket/seed-0").mkdir(parents=True)
    (tmp_path / "ticket/seed-0" / storage.MANIFEST).write_text("{")
    assert not Study(tmp_path).begun
    progress = drive(tmp_path, PLAN, Words("no"), attempts=1)
    assert set(progress.failed) == set(PLAN.cells())
    said = perform_elsewhere(Job("ticket/seed-0", str(tmp_path)), Surroundings.here())
    assert said is not None
