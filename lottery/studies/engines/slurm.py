"""SLURM: each cell of a study is a job in the queue, submitted through submitit."""

from __future__ import annotations

import getpass
import importlib
import json
import math
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any, Literal, TypeAlias

from lottery.storage.directory import write
from lottery.storage.encoding import encode_json
from lottery.studies.engines.elsewhere import Surroundings, perform_elsewhere
from lottery.studies.jobs import Ended, Job

Submitted: TypeAlias = Any  # a job of submitit, which need not be installed
IDS = "jobs.json"
LOOK = 1.0  # seconds between looks for results: a file per job
ASK = 15.0  # seconds between questions to SLURM, and what a file may take to show on a network's file system
OVER = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "TIMEOUT",
}


class SlurmEngine:
    """Each cell is a SLURM job; the file system that holds the study must be shared by all nodes.

    A job that is preempted or runs out of time goes back into the queue, and on from what the cell has on disk. Jobs
    outlive the driver: their ids are in the study's ``slurm``, beside their logs, and the next driver takes them up.
    What else a site asks for, such as an account, goes through sbatch's environment variables (`SBATCH_ACCOUNT`,
    `SBATCH_QOS`, `SBATCH_MEM_PER_CPU`).

    Args:
        study: the study directory.
        partition: SLURM's partition; default: the cluster's.
        time: what a job may take: "30m", "4h", "1d"; at least "5m".
        cpus: CPUs of a job, its `OMP_NUM_THREADS` too.
        gpus: GPUs of a job.
        slots: how many jobs are in the queue at once.
        cluster: "local" runs the jobs as processes of this machine, to try things out; they are not taken up again.

    Raises:
        ImportError: submitit is not installed.
        ConnectionError: there is no SLURM here, or it does not answer.
        ValueError: an argument is out of range.

    Example::

        study = prepare("recipes/digits.yaml", "checkpoints/digits_study")
        study.run(SlurmEngine(study.path, partition="gpu", time="2h", gpus=1))

    Source: https://github.com/facebookincubator/submitit
    """

    def __init__(
        self,
        study: str | os.PathLike[str],
        partition: str | None = None,
        time: str = "1h",
        cpus: int = 1,
        gpus: int = 0,
        slots: int = 100,
        cluster: Literal["local"] | None = None,
    ) -> None:
        for name, value, least in (("cpus", cpus, 1), ("gpus", gpus, 0), ("slots", slots, 1)):
            if value < least:
                raise ValueError(f"{name}={value!r} must be {least} or more")
        if cluster not in (None, "local"):
            raise ValueError(f"cluster={cluster!r}; choose None or 'local'")
        minutes = _minutes(time)
        try:
            self._submitit: Any = importlib.import_module("submitit")
        except ImportError as error:
            raise ImportError("submitit is not installed; get it with: pip install 'lottery-tickets[slurm]'") from error
        self.slots = slots
        self._folder = (Path(study) / "slurm").absolute()
        self._queue = _Queue() if cluster is None else None
        self._executor = self._submitit.AutoExecutor(self._folder, cluster or "slurm")
        self._executor.update_parameters(
            timeout_min=minutes,
            cpus_per_task=cpus,
            slurm_setup=[f"export OMP_NUM_THREADS={cpus}"],
            **({"gpus_per_node": gpus} if gpus else {}),
            **({"slurm_partition": partition} if partition else {}),
        )
        self._ids: dict[str, str] = {}
        if self._queue is not None and (self._folder / IDS).exists():
            self._ids = json.loads((self._folder / IDS).read_bytes())
        self._held: list[Job] = []
        self._taken, self._tried = False, -math.inf
        self._submitted: dict[Job, Submitted] = {}
        self._over_since: dict[Job, float] = {}

    def start(self, job: Job) -> None:
        """Submit a cell, or take it up where the queue has it already.

        What SLURM refuses, having taken others, such as for a limit of the site, is submitted later.

        Raises:
            ConnectionError: SLURM refuses the first.
        """
        known = self._ids.get(job.key)
        if self._queue is not None and known is not None:
            submitted = self._submitit.SlurmJob(self._folder, known)
            if self._queue.has(known) or submitted.paths.result_pickle.exists():
                self._submitted[job] = submitted
                self._taken = True
                return
        self._held.append(job)
        if len(self._held) == 1:
            self._submit_held()

    def _submit_held(self) -> None:
        self._tried = time.monotonic()
        while self._held:
            job = self._held[0]
            self._executor.update_parameters(name=job.key)
            try:
                submitted = self._executor.submit(_Task(), job, Surroundings.here())
            except self._submitit.core.utils.FailedJobError as error:
                if self._taken:
                    return
                raise ConnectionError(f"SLURM refuses jobs: {error}") from error
            self._taken = True
            self._held.pop(0)
            self._submitted[job] = submitted
            self._ids[job.key] = submitted.job_id
            self._note()

    def wait(self, seconds: float) -> list[Ended]:
        """The cells that ended; waits at most so long for the first."""
        end = time.monotonic() + seconds
        while not (ended := self._ended()) and (self._submitted or self._held):
            left = end - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, LOOK))
        return ended

    def close(self) -> None:
        """Cancel the jobs that have not ended."""
        for submitted in self._submitted.values():
            submitted.cancel(check=False)
        self._held.clear()
        self._forget(list(self._submitted))

    def _ended(self) -> list[Ended]:
        ended = []
        for job, submitted in self._submitted.items():
            state = self._over(job, submitted)  # first: a result is written before
            if submitted.paths.result_pickle.exists():
                ended.append(Ended(job, _outcome(submitted)))
            elif state is not None:
                ended.append(Ended(job, _post_mortem(submitted, state)))
        self._forget([e.job for e in ended])
        if self._held and time.monotonic() - self._tried >= ASK:
            self._submit_held()
        return ended

    def _over(self, job: Job, submitted: Submitted) -> str | None:
        """The state of a job that has ended, or None."""
        if self._queue is None:
            return submitted.state if submitted.done() else None
        state = self._queue.over(submitted.job_id)
        if state is None:
            self._over_since.pop(job, None)
            return None
        since = self._over_since.setdefault(job, time.monotonic())
        return state if time.monotonic() - since >= ASK else None

    def _forget(self, jobs: list[Job]) -> None:
        for job in jobs:
            del self._submitted[job]
            self._over_since.pop(job, None)
            self._ids.pop(job.key, None)
        if jobs:
            self._note()

    def _note(self) -> None:
        if self._queue is not None:
            write(self._folder / IDS, encode_json(self._ids))


class _Task:
    """What a job does, and what it does when it is put back into the queue: the same."""

    def __call__(self, job: Job, surroundings: Surroundings) -> str | None:
        return perform_elsewhere(job, surroundings)

    def checkpoint(self, *arguments: object) -> object:
        """Called by submitit before a job is preempted or runs out of time."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


class _Queue:
    """The states of this user's jobs. `squeue` has them also where a site keeps no accounts for `sacct`."""

    def __init__(self) -> None:
        self._states: dict[str, str] | None = None
        self._asked = -math.inf
        if self._current() is None:
            raise ConnectionError(
                "SLURM does not answer (squeue failed). Start the study on a machine that can submit jobs, or use"
                " another engine."
            )

    def has(self, job_id: str) -> bool:
        """Whether a job is waiting or running, or may be: SLURM does not answer."""
        states = self._current()
        return states is None or states.get(job_id, "COMPLETED") not in OVER

    def over(self, job_id: str) -> str | None:
        """The state of a job that is not waiting and not running, as far as SLURM answers."""
        states = self._current()
        if states is None:
            return None
        state = states.get(job_id, "not in the queue any more")
        return state if job_id not in states or state in OVER else None

    def _current(self) -> dict[str, str] | None:
        if time.monotonic() - self._asked >= ASK:
            self._asked = time.monotonic()
            self._states = _squeue()
        return self._states


def _squeue() -> dict[str, str] | None:
    options = "--noheader", "--states=all", f"--user={getpass.getuser()}"
    try:
        answer = subprocess.run(
            ["squeue", *options, "--format=%i %T"], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return _states(answer.stdout)


def _states(listed: str) -> dict[str, str] | None:
    """The states of jobs in what squeue prints; None where it prints something else, so that nothing is known.

    Example:
        >>> _states("12 RUNNING\\n13_4 PENDING"), _states("slurm_load_jobs error: try again")
        ({'12': 'RUNNING', '13_4': 'PENDING'}, None)
    """
    lines = [line.split() for line in listed.splitlines() if line.strip()]
    if not all(len(words) == 2 and words[0][0].isdigit() for words in lines):
        return None
    return {job: state for job, state in lines}


def _outcome(submitted: Submitted) -> str | None:
    try:
        return submitted.result()
    except Exception as error:  # noqa: BLE001 (it could not even be started)
        return f"SLURM job {submitted.job_id}:\n{_tail(str(error))}"


def _post_mortem(submitted: Submitted, state: str) -> str:
    said = _tail(submitted.stderr() or submitted.stdout() or "")
    ended = f"SLURM job {submitted.job_id} ended without a result: {state}"
    return f"{ended}\n{said}" if said else ended


def _tail(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join([line for line in lines if not line.startswith("submitit ")][-6:])


def _minutes(text: str) -> int:
    """A length of time in minutes.

    Example:
        >>> _minutes("90m"), _minutes("2h"), _minutes("1d")
        (90, 120, 1440)
    """
    found = re.fullmatch(r"(\d+)([mhd])", text)
    minutes = int(found[1]) * {"m": 1, "h": 60, "d": 1440}[found[2]] if found else 0
    if minutes < 5:  # submitit takes the last 90 seconds to put a job back
        raise ValueError(f"time={text!r}; write '30m', '4h' or '1d', at least '5m'")
    return minutes
