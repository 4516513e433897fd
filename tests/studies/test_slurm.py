"""Studies on SLURM. Where there is none, four small programs stand in for its own; submitit and the jobs are real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import zoo

from lottery.studies import run_study
from lottery.studies.engines import slurm
from lottery.studies.engines.slurm import SlurmEngine
from lottery.studies.jobs import Ended, Job

RECIPE = "recipes/digits.yaml"
OPTIONS: dict[str, Any] = {
    "seeds": 2,
    "controls": [],
    "overrides": ["--lottery.rounds", "1", "--trainer.max_epochs", "4"],
}

# a queue with one slot; $QUEUE holds a file per job with its state
PROGRAMS = {
    "become": "echo $2 >$QUEUE/.$1.new; mv $QUEUE/.$1.new $QUEUE/$1",
    "sbatch": """\
        if [[ $(cat $QUEUE/[0-9]* | grep -c -e PENDING -e RUNNING) -ge ${LIMIT:-9} ]]; then
            echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1
        fi
        id=$(($(ls $QUEUE | wc -l) + 1)); become $id PENDING
        export SLURM_JOB_ID=$id SLURM_JOB_NUM_NODES=1 SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0
        setsid flock $QUEUE/.slot bash -c '
            grep -q PENDING $QUEUE/$SLURM_JOB_ID || exit
            become $SLURM_JOB_ID RUNNING
            if bash "$0"; then end=COMPLETED; else end=FAILED; fi
            become $SLURM_JOB_ID $end
        ' "$1" >/dev/null 2>&1 &
        echo "Submitted batch job $id" """,
    "srun": """\
        while [[ $1 == --* ]]; do
            case $1 in --output) out=$2; shift;; --error) err=$2; shift;; esac; shift
        done
        place() { sed "s/%j/$SLURM_JOB_ID/; s/%t/0/" <<<"$1"; }
        exec "$@" >>"$(place "$out")" 2>>"$(place "$err")" """,
    "squeue": "cd $QUEUE; for id in $(ls); do echo $id $(<$id); done",
    "scancel": "become $1 CANCELLED",
}


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory with a file for each job that was ever submitted."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    programs, jobs = tmp_path / "programs", tmp_path / "queue"
    programs.mkdir()
    jobs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("QUEUE", str(jobs))
    monkeypatch.setattr(slurm, "ASK", 0.5)
    return jobs


def states(queue: Path) -> list[str]:
    return [path.read_text().strip() for path in sorted(queue.glob("[0-9]*"))]


DRIVER = """\
import json, sys
from lottery.studies import run_study
from lottery.studies import SlurmEngine
recipe, study, options = sys.argv[1:]
run_study(recipe, study, engine=SlurmEngine(study), **json.loads(options))
"""


@pytest.mark.slow
def test_jobs_outlive_a_killed_driver_and_none_is_submitted_twice(queue: Path, tmp_path: Path) -> None:
    """And the study has the bits of one that submitit trained in processes of this machine."""
    path = tmp_path / "study"
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, RECIPE, str(path), json.dumps(OPTIONS)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ids = path / "slurm" / slurm.IDS
    while not ids.exists() or len(json.loads(ids.read_text())) < 2:
        assert driver.poll() is None
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    study = run_study(RECIPE, path, engine=SlurmEngine(path), **OPTIONS)
    assert not study.progress().failed
    cells = list(study.plan.cells())
    assert len(states(queue)) == len(cells)
    engine = SlurmEngine(tmp_path / "whole", cluster="local", slots=2)
    whole = run_study(RECIPE, tmp_path / "whole", engine=engine, **OPTIONS)
    for cell in cells:
        zoo.assert_equal(zoo.contents(path / cell.key), zoo.contents(whole.path / cell.key))


def only_ended(engine: SlurmEngine) -> Ended:
    """What becomes of the one job of an engine."""
    while not (ended := engine.wait(60)):
        pass
    (only,) = ended
    return only


def test_a_job_that_was_cancelled_says_so(queue: Path, tmp_path: Path) -> None:
    (queue / ".slot").touch()
    held = subprocess.Popen(["flock", "--no-fork", str(queue / ".slot"), "sleep", "infinity"])
    try:
        engine = SlurmEngine(tmp_path / "study")
        engine.start(Job("ticket/seed-0", str(tmp_path)))
        engine.close()
        assert states(queue) == ["CANCELLED"]
        engine.start(Job("ticket/seed-0", str(tmp_path)))
        (queue / "2").write_text("CANCELLED")
        said = only_ended(engine).error
        assert said == "SLURM job 2 ended without a result: CANCELLED"
    finally:
        held.kill()
        held.wait()


@pytest.mark.slow
def test_what_a_limit_of_the_site_refuses_is_submitted_later(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs that fail, which their errors say."""
    monkeypatch.setenv("LIMIT", "1")
    engine = SlurmEngine(tmp_path / "study")
    jobs = [Job(f"ticket/seed-{n}", str(tmp_path / "nowhere")) for n in range(2)]
    for job in jobs:
        engine.start(job)
    assert len(states(queue)) == 1
    ended = [only_ended(engine) for _ in jobs]
    assert [end.job for end in ended] == jobs
    for end in ended:
        assert end.error is not None
        assert end.error.startswith("FileNotFoundError")
        assert f"has no directory {tmp_path / 'nowhere'}" in end.error


def test_a_first_job_that_slurm_refuses_ends_the_study_with_its_reason(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMIT", "0")
    engine = SlurmEngine(tmp_path / "study")
    with pytest.raises(ConnectionError, match="QOSMaxSubmitJobPerUserLimit"):
        engine.start(Job("ticket/seed-0", str(tmp_path)))


# quick


def test_without_submitit_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ImportError, match=r"pip install 'lottery-tickets\[slurm\]'"):
        SlurmEngine(tmp_path)


def test_without_slurm_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConnectionError, match="SLURM does not answer"):
        SlurmEngine(tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"time": "4m"}, "time='4m'"),
        ({"time": "1:30:00"}, "time='1:30:00'"),
        ({"cpus": 0}, "cpus=0 "),
        ({"gpus": -1}, "gpus=-1 "),
        ({"slots": 0}, "slots=0 "),
        ({"cluster": "debug"}, "cluster='debug'"),
    ],
)
def test_an_option_out_of_range_is_named(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SlurmEngine(tmp_path, **options)
