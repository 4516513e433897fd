"""The kinds of run that faults are injected into: tiny, with the settings that users get who set none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import zoo
from torch import nn

from lottery import LotteryTicket, Pruning, Rewind, Run, StorageError
from lottery.runs.verification import verify_run
from lottery.studies.cell import perform
from lottery.studies.driver import drive
from lottery.studies.jobs import Ended, Job, reason
from lottery.studies.plan import Plan
from lottery.studies.study import Study
from lottery.training.divergence import DivergedError

RECIPE = """\
seed_everything: 1
threads: 1
trainer: {max_epochs: 2, accelerator: cpu, num_sanity_val_steps: 0, enable_checkpointing: false}
model:
  class_path: lottery.tasks.MLP
  init_args: {inputs: 64, hidden: [12], classes: 10}
data:
  class_path: lottery.tasks.Digits
  init_args: {batch_size: 500}
lottery: {rounds: 2, pruning: 0.5, monitor: val_acc}
"""


class ConvNet(zoo.Net):
    """Convolutions with BatchNorm."""

    def __init__(self) -> None:
        super().__init__(zoo.SGD)
        self.net = nn.Sequential(
            nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Flatten(), nn.Linear(48, zoo.CLASSES),
        )  # fmt: skip


def adam() -> zoo.Net:
    return zoo.Net(zoo.ADAM)


def _ticket(make: Callable[[], Any], **settings: Any) -> Callable[[Path], None]:
    def fit(path: Path) -> None:
        zoo.fit(make, LotteryTicket(dirpath=path, **settings), max_epochs=2)

    return fit


class _Here:
    """Trains the cells of a study in this process, one after the other."""

    slots = 1

    def start(self, job: Job) -> None:
        self.job = job

    def wait(self, seconds: float) -> list[Ended]:
        try:
            perform(self.job)
        except Exception as error:  # noqa: BLE001 (whatever it is, the driver is told)
            return [Ended(self.job, reason(error))]
        return [Ended(self.job, None)]

    def close(self) -> None:
        pass


def _study(path: Path) -> None:
    plan = Plan(RECIPE, (), (0,), ("reinit",), (1, 2), 2)
    plan.write(path)
    if failed := drive(path, plan, _Here(), attempts=1).failed:
        raise StorageError(str(failed))


RUNS: dict[str, Callable[[Path], None]] = {
    "SGD conv net with BatchNorm": _ticket(ConvNet, rounds=2),
    "Adam MLP, rewind inside an epoch": _ticket(adam, rounds=2, rewind="11it"),
    "fine-tuning": _ticket(zoo.Net, rounds=2, rewind=Rewind(rule="fine-tune", length="1ep")),
    "kept optimizer": _ticket(adam, rounds=2, rewind=Rewind("1ep", optimizer="keep")),
    "learning-rate rewinding": _ticket(zoo.Net, rounds=2, rewind=Rewind("1ep", rule="learning-rate")),
    "score that gathers": _ticket(zoo.Net, rounds=2, pruning=Pruning(0.3, score="movement")),
    "moving masks": _ticket(zoo.Net, rounds=0, dynamic={"name": "set", "density": 0.4, "every": "3it"}),
    "a study": _study,
}


def live(name: str, path: Path) -> None:
    """One life of a run, from where it stands."""
    torch.set_num_threads(1)
    RUNS[name](path)


def contents(name: str, path: Path) -> dict[str, Any]:
    """All that a finished run says, but for times and ids.

    Raises:
        AssertionError: it is not whole, or something is left behind.
    """
    if name != "a study":
        return _of_run(path)
    study = Study(path)
    return {cell.key: _of_run(path / cell.key) for cell in study.plan.cells()}


def _of_run(path: Path) -> dict[str, Any]:
    found = verify_run(path)
    assert not found, found
    run = Run(path)
    assert run.status == "finished", run.status
    names = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
    said: dict[str, Any] = {
        "files": sorted(n for n in names if not n.startswith("lightning_logs")),
        "seed": run.info.seed,
    }
    for number in run.rounds:
        summary = {k: v for k, v in run.summary(number).plain().items() if k != "seconds"}
        said[f"round {number}"] = {"summary": summary, "history": run.records(number), "masks": dict(run.masks[number])}
        with contextlib.suppress(StorageError):  # of the latest round only
            said[f"weights {number}"] = run.weights(number)
    for point in ("initial", "rewind"):
        with contextlib.suppress(StorageError):  # a branch has none
            said[point] = run.weights(point)  # type: ignore[arg-type]
    return said


ORDERLY = (StorageError, DivergedError)
"""What a run may end with where a file operation failed."""
