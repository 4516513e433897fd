"""Settings that changed are seen, settings that change no training hinder nobody, and what bits depend on is said."""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import zoo
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    EarlyStopping,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from lottery import LotteryTicket, Run, StorageError
from lottery.foundations import environment
from lottery.runs.differences import differences
from lottery.runs.layout import RUN
from lottery.storage.directory import Directory
from lottery.storage.encoding import encode_json
from lottery.training.lightning.described import settings_of


class Given(zoo.Net):
    """What `configure_optimizers` gives is given."""

    def __init__(self, configure: Callable[[Any], Any]) -> None:
        super().__init__()
        self._configure = configure

    def configure_optimizers(self) -> Any:
        return self._configure(self)


class Settings(pl.Callback):
    """Notes the settings of a fit and ends it."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.found = settings_of(trainer)
        raise zoo.Killed


def settings(make: Any = zoo.Net, seed: int = 1, **trainer: Any) -> dict[str, Any]:
    noted = Settings()
    with pytest.raises(zoo.Killed):
        zoo.fit(make, noted, seed=seed, **{"max_epochs": 2, **trainer})
    return noted.found


def scheduled(make: Callable[[Any], Any], **config: Any) -> Callable[[Any], Any]:
    def configure(module: Any) -> Any:
        optimizer = SGD(module.parameters(), lr=0.1)
        scheduler = {"scheduler": make(optimizer), **config}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    return configure


def decayed(factor: float) -> Callable[[Any], Any]:
    return scheduled(lambda o: LambdaLR(o, lambda epoch: factor**epoch))


def halves(module: Any, first: float = 0.1, split: int = 2) -> Any:
    """Two parameter groups, the first with values of its own."""
    parameters = list(module.parameters())
    groups = [{"params": parameters[:split], "lr": first}, {"params": parameters[split:]}]
    return SGD(groups, lr=0.1)


def warmed_up(o: Any, factor: float = 0.5, gamma: float = 0.9, at: int = 2) -> Any:
    return SequentialLR(o, [LinearLR(o, factor), ExponentialLR(o, gamma)], [at])


def plateau(patience: int) -> Callable[[Any], Any]:
    return scheduled(lambda o: ReduceLROnPlateau(o, patience=patience), monitor="val_loss")


S = "lr_schedulers[0]"
PAIRS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], str]] = {
    "gamma": (
        scheduled(lambda o: StepLR(o, 1, 0.5)),
        scheduled(lambda o: StepLR(o, 1, 0.9)),
        f"{S}.gamma: 0.5 in the run, 0.9 now",
    ),
    "class of a schedule": (
        scheduled(lambda o: StepLR(o, 1)),
        scheduled(lambda o: ExponentialLR(o, 0.1)),
        f"{S}.name: 'StepLR' in the run, 'ExponentialLR' now",
    ),
    "period": (
        scheduled(lambda o: CosineAnnealingLR(o, 3)),
        scheduled(lambda o: CosineAnnealingLR(o, 4)),
        f"{S}.T_max: 3 in the run, 4 now",
    ),
    "milestones": (
        scheduled(lambda o: MultiStepLR(o, [1, 2])),
        scheduled(lambda o: MultiStepLR(o, [1, 3])),
        f"{S}.milestones.3: None in the run, 1 now",
    ),
    "part of a sequence": (
        scheduled(warmed_up),
        scheduled(functools.partial(warmed_up, gamma=0.8)),
        f"{S}.schedulers[1].gamma: 0.9 in the run, 0.8 now",
    ),
    "warm-up": (
        scheduled(warmed_up),
        scheduled(functools.partial(warmed_up, factor=0.1)),
        f"{S}.schedulers[0].start_factor: 0.5 in the run, 0.1 now",
    ),
    "where a sequence goes on": (
        scheduled(warmed_up),
        scheduled(functools.partial(warmed_up, at=3)),
        f"{S}.milestones: [2] in the run, [3] now",
    ),
    "part of a chain": (
        scheduled(lambda o: ChainedScheduler([ExponentialLR(o, 0.9)])),
        scheduled(lambda o: ChainedScheduler([ExponentialLR(o, 0.8)])),
        f"{S}.schedulers[0].gamma: 0.9 in the run, 0.8 now",
    ),
    "cycle": (
        scheduled(lambda o: OneCycleLR(o, 0.2, total_steps=9)),
        scheduled(lambda o: OneCycleLR(o, 0.3, total_steps=9)),
        "optimizers[0].groups[0].max_lr: 0.2 in the run, 0.3 now",
    ),
    "patience": (plateau(1), plateau(2), f"{S}.patience: 1 in the run, 2 now"),
    "value in a function's closure": (decayed(0.9), decayed(0.8), f"{S}.lr_lambdas[0].factor: 0.9 in the run, 0.8 now"),
    "number in a function": (
        scheduled(lambda o: LambdaLR(o, lambda e: 0.9**e)),
        scheduled(lambda o: LambdaLR(o, lambda e: 0.8**e)),
        f"{S}.lr_lambdas[0].constants: [0.9] in the run, [0.8] now",
    ),
    "interval": (
        scheduled(lambda o: StepLR(o, 1)),
        scheduled(lambda o: StepLR(o, 1), interval="step"),
        f"{S}.interval: 'epoch' in the run, 'step' now",
    ),
    "frequency": (
        scheduled(lambda o: StepLR(o, 1)),
        scheduled(lambda o: StepLR(o, 1), frequency=2),
        f"{S}.frequency: 1 in the run, 2 now",
    ),
    "monitor": (
        plateau(1),
        scheduled(lambda o: ReduceLROnPlateau(o, patience=1), monitor="val_acc"),
        f"{S}.monitor: 'val_loss' in the run, 'val_acc' now",
    ),
    "another schedule": (
        lambda m: SGD(m.parameters(), lr=0.1),
        scheduled(lambda o: StepLR(o, 1)),
        f"{S}.name: None in the run, 'StepLR' now",
    ),
    "rate of a group": (
        halves,
        functools.partial(halves, first=0.2),
        "optimizers[0].groups[0].lr: 0.1 in the run, 0.2 now",
    ),
    "parameters of a group": (
        halves,
        functools.partial(halves, split=1),
        "optimizers[0].groups[0].parameters: ['net.0.weight', 'net.0.bias'] in the run, ['net.0.weight'] now",
    ),
    "rate": (
        lambda m: SGD(m.parameters(), lr=0.1),
        lambda m: SGD(m.parameters(), lr=0.2),
        "optimizers[0].lr: 0.1 in the run, 0.2 now",
    ),
    "another optimizer": (
        lambda m: [SGD(m.parameters(), lr=0.1)],
        lambda m: [SGD(m.net[0].parameters(), lr=0.1), SGD(m.net[4].parameters())],
        "optimizers[1].name: None in the run, 'SGD' now",
    ),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_every_argument_of_what_configure_optimizers_gives_is_compared(kind: str) -> None:
    before, now, message = PAIRS[kind]

    def module(configure: Any) -> Any:
        made = Given(configure)
        made.automatic_optimization = kind != "another optimizer"
        return made

    stored = settings(lambda: module(before))
    again = settings(lambda: module(before), seed=2)
    assert json.loads(json.dumps(stored)) == stored
    assert again == stored  # from run to run, whatever the weights are
    found = [str(d) for d in differences(stored, settings(lambda: module(now)))]
    assert message in found


@pytest.mark.parametrize(
    "changed",
    [
        {"val_check_interval": 4},
        {"check_val_every_n_epoch": 2},
        {"limit_val_batches": 1},
        {"limit_test_batches": 1},
        {"overfit_batches": 2},
        {"reload_dataloaders_every_n_epochs": 1},
        {"gradient_clip_val": 0.5},
        {"precision": "bf16-mixed"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_setting_of_the_trainer_that_changes_results_is_compared(changed: dict[str, Any]) -> None:
    (name,) = changed
    found = list(differences(settings(), settings(**changed)))
    assert name in [d.name for d in found if d.matters]


CALLBACKS: list[tuple[list[Any], list[Any], str]] = [
    (
        [EarlyStopping("val_loss", patience=3)],
        [EarlyStopping("val_loss", patience=5)],
        "callbacks[0].patience: 3 in the run, 5 now",
    ),
    ([], [StochasticWeightAveraging(0.1)], "callbacks[0].name: None in the run, 'StochasticWeightAveraging' now"),
    (
        [GradientAccumulationScheduler({1: 2})],
        [GradientAccumulationScheduler({1: 3})],
        "callbacks[0].scheduling.1: 2 in the run, 3 now",
    ),
    ([BackboneFinetuning(3)], [], "callbacks[0].name: 'BackboneFinetuning' in the run, None now"),
]


@pytest.mark.parametrize(("before", "now", "message"), CALLBACKS, ids=range(len(CALLBACKS)))
def test_arguments_of_callbacks_that_change_a_training_are_compared(
    before: list[Any], now: list[Any], message: str
) -> None:
    stored = json.loads(json.dumps(callbacks_of(before)))
    assert message in [str(d) for d in differences(stored, callbacks_of(now))]
    assert not list(differences(stored, callbacks_of(before)))


def callbacks_of(callbacks: list[Any]) -> dict[str, Any]:
    """What settings hold of callbacks; of a fit without them, so that none of them trains."""
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    net = zoo.Net()
    trainer.strategy.connect(net)
    trainer.callbacks = [*trainer.callbacks, *callbacks]
    return settings_of(trainer)


def step(gamma: float) -> Any:
    return functools.partial(zoo.Net, scheduler=lambda o, _: StepLR(o, 1, gamma))


@pytest.mark.parametrize("by_checkpoint", [False, True])
def test_a_run_does_not_go_on_with_another_schedule(by_checkpoint: bool, tmp_path: Path) -> None:
    """Also where Lightning has put the run's own schedule back from `ckpt_path` before the rounds begin."""
    kept = ModelCheckpoint(tmp_path / "kept", save_last=True)
    killed = zoo.KillAt("on_train_batch_end", 13)
    with pytest.raises(zoo.Killed):
        zoo.fit(step(0.5), LotteryTicket(1, dirpath=tmp_path), killed, kept, max_epochs=3)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(StorageError, match=r"\[0\].gamma: 0.5 in the run, 0.9 now") as error:
        zoo.fit(
            step(0.9),
            LotteryTicket(2, dirpath=tmp_path),
            ModelCheckpoint(tmp_path / "kept", save_last=True),
            max_epochs=3,
            ckpt_path=tmp_path / "kept" / "last.ckpt" if by_checkpoint else None,
        )
    assert "optimizers" not in str(error.value)
    after = {p: p.read_bytes() for p in before}
    assert after == {**before, tmp_path / "run.lock": after[tmp_path / "run.lock"]}


def as_an_earlier_version_wrote_it(dirpath: Path) -> None:
    """Settings of a run as they were before parameter groups and schedules were recorded."""
    directory = Directory(dirpath)
    info = directory.read_json(RUN, dict)
    now = info["settings"]
    later = [
        "data_module",
        "limit_val_batches",
        "limit_test_batches",
        "overfit_batches",
        "val_check_interval",
        "check_val_every_n_epoch",
        "reload_dataloaders_every_n_epochs",
        "sync_batchnorm",
        "use_distributed_sampler",
    ]
    old = {name: value for name, value in now.items() if name not in later}
    old["lr_schedulers"] = [scheduler["name"] for scheduler in now["lr_schedulers"]]
    old["optimizers"] = [
        {k: v for k, v in optimizer.items() if k not in ("module", "groups")} for optimizer in now["optimizers"]
    ]
    if "path" in now["hyperparameters"]:
        old["hyperparameters"]["path"] = "pathlib.PosixPath"
    del info["environment"]
    directory.commit({RUN: encode_json({**info, "settings": old})})


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fit(rounds: int, make: Any, **trainer: Any) -> None:
        zoo.fit(make, LotteryTicket(rounds, dirpath=tmp_path), **{"max_epochs": 1, **trainer})

    fit(0, step(0.5))
    as_an_earlier_version_wrote_it(tmp_path)
    capsys.readouterr()
    fit(1, step(0.5))
    assert Run(tmp_path).rounds == [0, 1]
    assert "the bits" not in capsys.readouterr().out  # nobody knows
    with pytest.raises(StorageError, match="'SGD' in the run, 'Adam' now"):
        fit(1, functools.partial(step(0.5), zoo.OPTIMIZERS["adam"]))
    with pytest.raises(StorageError, match="'StepLR' in the run, 'ExponentialLR' now"):
        fit(1, functools.partial(zoo.Net, scheduler=zoo.per_step))


class Configured(zoo.Net):
    """Saves what it is given."""

    def __init__(self, ignore: tuple[str, ...] = (), **given: Any) -> None:
        super().__init__()
        self.save_hyperparameters({k: v for k, v in given.items() if k not in ignore}, logger=False)


def resume(dirpath: Path, rounds: int, **given: Any) -> None:
    make = functools.partial(Configured, **given)
    zoo.fit(
        make, LotteryTicket(rounds, dirpath=dirpath), max_epochs=1, limit_train_batches=1
    )  # fmt: skip


def test_hyperparameters_that_say_where_or_when_are_stored_and_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began, later = (datetime.datetime(2026, 11, day, 14, 0, 3) for day in (28, 29))
    for rounds, root, time in ((0, "/scratch/a", began), (1, "/scratch/b", later)):
        resume(
            tmp_path,
            rounds,
            width=16,
            default_root_dir=root,
            folder=Path(root) / "x",
            logs={"paths": [root, "~/x"], "started": time},
            tag=f"net-{time:%Y-%m-%d_%H-%M-%S}",
        )
    assert Run(tmp_path).rounds == [0, 1]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not compared")]
    assert "hyperparameters.default_root_dir: '/scratch/a' in the run, '/scratch/b' now" in line
    assert "logs.paths[0]" in line and "paths[1]" not in line and "width" not in line
    stored = Run(tmp_path).info.settings.hyperparameters
    assert stored["folder"] == "/scratch/a/x"
    assert stored["logs"]["started"] == "2026-11-28T14:00:03"


def test_a_hyperparameter_can_be_left_out_to_go_on_as_the_error_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resume(tmp_path, 0, comment="first", width=16)
    with pytest.raises(
        StorageError,
        match=r"comment: 'first' in the run, 'second' now[\s\S]*"
        r"the module: self.save_hyperparameters\(ignore=\['comment'\]\)",
    ):
        resume(tmp_path, 1, comment="second", width=16)
    resume(tmp_path, 1, comment="second", width=16, ignore=("comment",))
    assert Run(tmp_path).rounds == [0, 1]
    assert "hyperparameters.comment: 'first' in the run, None now" in capsys.readouterr().out
    with pytest.raises(StorageError, match="width: 16 in the run, 32 now"):
        resume(tmp_path, 2, width=32)


STAMPS = [
    "%Y-%m-%d_%H-%M-%S",
    "%Y-%m-%dT%H:%M:%S.%f+00:00",
    "%Y-%m-%d %H:%M",
    "%Y%m%d-%H%M%S",
    "%Y%m%d%H%M%S",
    "%b%d_%H-%M-%S",
    "logs/run_%Y_%m_%d_%H_%M_%S",
]
TIMES = st.datetimes(datetime.datetime(1990, 1, 1), datetime.datetime(2089, 1, 1))


@given(TIMES, TIMES, st.sampled_from(STAMPS))
def test_any_usual_time_stamp_is_known(then: datetime.datetime, now: datetime.datetime, form: str) -> None:
    found = differences({"x": then.strftime(form)}, {"x": now.strftime(form)})
    assert not any(difference.matters for difference in found)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("resnet18", "resnet50"),
        ("lr0.1_2026-11-28_14-00-03", "lr0.2_2026-11-29_14-00-03"),
        ("2023-12-31", "2024-12-31"),  # may be where data are split
        ("resnet18", "/weights/resnet18.pt"),
        (None, "/weights/resnet18.pt"),
        ([100, 50], [100, 20]),
        ("64-32-16", "64-32-8"),
        (20261128, 20261129),
        ("data/a", "data/b"),
    ],
)
def test_other_values_matter(before: Any, now: Any) -> None:
    assert any(d.matters for d in differences({"x": before}, {"x": now}))


def test_a_new_hyperparameter_and_another_data_module_matter() -> None:
    before = {"hyperparameters": {"a": 1}, "data": {"b": 1}, "data_module": "Digits"}
    now = {"hyperparameters": {"a": 1, "c": 2}, "data": {}, "data_module": None}
    assert [(d.name, d.matters) for d in differences(before, now)] == [
        ("hyperparameters.c", True),
        ("data.b", False),
        ("data_module", True),
    ]


def test_a_resume_where_the_bits_may_differ_says_so_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(rounds: int) -> list[str]:
        zoo.fit(zoo.Net, LotteryTicket(rounds, dirpath=tmp_path), max_epochs=1, limit_train_batches=1)
        return [line for line in capsys.readouterr().out.splitlines() if "the bits" in line]

    assert said(0) == []
    info = Run(tmp_path).info
    assert info.versions["torch"] == torch.__version__
    assert info.environment["threads"] == 1
    assert info.environment["device"] == "cpu"
    assert said(1) == []
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX9")
    monkeypatch.setattr(environment, "_processor", lambda: "abacus")
    (line,) = said(2)
    there = info.environment
    assert f"processor {there['processor']} then, abacus now; CPU capability" in line
    assert line.endswith(f"CPU capability {there['CPU capability']} then, AVX9 now")


def test_a_fit_that_trains_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Such as the later folds of a cross-validation in one directory."""
    for fold in range(2):
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*zoo.data(seed=fold)), 8)
        run = zoo.fit(zoo.Net, LotteryTicket(1, dirpath=tmp_path), loader=loader, max_epochs=1)
        out = " ".join(capsys.readouterr().out.split())
        assert ("nothing was trained: rounds 0 to 1" in out) == (fold == 1)
        assert ("K folds, a dirpath of its own" in out) == (fold == 1)
    zoo.assert_equal(run.lightning_module.state_dict(), Run(tmp_path).weights(1))
