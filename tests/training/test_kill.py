"""Real processes, really killed: whatever is on disk then is enough to go on, bit for bit."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import zoo

from lottery import LotteryTicket

KILLS = 20


def kill_now() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class KillAtBatch(pl.Callback):
    def __init__(self, n: int) -> None:
        calls = itertools.count()  # over all rounds: no state that a round would put back

        def kill(*_: Any) -> None:
            if next(calls) >= n:
                kill_now()

        self.on_train_batch_end = kill


def kill_around(name: str, n: int, before: bool) -> None:
    """Be killed at the n-th call of a function of `os` that writes files: just before it or just after."""
    original, calls = getattr(os, name), iter(range(10**9))

    def deadly(*arguments: Any, **named: Any) -> Any:
        last = next(calls) == n
        if last and before:
            kill_now()
        result = original(*arguments, **named)
        if last:
            kill_now()
        return result

    setattr(os, name, deadly)


def live(dirpath: Path, end: tuple[str, float, bool] | None) -> None:
    """One life of a run: until it is finished, or until its end comes."""
    callbacks: list[Any] = []
    if end is not None:
        kind, moment, before = end
        if kind == "batch":
            callbacks.append(KillAtBatch(int(moment)))
        elif kind == "time":
            threading.Timer(moment, kill_now).start()
        else:
            kill_around(kind, int(moment), before)
    ticket = LotteryTicket(4, dirpath=dirpath, rewind="11it", keep="all", monitor="val_acc", save_every="3it")
    zoo.fit(zoo.Net, ticket, *callbacks, loader=zoo.shuffled_loader(), max_epochs=4)


@pytest.mark.slow
def test_a_run_killed_at_20_random_moments_equals_one_that_never_stopped(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zoo", "lottery.training.callback"])
    draw = random.Random(0)

    def life(dirpath: Path, end: tuple[str, float, bool] | None) -> int:
        process = context.Process(target=zoo.call, args=(__file__, "live", dirpath, end))
        process.start()
        process.join()
        assert process.exitcode is not None
        return process.exitcode

    assert life(tmp_path / "whole", None) == 0
    expected = zoo.contents(tmp_path / "whole")
    kills, run = 0, 0
    while kills < KILLS:
        dirpath = tmp_path / f"run-{run}"
        code = -signal.SIGKILL
        while code != 0:
            kind = draw.choice(["batch", "time", "replace", "fsync"])
            moment = {"batch": draw.randint(0, 60), "time": draw.uniform(0.02, 1.5)}.get(kind, draw.randint(0, 40))
            code = life(dirpath, (kind, moment, draw.random() < 0.5) if kills < KILLS else None)
            assert code in (0, -signal.SIGKILL)
            kills += code != 0
        zoo.assert_equal(zoo.contents(dirpath), expected)
        run += 1
