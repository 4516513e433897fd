"""Signals that ask a process to end: it saves where it stands, says so, and ends with the status that shells expect."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import zoo

from lottery import LotteryTicket, Run
from lottery.runs.layout import LAST
from lottery.training import stopping


class Send(pl.Callback):
    """Send this process signals at the n-th call of a hook, counted over all rounds."""

    def __init__(self, hook: str, n: int, *numbers: int) -> None:
        calls = itertools.count()

        def send(*_: Any) -> None:
            if next(calls) == n:
                for number in numbers:
                    os.kill(os.getpid(), number)

        setattr(self, hook, send)


def fit(path: Path, *callbacks: Any) -> None:
    ticket = LotteryTicket(2, dirpath=path, keep="all", seed=5)  # saved every 60 seconds: not once
    zoo.fit(zoo.Net, ticket, *callbacks, max_epochs=2)


def life(path: Path, *callbacks: Any) -> int:
    """The exit status of a process that trains."""
    process = multiprocessing.get_context("fork").Process(target=fit, args=(path, *callbacks))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)], ids=str
)
def test_a_run_that_is_asked_to_end_saves_and_goes_on_bit_for_bit(
    number: signal.Signals, status: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path / "whole")
    assert life(tmp_path / "again", Send("on_train_batch_start", 21, number)) == status
    assert torch.load(tmp_path / "again" / LAST, weights_only=True)["global_step"] == 6
    told = " ".join(capfd.readouterr().out.split())
    assert f"stopped in round 1: saved at step 6. Run the same again to go on. Stored in {tmp_path}" in told
    assert Run(tmp_path / "again").status == "interrupted"
    fit(tmp_path / "again")
    zoo.assert_equal(zoo.contents(tmp_path / "again"), zoo.contents(tmp_path / "whole"))


@pytest.mark.parametrize("hook", ["on_validation_start", "on_train_end", "on_train_epoch_end"])
def test_a_signal_outside_of_a_batch_is_heeded_at_the_next_boundary(hook: str, tmp_path: Path) -> None:
    assert life(tmp_path / "again", Send(hook, 1, signal.SIGTERM)) == 143
    fit(tmp_path / "again")
    fit(tmp_path / "whole")
    zoo.assert_equal(zoo.contents(tmp_path / "again"), zoo.contents(tmp_path / "whole"))


def test_a_second_signal_ends_a_run_at_once(tmp_path: Path) -> None:
    assert life(tmp_path, Send("on_train_batch_start", 21, signal.SIGINT, signal.SIGINT)) == 130
    assert not (tmp_path / LAST).exists() and Run(tmp_path).rounds == [0]


class Hang(pl.Callback):
    """A batch that never ends."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)


def test_a_run_that_comes_to_no_boundary_ends_in_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "PATIENCE", 0.1)
    begun = time.monotonic()
    assert life(tmp_path, Hang()) == 143
    assert time.monotonic() - begun < 50  # of the minute that the batch takes


def test_handlers_are_as_they_were_after_a_fit(tmp_path: Path) -> None:
    numbers = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
    before = [signal.getsignal(n) for n in numbers]
    fit(tmp_path)
    assert [signal.getsignal(n) for n in numbers] == before


def heard_and_ignored(path: Path) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        fit(path, Send("on_train_batch_start", 3, signal.SIGHUP), Send("on_train_batch_start", 9, signal.SIGTERM))
    finally:
        assert heard and torch.load(path / LAST, weights_only=True)["global_step"] == 10


def test_an_ignored_signal_stays_ignored_and_the_users_handler_hears(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=heard_and_ignored, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 143


def requeued(path: Path, fake: Path) -> None:
    os.environ.update(SLURM_JOB_ID="77", SLURM_NTASKS="1", SLURM_JOB_NAME="train", PATH=f"{fake}:{os.environ['PATH']}")
    fit(path, Send("on_train_batch_start", 21, signal.SIGUSR1))


def test_a_job_of_slurm_saves_before_it_goes_back_into_the_queue(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    process = multiprocessing.get_context("fork").Process(target=requeued, args=(tmp_path / "again", tmp_path / "bin"))
    process.start()
    process.join()
    assert process.exitcode == 128 + signal.SIGUSR1
    assert (tmp_path / "asked").read_text() == "requeue 77\n"
    assert not list(tmp_path.rglob("hpc_ckpt*"))
    fit(tmp_path / "again")
    fit(tmp_path / "whole")
    zoo.assert_equal(zoo.contents(tmp_path / "again"), zoo.contents(tmp_path / "whole"))


def test_a_checkpoint_that_slurm_left_in_the_working_directory_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a run begin with its weights."""
    fit(tmp_path / "whole")
    other = zoo.fit(zoo.Net, max_epochs=1, seed=9)
    monkeypatch.chdir(tmp_path)
    other.save_checkpoint(tmp_path / "hpc_ckpt_1.ckpt")
    monkeypatch.setattr("lightning_fabric.plugins.environments.slurm.SLURMEnvironment.detect", lambda: True)
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")
    fit(tmp_path / "again")
    zoo.assert_equal(zoo.contents(tmp_path / "again"), zoo.contents(tmp_path / "whole"))


def command(path: Path) -> None:
    """`lottery run` of a recipe, which gets SIGTERM in its first epoch."""
    recipe = path / "tiny.yaml"
    recipe.write_text(
        "seed_everything: 1\n"
        "trainer: {max_epochs: 1, accelerator: cpu, num_sanity_val_steps: 0, enable_checkpointing: false}\n"
        "model: {class_path: lottery.tasks.MLP, init_args: {inputs: 64, hidden: [4], classes: 10}}\n"
        "data: {class_path: lottery.tasks.Digits, init_args: {batch_size: 64}}\n"
        f"lottery: {{rounds: 1, monitor: val_acc, dirpath: {path / 'run'}}}\n"
    )
    from lottery.cli import main
    from lottery.tasks import MLP

    MLP.on_train_batch_start = lambda *_: os.kill(os.getpid(), signal.SIGTERM)
    raise SystemExit(main(["run", str(recipe)]))


def test_a_command_ends_with_the_status_of_its_signal(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=command, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 143 and (tmp_path / "run" / LAST).exists()
