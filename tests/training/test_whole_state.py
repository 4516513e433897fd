"""What a module, its data and its callbacks change while they train belongs to the state: a round starts with it as the
rewind point had it, and a killed run goes on with it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import zoo
from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    OnExceptionCheckpoint,
)
from pytorch_lightning.tuner import Tuner
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler, TensorDataset
from torchmetrics import MaxMetric, MetricTracker
from torchmetrics.classification import MulticlassAccuracy

from lottery import LotteryTicket, Pruning, Rewind, Run

PER_EPOCH, EPOCHS = 8, 3  # batches and epochs of a round


class Annealed(zoo.Net):
    """Lowers a temperature after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / self.temperature

    def on_train_epoch_end(self) -> None:
        self.log("seen", self.temperature)
        self.temperature *= 0.5


class WarmUp(zoo.Net):
    """Sets the weight of its loss when an epoch begins."""

    def on_train_epoch_start(self) -> None:
        self.weight = 0.2 + 0.4 * self.current_epoch

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        self.log("seen", self.weight, on_epoch=True, on_step=False)
        return self.weight * super().training_step(batch, index)


class StartsOver(zoo.Net):
    """Sets a counter when a training starts, which a training that goes on does not."""

    def on_train_start(self) -> None:
        self.steps = torch.zeros(())

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        self.steps += 1
        self.log("seen", self.steps.clone())
        return super().training_step(batch, index) / self.steps.sqrt()


class Best(zoo.Net):
    """Metrics that live over epochs: one from the beginning, one in a tracker, one that is made late."""

    def __init__(self) -> None:
        super().__init__()
        self.accuracy, self.best = MulticlassAccuracy(zoo.CLASSES), MaxMetric()
        self.tracker = MetricTracker(MulticlassAccuracy(zoo.CLASSES))

    def on_validation_epoch_start(self) -> None:
        self.tracker.increment()

    def validation_step(self, batch: Any, index: int) -> None:
        super().validation_step(batch, index)
        predicted = self(batch[0])
        self.accuracy(predicted, batch[1])
        self.tracker.update(predicted, batch[1])

    def on_validation_epoch_end(self) -> None:
        if not hasattr(self, "late"):
            self.late = MaxMetric()
        found = self.accuracy.compute()
        self.accuracy.reset()
        self.best(found), self.late(1 - found)
        self.log("seen", self.best.compute() + 10 * self.late.compute())
        self.log("tracked", self.tracker.compute_all().sum())


class Switching(zoo.Net):
    """Freezes a layer after the first epoch, and lets dropout rest."""

    def on_train_epoch_end(self) -> None:
        first, *_ = [m for m in self.modules() if isinstance(m, nn.Linear)]
        first.weight.requires_grad_(not first.weight.requires_grad)
        for part in self.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0


class Unfrozen(zoo.Net):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(zoo.INPUTS, zoo.INPUTS), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.backbone(x))

    def configure_optimizers(self) -> Any:
        trained = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.SGD(trained, 0.1, momentum=0.9)


class Curriculum(pl.Callback):
    """Raises a weight after each epoch, and keeps what it saw in containers and arrays."""

    def __init__(self) -> None:
        self.weight, self.seen, self.sums = 1.0, [], {"loss": np.zeros(2)}

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * self.weight / (1 + self.sums["loss"][0])

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        self.sums["loss"][0] += float(outputs["loss"])

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.seen.append(self.weight)
        module.log("seen", sum(self.seen))
        self.weight *= 1.5


class Plateau(pl.Callback):
    """Its state is plain at first, and NumPy's after the first validation."""

    best: Any = None

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        loss = np.float64(trainer.callback_metrics["val_loss"].item())
        self.best = loss if self.best is None else min(self.best, loss)

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if self.best is not None:
            module.log("seen", float(self.best))

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = state["best"]


def data(**arguments: Any) -> DataLoader:
    return DataLoader(TensorDataset(*zoo.data()), 8, **arguments)


class Own(Sampler):
    """Shuffles with a generator of its own."""

    def __init__(self, generator: Any) -> None:
        self.random, self.passes = generator, 0

    def __iter__(self) -> Any:
        self.passes += 1
        order = list(range(64))
        if isinstance(self.random, int):  # a seed that counts passes
            random.Random(self.random + self.passes).shuffle(order)
        else:
            self.random.shuffle(order)
        return iter(order)

    def __len__(self) -> int:
        return 64


class Augmented(Dataset):
    """Adds noise from a generator of its own."""

    def __init__(self) -> None:
        self.x, self.y = zoo.data()
        self.random = np.random.default_rng(3)

    def __getitem__(self, index: int) -> Any:
        noise = self.random.normal(size=self.x[index].shape).astype("f4")
        return self.x[index] + torch.from_numpy(noise), self.y[index]

    def __len__(self) -> int:
        return 64


class FrozenStatistics(zoo.Net):
    """Its BatchNorm keeps its statistics in the first epoch: decided before the training, and again in each epoch."""

    def on_fit_start(self) -> None:
        self.net[1].eval()  # type: ignore[index]

    def on_train_epoch_start(self) -> None:
        self.net[1].train(self.current_epoch > 0)  # type: ignore[index]


MODULES: dict[str, tuple[Any, Callable[[], list[Any]]]] = {
    "temperature": (Annealed, list),
    "set when an epoch begins": (WarmUp, list),
    "set when a training starts": (StartsOver, list),
    "metrics over epochs": (Best, list),
    "frozen while training": (Switching, list),
    "callback": (zoo.Net, lambda: [Curriculum()]),
    "two callbacks of a class": (zoo.Net, lambda: [Curriculum(), Curriculum()]),
    "state of NumPy": (zoo.Net, lambda: [Plateau()]),
    "accumulation": (zoo.Net, lambda: [GradientAccumulationScheduler({0: 1, 1: 2, 2: 4})]),
    "groups added": (Unfrozen, lambda: [BackboneFinetuning(1, backbone_initial_lr=0.01, verbose=False)]),
}
LOADERS: dict[str, Callable[[], Any]] = {
    "numpy": lambda: data(sampler=Own(np.random.default_rng(5))),
    "numpy legacy": lambda: data(sampler=Own(np.random.RandomState(5))),
    "python": lambda: data(sampler=Own(random.Random(5))),
    "counter": lambda: data(sampler=Own(7)),
    "augmented": lambda: DataLoader(Augmented(), 8, shuffle=True),
}


def train(
    path: Path,
    make: Any,
    callbacks: list[Any],
    loader: Any = None,
    kill: int | None = None,
    ckpt_path: Path | None = None,
    **ticket: Any,
) -> Run:
    arguments = {"rounds": 1, "pruning": Pruning(0.3, scope="layerwise"), **ticket}
    own = LotteryTicket(dirpath=path, keep="all", save_every="1it", **arguments)
    killers = [] if kill is None else [zoo.KillAt("on_train_batch_start", kill)]
    with contextlib.suppress(zoo.Killed):
        zoo.fit(make, own, *callbacks, *killers, loader=loader, ckpt_path=ckpt_path, max_epochs=EPOCHS)
    return Run(path)


def assert_equal_rounds(one: Run, other: Run) -> None:
    assert one.rounds == other.rounds
    for number in one.rounds:
        zoo.assert_equal(one.weights(number), other.weights(number), f"round {number}")
        zoo.assert_equal(one.records(number), other.records(number), f"round {number}")


INSIDE, BETWEEN = PER_EPOCH + 4, 2 * PER_EPOCH  # where in a run it is killed
IN_THE_NEXT_ROUND = (EPOCHS + 1) * PER_EPOCH + 2


def killed(kinds: Iterable[str]) -> list[Any]:
    """Each kind, killed inside an epoch; slow: at another place as well, the same law."""
    others = itertools.cycle([BETWEEN, IN_THE_NEXT_ROUND])
    return [(kind, INSIDE) for kind in kinds] + [
        pytest.param(kind, kill, marks=pytest.mark.slow) for kind, kill in zip(kinds, others)
    ]


@pytest.mark.parametrize(("kind", "kill"), killed(MODULES))
def test_a_killed_run_goes_on_with_everything_that_training_has_changed(kind: str, kill: int, tmp_path: Path) -> None:
    make, callbacks = MODULES[kind]
    whole = train(tmp_path / "whole", make, callbacks())
    train(tmp_path / "cut", make, callbacks(), kill=kill)
    assert_equal_rounds(train(tmp_path / "cut", make, callbacks()), whole)


class Patience(pl.Callback):
    """Counts in an attribute that its state has too, and trains by it."""

    def __init__(self) -> None:
        self.waited = 0

    def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        self.waited += 1
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = 0.1 / (1 + self.waited)

    def state_dict(self) -> dict[str, Any]:
        return {"waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.waited = state_dict["waited"]


class Course(pl.LightningDataModule):
    """Counts the batches that it gave, in a state of its own, and scales them by it."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def train_dataloader(self) -> Any:
        return data()

    def val_dataloader(self) -> Any:
        return zoo.validation_loader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer.training:
            self.given += 1
        return [batch[0] * (1 + 0.01 * self.given), batch[1]]

    def state_dict(self) -> dict[str, Any]:
        return {"given": self.given}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.given = state_dict["given"]


# without those that Lightning itself cannot load: NumPy's numbers in its pickles, groups that are not there yet
UNLOADABLE = ("callback", "two callbacks of a class", "state of NumPy", "groups added")
FROM_CHECKPOINTS = {
    **{kind: made for kind, made in MODULES.items() if kind not in UNLOADABLE},
    "callback with state": (zoo.Net, lambda: [Patience()]),
    "data module with state": (zoo.Net, list),
}


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        (kind, 3)
        if kind.endswith("with state") or kind == "metrics over epochs"
        else pytest.param(kind, 10, marks=pytest.mark.slow)
        for kind in FROM_CHECKPOINTS
    ],
)
def test_a_checkpoint_of_the_users_goes_on_with_everything_too(kind: str, step: int, tmp_path: Path) -> None:
    """What Lightning has loaded of it before our part begins is not taken for how things were at first."""
    make, callbacks = FROM_CHECKPOINTS[kind]

    def run(path: Path, **arguments: Any) -> Run:
        loader = Course() if kind.startswith("data module") else None
        saved = ModelCheckpoint(path / "saved", "{step}", save_top_k=-1, every_n_train_steps=1)
        return train(path, make, [*callbacks(), saved], loader, **arguments)

    whole = run(tmp_path / "whole")
    run(tmp_path / "cut", kill=2 * PER_EPOCH)
    checkpoint = tmp_path / "cut" / "saved" / f"step={step}.ckpt"
    cut = run(tmp_path / "cut", ckpt_path=checkpoint)
    for number in whole.rounds:
        zoo.assert_equal(cut.weights(number), whole.weights(number), f"round {number}")
    # averages over the epoch that was cut are lost by Lightning's own checkpoints
    zoo.assert_equal(cut.records(1), whole.records(1))


def test_a_checkpoint_of_the_kill_changes_nothing_of_what_was_set_before(tmp_path: Path) -> None:
    """Lightning loads it unasked, before the hooks that set things for a fit."""

    def run(path: Path, kill: int | None = None) -> Run:
        saved = OnExceptionCheckpoint(path / "saved")
        return train(path, FrozenStatistics, [saved], kill=kill)

    run(tmp_path / "cut", kill=4)
    assert list((tmp_path / "cut" / "saved").iterdir())
    assert_equal_rounds(run(tmp_path / "cut"), run(tmp_path / "whole"))


class Growing(pl.LightningDataModule):
    """Gives more batches every time that it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 2

    def train_dataloader(self) -> Any:
        self.batches += 1
        return zoo.BatchLoader(*zoo.data(8 * self.batches), batch_size=8)

    def val_dataloader(self) -> Any:
        return zoo.validation_loader()


def test_loaders_that_are_asked_for_early_are_not_asked_for_twice(tmp_path: Path) -> None:
    """Before the rounds begin, for `estimated_stepping_batches`, as OneCycleLR needs it."""
    make = functools.partial(zoo.Net, zoo.OPTIMIZERS["sgd"], zoo.one_cycle)
    whole = train(tmp_path / "whole", make, [], Growing())
    assert [whole.summary(n).steps for n in whole.rounds] == [EPOCHS * 3] * 2
    train(tmp_path / "cut", make, [], Growing(), kill=5)
    assert_equal_rounds(train(tmp_path / "cut", make, [], Growing()), whole)


@pytest.mark.parametrize("kind", MODULES)
def test_each_round_starts_as_the_first_did(kind: str, tmp_path: Path) -> None:
    make, callbacks = MODULES[kind]
    run = train(tmp_path, make, callbacks(), rounds=2)
    counted = [[row["seen"] for row in run.records(n) if "seen" in row] for n in run.rounds]
    if kind in ("temperature", "set when an epoch begins", "set when a training starts"):
        assert counted[0] and counted == [counted[0]] * 3
    assert len({run.summary(n).steps for n in run.rounds}) == 1


@pytest.mark.parametrize("rewind", ["11it", pytest.param("1ep", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "kind",
    [
        kind
        if kind in ("temperature", "metrics over epochs", "accumulation")
        else pytest.param(kind, marks=pytest.mark.slow)
        for kind in MODULES
    ],
)
def test_a_round_goes_on_from_what_the_rewind_point_had(kind: str, rewind: str, tmp_path: Path) -> None:
    make, callbacks = MODULES[kind]
    whole = train(tmp_path / "whole", make, callbacks(), rewind=rewind)
    kill = EPOCHS * PER_EPOCH + 5
    train(tmp_path / "cut", make, callbacks(), kill=kill, rewind=rewind)
    assert_equal_rounds(train(tmp_path / "cut", make, callbacks(), rewind=rewind), whole)
    assert whole.summary(0).steps == whole.summary(1).steps
    if kind == "temperature":
        first, second = ([row["seen"] for row in whole.records(n)] for n in (0, 1))
        assert second == first[1:]


@pytest.mark.parametrize(("kind", "kill"), killed(LOADERS))
def test_data_with_generators_of_their_own_go_on_where_they_were(kind: str, kill: int, tmp_path: Path) -> None:
    loader = LOADERS[kind]
    whole = train(tmp_path / "whole", zoo.Net, [], loader())
    train(tmp_path / "cut", zoo.Net, [], loader(), kill=kill)
    assert_equal_rounds(train(tmp_path / "cut", zoo.Net, [], loader()), whole)


class Tunable(zoo.Net):
    def __init__(self) -> None:
        super().__init__()
        self.lr, self.batch_size = 0.1, 8

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), self.lr)

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(*zoo.data()), self.batch_size)

    val_dataloader = train_dataloader


def quiet(path: Path, *callbacks: Any) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LotteryTicket(1, dirpath=path / "run"), *callbacks],
        default_root_dir=path,
    )


def test_tuners_run_plainly_and_leave_no_run_behind(tmp_path: Path) -> None:
    Tuner(quiet(tmp_path)).lr_find(Tunable(), num_training=10)
    Tuner(quiet(tmp_path)).scale_batch_size(Tunable(), max_trials=1)
    assert not (tmp_path / "run" / "manifest.json").exists()
    quiet(tmp_path).fit(Tunable())
    assert Run(tmp_path / "run").rounds == [0, 1]


@pytest.mark.parametrize(
    "finder",
    [lambda: LearningRateFinder(num_training_steps=10), lambda: BatchSizeFinder(max_trials=1)],
    ids=["rate", "batch size"],
)
def test_a_tuner_may_come_before_the_rounds(finder: Any, tmp_path: Path) -> None:
    quiet(tmp_path, finder()).fit(Tunable())
    assert Run(tmp_path / "run").rounds == [0, 1]
    assert Run(tmp_path / "run").summary(1).epochs == 2


class Cached(zoo.Net):
    """Keeps a table for the longest input so far; test data are longer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.empty(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(self.table) < x.shape[0]:
            self.table = torch.arange(x.shape[0]).cos()
        return super().forward(x) * self.table[: x.shape[0], None]

    def test_step(self, batch: Any, index: int) -> None:
        self.log("test_loss", super().training_step(batch, index))

    def test_dataloader(self) -> Any:
        return DataLoader(TensorDataset(*zoo.data()), 32)


def test_test_passes_leave_nothing_in_modules_that_cache(tmp_path: Path) -> None:
    tested = train(tmp_path / "a", Cached, [], test_each_round=True)
    plain = train(tmp_path / "b", Cached, [])
    for number in (0, 1):
        zoo.assert_equal(tested.weights(number), plain.weights(number))


class Holder(zoo.Net):
    """Checkpoints of it hold objects, as those of forecasting and chemistry packages do."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = {"classes": np.array(["a", "b"], dtype=object)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["encoder"], checkpoint["loss"] = self.encoder, nn.MSELoss()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.encoder = checkpoint["encoder"]
        assert isinstance(checkpoint["loss"], nn.MSELoss)


def test_checkpoints_that_hold_objects_take_them_from_the_live_module(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", Holder, [], rewind="5it")
    train(tmp_path / "cut", Holder, [], kill=30, rewind="5it")
    assert_equal_rounds(train(tmp_path / "cut", Holder, [], rewind="5it"), whole)
    torch.load(tmp_path / "cut" / "rewind.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("settings", "ticket", "named"),
    [
        ({"max_epochs": 0}, {}, "max_epochs=0"),
        ({"max_steps": 0}, {}, "max_steps=0"),
        ({"limit_train_batches": 0}, {}, "limit_train_batches=0"),
        ({}, {"rewind": "24it"}, "24it"),
        ({}, {"rewind": "2ep9it"}, "2ep9it"),
        ({"max_epochs": -1, "max_steps": 20}, {"rewind": "9ep"}, "9ep"),
    ],
)
def test_what_no_round_can_do_is_refused_before_anything_is_written(
    settings: dict[str, Any], ticket: dict[str, Any], named: str, tmp_path: Path
) -> None:
    own = LotteryTicket(1, dirpath=tmp_path, **ticket)
    with pytest.raises(ValueError, match=named):
        zoo.fit(zoo.Net, own, loader=data(), **{"max_epochs": EPOCHS, **settings})
    assert not (tmp_path / "manifest.json").exists()


class Cosine(zoo.Net):
    floor = 0.0

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR
        return [optimizer], [schedule(optimizer, EPOCHS, self.floor)]


def test_fine_tuning_at_a_learning_rate_of_zero_is_refused(tmp_path: Path) -> None:
    rewind = Rewind(rule="fine-tune", length="1ep")
    with pytest.raises(ValueError, match="eta_min"):
        train(tmp_path, Cosine, [], rewind=rewind)
    assert not (tmp_path / "manifest.json").exists()
    floored = type("Floored", (Cosine,), {"floor": 0.01})
    assert train(tmp_path, floored, [], rewind=rewind).rounds == [0, 1]


def test_persistent_workers_are_refused_with_a_rewind_point_inside_an_epoch(tmp_path: Path) -> None:
    loader = data(num_workers=1, persistent_workers=True)
    with pytest.raises(ValueError, match="persistent_workers=False"):
        train(tmp_path, zoo.Net, [], loader, rewind="3it")
    assert not (tmp_path / "manifest.json").exists()


class Mapped(zoo.Net):
    """Batches are mappings, as Hugging Face's are."""

    def mapped(self) -> DataLoader:
        x, y = zoo.data()
        rows = [{"x": a, "y": b} for a, b in zip(x, y, strict=True)]
        return DataLoader(rows, 8)  # type: ignore[arg-type]

    train_dataloader = val_dataloader = mapped

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self(batch["x"]), batch["y"])

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", self.training_step(batch, index))


class Whole(Mapped):
    """`forward` takes the whole mapping, by position."""

    def forward(self, batch: Any) -> torch.Tensor:  # type: ignore[override]
        return self.net(batch["x"] if isinstance(batch, dict) else batch)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self(batch), batch["y"])


class Hidden(Mapped):
    """What it computes is hidden from torch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.from_numpy(x.numpy().copy())).to(float)[0]


@pytest.mark.parametrize("make", [Mapped, Whole])
def test_batches_that_are_mappings_are_followed(make: Any, tmp_path: Path) -> None:
    for pruning in ({"structure": "channel"}, {"score": "synflow"} if make is Mapped else {}):
        path = tmp_path / "-".join(pruning)
        own = LotteryTicket(1, Pruning(0.2, **pruning), dirpath=path)  # type: ignore[arg-type]
        trainer = quiet(tmp_path)
        trainer.callbacks = [own]
        trainer.fit(make())
        assert Run(path).connectivity()["on a path"].notna().all()


def test_what_cannot_be_followed_is_refused_in_the_first_step(tmp_path: Path) -> None:
    class Tokens(Mapped):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, zoo.INPUTS)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(self.embedding(x.abs().long().clamp(max=4)).mean(1))

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            batch = {**batch, "x": batch["x"].long()}
            return super().training_step(batch, index)

    own = LotteryTicket(1, Pruning(0.2, score="synflow"), dirpath=tmp_path / "run")
    trainer = quiet(tmp_path)
    trainer.callbacks = [own]
    with pytest.raises(ValueError, match="nothing was trained"):
        trainer.fit(Tokens())
    assert trainer.global_step == 0 and not (tmp_path / "run" / "run.json").exists()


class Renormed(Cached):
    """Its passes write into its tensors: rows are renormalized, and evaluations are counted in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(4, zoo.INPUTS, max_norm=0.1)
        self.register_buffer("evaluated", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            self.evaluated = self.evaluated + 1
        return super().forward(x + self.rows(x[:, 0].long() % 4))


@pytest.mark.parametrize("test_each_round", [False, True])
def test_evaluations_of_our_own_leave_nothing_in_tensors(test_each_round: bool, tmp_path: Path) -> None:
    plain = zoo.fit(Renormed, max_epochs=2).lightning_module
    ticket = LotteryTicket(0, dirpath=tmp_path, test_each_round=test_each_round)
    ours = zoo.fit(Renormed, ticket, max_epochs=2).lightning_module
    zoo.assert_equal(ours.state_dict(), plain.state_dict())


class Bank(zoo.Net):
    """A buffer that grows with every batch, and one that the first batch makes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bank", torch.zeros(0, zoo.CLASSES))
        self.register_buffer("mean", None)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.mean is None:
            self.mean = batch[0].mean().detach()
        self.bank = torch.cat([self.bank, self(batch[0]).detach()])
        return super().training_step(batch, batch_idx) + self.bank.mean() * self.mean


class HeldOptimizer(zoo.Net):
    """A part with an optimizer and a schedule that the module steps by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(zoo.CLASSES, zoo.CLASSES)
        self.aux = torch.optim.SGD(self.head.parameters(), 0.05, momentum=0.9)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.aux, 0.9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(super().forward(x))

    def on_train_batch_end(self, *_: Any) -> None:
        self.aux.step()
        self.aux.zero_grad()
        self.schedule.step()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net.parameters(), 0.05, momentum=0.9)


class Hooked(zoo.Net):
    """Registers a hook when a training starts, and never takes it back."""

    def on_train_start(self) -> None:
        self.net[0].register_forward_hook(lambda module, args, out: out * 1.1)


class CountsSavings(zoo.Net):
    """Trains by how often it was asked what to save."""

    asked = 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.asked += 1

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return super().training_step(batch, batch_idx) * (1 + 0.1 * self.asked)


class ComesAndGoes(zoo.Net):
    """A buffer of the state dict that training takes away, and one that it registers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("first", torch.zeros(1))

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1 and hasattr(self, "first"):
            del self.first
            self.register_buffer("second", torch.ones(2))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        kept = self.first if hasattr(self, "first") else self.second
        kept += 0.1
        return super().training_step(batch, batch_idx) * (1 + kept.sum())


class Swaps(zoo.Net):
    """Takes another optimizer, with a schedule of its own, in the second epoch."""

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            adam = torch.optim.Adam(self.parameters(), 1e-2)
            self.trainer.optimizers = [adam]
            self.schedule = torch.optim.lr_scheduler.StepLR(adam, 3)

    def on_train_batch_end(self, *_: Any) -> None:
        if self.current_epoch == 1:
            self.schedule.step()


class HeldInAList(zoo.Net):
    """Steps an optimizer that nobody knows of but itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.held: list[torch.optim.Optimizer] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        if not self.held:
            self.held.append(torch.optim.Adam(self.parameters(), 1e-2))
        self.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        self.held[0].step()

    def configure_optimizers(self) -> None:
        return None


class ReadsGradients(zoo.Net):
    """Adds the norm of the last step's gradients to its loss."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        found = [p.grad.norm() for p in self.parameters() if p.grad is not None]
        return super().training_step(batch, batch_idx) * (1 + 0.1 * sum(found))


class ValidatesOnSome(zoo.Net):
    """Validates on batches that its loader draws with a generator of its own."""

    def val_dataloader(self) -> Any:
        own = torch.Generator().manual_seed(3)
        x = TensorDataset(*zoo.data(24, 1))
        return DataLoader(x, 8, sampler=RandomSampler(x, num_samples=8, generator=own))


@pytest.mark.parametrize(
    "make",
    [
        *(Bank, HeldOptimizer, Hooked, CountsSavings, ComesAndGoes, Swaps),
        *(HeldInAList, ReadsGradients, ValidatesOnSome),
    ],
)
def test_what_training_adds_to_a_module_is_gone_when_a_round_begins(make: Any, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", make, [])
    for place, kill in (("first", 5), ("second", EPOCHS * PER_EPOCH + 11)):
        train(tmp_path / place, make, [], kill=kill)
        assert_equal_rounds(train(tmp_path / place, make, []), whole)


class NeedsTraining(zoo.Net):
    """Its validation cannot run before a training: it compares with what a training step has kept."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen = batch[0].mean(0)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("distance", (batch[0] - self.seen).norm())
        super().validation_step(batch, batch_idx)


class SetInForward(zoo.Net):
    """A buffer that is None until the first batch comes, in whatever pass."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", None, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.mean is None:
            self.mean = x.mean(0)
        return super().forward(x - self.mean)


@pytest.mark.parametrize("make", [NeedsTraining, SetInForward])
def test_an_evaluation_before_training_fails_and_leaves_nothing(make: Any, tmp_path: Path) -> None:
    plain = zoo.fit(make, max_epochs=2).lightning_module
    ours = zoo.fit(make, LotteryTicket(0, dirpath=tmp_path / "none"), max_epochs=2)
    zoo.assert_equal(ours.lightning_module.state_dict(), plain.state_dict())


def test_a_run_without_an_evaluation_before_training_resumes(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", NeedsTraining, [])
    assert "distance" in whole.records(1)[-1] and not whole.summary(0).start
    train(tmp_path / "cut", NeedsTraining, [], kill=PER_EPOCH + 4)
    assert_equal_rounds(train(tmp_path / "cut", NeedsTraining, []), whole)


class Timer(pl.Callback):
    """A user's own, called as one of Lightning's."""


class EarlyStopping(pl.Callback):
    """Another."""


@pytest.mark.parametrize("kind", [Timer, EarlyStopping])
def test_callbacks_that_are_called_like_lightnings_are_not_taken_for_them(kind: Any, tmp_path: Path) -> None:
    assert train(tmp_path, zoo.Net, [kind()]).rounds == [0, 1]


class Taught(zoo.Net):
    """Learns from an average of itself, kept by name in a plain attribute."""

    def on_fit_start(self) -> None:
        self.teacher = {n: p.detach().clone() for n, p in self.named_parameters()}

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        taught = torch.func.functional_call(self, self.teacher, batch[0]).detach()
        loss = super().training_step(batch, batch_idx)
        return loss + (self(batch[0]) - taught).square().mean()

    def on_train_batch_end(self, *_: Any) -> None:
        for name, parameter in self.named_parameters():
            self.teacher[name].lerp_(parameter.detach(), 0.3)


def test_how_often_it_is_saved_has_no_part_in_copies_that_are_masked(tmp_path: Path) -> None:
    runs = []
    for every in ("1it", "3it", 3600):
        ticket = LotteryTicket(
            2, 0.4, rewind="3it", dirpath=tmp_path / f"{every}", save_every=every, keep="all"
        )  # fmt: skip
        zoo.fit(Taught, ticket, max_epochs=2)
        runs.append(Run(tmp_path / f"{every}"))
    assert_equal_rounds(runs[1], runs[0])
    assert_equal_rounds(runs[2], runs[0])
    train(tmp_path / "cut", Taught, [], kill=(EPOCHS + 1) * PER_EPOCH + 2)
    cut = train(tmp_path / "cut", Taught, [])
    assert_equal_rounds(cut, train(tmp_path / "whole", Taught, []))
