"""What goes wrong gets one clear error, as early as it can be known, and loses nothing."""

from __future__ import annotations

import functools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import zoo
from pytorch_lightning.callbacks import EarlyStopping
from resealed import reseal
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lottery import LotteryTicket, Masks, Pruning, Rewind, Run, StorageError, Ticket

NEVER_TRAINED = functools.partial(zoo.KillAt, "on_train_batch_start", 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rounds": -1}, "rounds=-1"),
        ({"rounds": 2.5}, "rounds=2.5"),
        ({"pruning": 0.0}, "amount=0.0 must be a fraction between 0 and 1"),
        ({"pruning": 1}, "amount=1 must be"),
        ({"pruning": [0.5, 0.7]}, "must fall"),
        ({"rounds": 3, "pruning": [0.5, 0.3]}, "only 2 densities"),
        ({"rewind": "soon"}, "'soon' is not a step.*500it"),
        ({"keep": "some"}, "keep='some'"),
        ({"mode": "up"}, "mode='up'"),
        ({"save_every": "1ep5it"}, "save_every"),
        ({"save_every": -1}, "save_every=-1"),
        ({"save_every": None}, "save_every=None"),
        ({"seed": "1"}, "seed='1'"),
        ({"seed": -1}, "seed=-1"),
        ({"dirpath": ""}, "dirpath=''"),
    ],
)
def test_a_wrong_argument_is_refused_when_it_is_given(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LotteryTicket(**arguments)


@pytest.mark.parametrize(
    ("ticket", "settings", "message"),
    [
        ({"pruning": Pruning(include=["convolution*"])}, {}, "matches no parameter.*net.0.weight"),
        ({"pruning": Pruning(exclude=["head"])}, {}, "matches no parameter.*net.0.weight"),
        ({"pruning": Pruning(groups={"output": 0.1})}, {}, "groups='output' matches no parameter"),
        ({"rewind": "3ep"}, {"max_epochs": 3}, "rewind='3ep' is not before the end of a round"),
        ({"rewind": "30it"}, {"max_epochs": -1, "max_steps": 20}, "rewind='30it' is not before the end"),
        ({"rewind": Rewind(rule="fine-tune", length="9ep")}, {"max_epochs": 3}, "longer than the round"),
        ({"rewind": Rewind(rule="fine-tune", length="9it")}, {"max_epochs": 3}, "needs a Trainer with max_steps"),
        ({"snapshots": ["2it", "99it"]}, {}, "snapshots='99it' is never reached"),
        ({"test_each_round": True}, {}, "test_each_round=True"),
        ({"ticket": Ticket(Masks({"other.weight": torch.ones(2, 2) > 0}), {})}, {}, "other.weight: not in the module"),
        ({"ticket": Ticket(Masks({"net.0.weight": torch.ones(2, 2) > 0}), {})}, {}, r"\(2, 2\) in the ticket"),
    ],
)
def test_what_cannot_work_is_refused_before_training(
    ticket: dict[str, Any], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        zoo.fit(
            zoo.Net,
            LotteryTicket(2, **{**ticket, "dirpath": tmp_path / "run"}),
            NEVER_TRAINED(),
            **{"max_epochs": 3, **settings},
        )
    assert not (tmp_path / "run" / "manifest.json").exists()


class WithGraph(zoo.Net):
    """Keeps a graph as a sparse buffer."""

    def __init__(self, persistent: bool) -> None:
        super().__init__()
        graph = torch.eye(zoo.INPUTS).to_sparse()
        self.register_buffer("graph", graph, persistent=persistent)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.sparse.mm(self.graph.to(x.dtype), x.T).T)


def test_a_sparse_buffer_is_refused_by_name_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"graph cannot be stored.*persistent=False"):
        zoo.fit(
            lambda: WithGraph(persistent=True), LotteryTicket(1, dirpath=tmp_path / "a"), NEVER_TRAINED(), max_epochs=1
        )
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["run.lock"]
    ticket = LotteryTicket(1, dirpath=tmp_path / "b")
    zoo.fit(lambda: WithGraph(persistent=False), ticket, max_epochs=1)
    assert Run(tmp_path / "b").rounds == [0, 1]


def test_data_that_lack_the_batches_of_a_killed_epoch_are_named(tmp_path: Path) -> None:
    def fit(batches: int, *callbacks: Any) -> None:
        ticket = LotteryTicket(1, dirpath=tmp_path, save_every="1it")
        data = TensorDataset(*zoo.data(8 * batches))
        loader = DataLoader(data, batch_size=8)
        zoo.fit(zoo.Net, ticket, *callbacks, loader=loader, max_epochs=1)

    with pytest.raises(zoo.Killed):
        fit(6, zoo.KillAt("on_train_batch_end", 4))
    with pytest.raises(ValueError, match="after 4 batches of an epoch.* have 2"):
        fit(2)
    fit(6)


def test_a_module_with_nothing_prunable_is_refused(tmp_path: Path) -> None:
    class Flat(zoo.Net):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.BatchNorm1d(zoo.INPUTS)

    with pytest.raises(ValueError, match=r"Flat has nothing prunable.*net.weight.*include"):
        zoo.fit(Flat, LotteryTicket(2, dirpath=tmp_path), NEVER_TRAINED(), max_epochs=1)


def test_other_settings_in_the_same_directory_are_refused_and_shown(tmp_path: Path) -> None:
    zoo.fit(zoo.Net, LotteryTicket(1, dirpath=tmp_path, keep="all"), max_epochs=2)
    before = zoo.contents(tmp_path)
    others: list[tuple[dict[str, Any], dict[str, Any], Any, str]] = [
        ({"pruning": 0.3}, {}, zoo.Net, r"pruning.amount: 0.2 in the run, 0.3 now"),
        ({"rewind": "1ep"}, {}, zoo.Net, r"rewind.to: 'init' in the run, '1ep' now"),
        ({}, {"max_epochs": 3}, zoo.Net, r"max_epochs: 2 in the run, 3 now"),
        ({}, {"seed": 2}, zoo.Net, r"seed_everything: '1' in the run, '2' now"),
        ({}, {}, functools.partial(zoo.Net, zoo.OPTIMIZERS["adam"]), r"'SGD' in the run, 'Adam' now"),
        ({}, {}, zoo.Recurrent, r"module: 'Net' in the run, 'Recurrent' now"),
    ]
    for ticket, settings, make, message in others:
        with pytest.raises(StorageError, match=message):
            arguments = {"rounds": 2, "dirpath": tmp_path, "keep": "all", **ticket}
            zoo.fit(make, LotteryTicket(**arguments), NEVER_TRAINED(), **{"max_epochs": 2, **settings})
    zoo.assert_equal(zoo.contents(tmp_path), before)


def test_a_metric_that_is_never_logged_is_named_after_the_first_epoch(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"monitor='val_akk' was not logged.*'val_acc'"):
        zoo.fit(zoo.Net, LotteryTicket(2, dirpath=tmp_path, monitor="val_akk"), max_epochs=50)


def test_a_rewind_point_that_early_stopping_cuts_off_is_named(tmp_path: Path) -> None:
    stop = EarlyStopping("val_loss", patience=0, min_delta=10.0)
    with pytest.raises(StorageError, match=r"rewind='20ep' was never reached.*Round 0 is stored"):
        zoo.fit(zoo.Net, LotteryTicket(2, rewind="20ep", dirpath=tmp_path), stop, max_epochs=30)
    assert Run(tmp_path).rounds == [0]


class Broken(zoo.Net):
    """Its last layer becomes NaN in round 0."""

    def on_train_end(self) -> None:
        with torch.no_grad():
            self.net[4].weight[0, 0] = float("nan")


def test_nan_weights_stop_the_run_with_the_layers_name(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"round 0 diverged: NaN or infinite are 1 of the 48 weights of net.4.weight.*lottery retry",
    ):
        zoo.fit(Broken, LotteryTicket(2, dirpath=tmp_path), max_epochs=1)
    assert Run(tmp_path).rounds == []


def test_a_layer_that_would_be_emptied_stops_the_run_with_its_name(tmp_path: Path) -> None:
    class Weak(zoo.Net):
        def __init__(self) -> None:
            super().__init__(lambda p: torch.optim.SGD(p, lr=1e-6))
            nn.init.constant_(self.net[4].weight, 1e-6)

    with pytest.raises(ValueError, match=r"round 2 would remove the last weights of net.4.weight"):
        zoo.fit(Weak, LotteryTicket(5, 0.15, dirpath=tmp_path), max_epochs=1)
    assert Run(tmp_path).rounds == [0, 1]
    allowed = LotteryTicket(3, Pruning(0.15, collapse="warn"), dirpath=tmp_path / "allowed")
    zoo.fit(Weak, allowed, max_epochs=1)
    assert Run(tmp_path / "allowed").rounds == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("pruning", "message"),
    [
        ({"structure": "2:5"}, r"2:5.*that 5 divides; net.0.weight has shape \(16, 12\)"),
        ({"include": ["*.bias", "*.weight"], "scope": "erk"}, r"net.0.bias has shape \(16,\)"),
        ({"scope": "layerwise", "densities": {"net.0.*": [0.5]}}, r"densities has no pattern for \['net.4.weight'\]"),
        ({"scope": "layerwise", "densities": {"out": [0.5], "*": [0.5]}}, "densities='out' matches no parameter"),
        (
            {"scope": "layerwise", "densities": [0.01]},
            "density of round 1 would leave 0 of the 48 weights of net.4.weight",
        ),
        ({"densities": [0.004]}, "round 1 would leave 1 of the 240 weights of net.0.weight, net.4.weight"),
    ],
)
def test_pruning_that_cannot_be_done_is_refused_before_training(
    pruning: dict[str, Any], message: str, tmp_path: Path
) -> None:
    ticket = LotteryTicket(1, Pruning(**pruning), dirpath=tmp_path / "run")
    with pytest.raises(ValueError, match=f"(?s){message}"):
        zoo.fit(zoo.Net, ticket, NEVER_TRAINED(), max_epochs=1)
    assert not (tmp_path / "run" / "manifest.json").exists()


@pytest.mark.parametrize("weights", ["trained", "start"])
def test_a_loss_is_not_to_be_had_from_manual_optimization(weights: str, tmp_path: Path) -> None:
    ticket = LotteryTicket(1, Pruning(score="snip", weights=weights), dirpath=tmp_path / "run")
    with pytest.raises(ValueError, match="(?s)TwoOptimizers optimizes manually.*'magnitude'"):
        zoo.fit(zoo.TwoOptimizers, ticket, NEVER_TRAINED(), max_epochs=1)
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_scores_of_a_function_that_do_not_fit_are_named(tmp_path: Path) -> None:
    def flat(context: Any) -> dict[str, torch.Tensor]:
        return {n: w.flatten() for n, w in context.weights.items()}

    with pytest.raises(
        ValueError,
        match=r"(?s)'flat' does not fit.*net.0.weight: scores of shape \(192,\), weights of shape \(16, 12\)"
        r".*net.4.weight.*What is finished is stored",
    ):
        zoo.fit(
            zoo.Net, LotteryTicket(1, Pruning(score=flat), dirpath=tmp_path), max_epochs=1
        )  # fmt: skip
    assert Run(tmp_path).rounds == [0]


def test_a_training_step_that_gives_no_loss_is_named(tmp_path: Path) -> None:
    class Skips(zoo.Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None

    ticket = LotteryTicket(1, Pruning(score="snip"), dirpath=tmp_path)
    with pytest.raises(ValueError, match="training_step of Skips gave None, and so no loss, for each"):
        zoo.fit(Skips, ticket, max_epochs=1)


class Once(torch.autograd.Function):
    """The identity, with a first derivative alone."""

    @staticmethod
    def forward(ctx: Any, x: Any, backwards: int = 0) -> Any:
        ctx.backwards = backwards
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        if ctx.backwards:
            raise NotImplementedError("derivative of the derivative is not implemented")
        return Once.apply(grad, 1), None


class NoSecondDerivative(zoo.Net):
    def forward(self, x: Any) -> Any:
        return Once.apply(self.net(x))


class Squared(zoo.Net):
    """Trains on no cross entropy."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self(batch[0]).square().mean()


@pytest.mark.parametrize(
    ("make", "score", "message"),
    [
        (NoSecondDerivative, "grasp", "the score 'grasp' cannot be had: derivative of the derivative"),
        (Squared, {"name": "grasp", "temperature": 200.0}, "temperature=200 divides logits, and the loss of Squared"),
        (zoo.Attention, "wanda", "wanda scores"),
    ],
)
def test_a_score_that_cannot_be_had_is_refused_in_the_first_step(
    make: Any, score: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}.*first training step; nothing was trained"):
        zoo.fit(make, LotteryTicket(1, Pruning(score=score), dirpath=tmp_path), max_epochs=1)
    assert not (tmp_path / "run.json").exists()


def test_with_another_score_a_run_begins_where_one_was_refused_in_its_first_step(tmp_path: Path) -> None:
    ticket = functools.partial(LotteryTicket, dirpath=tmp_path, save_every="1it")
    with pytest.raises(ValueError, match="nothing was trained"):
        zoo.fit(Squared, ticket(1, Pruning(score={"name": "grasp", "temperature": 2.0})), max_epochs=1)
    with pytest.raises(zoo.Killed):
        zoo.fit(Squared, ticket(1, Pruning(score="magnitude")), zoo.KillAt("on_train_batch_end", 3), max_epochs=1)
    with pytest.raises(StorageError, match="holds a run with other settings"):  # there is something to lose
        zoo.fit(Squared, ticket(1, Pruning(score="random")), max_epochs=1)
    with pytest.raises(StorageError, match="holds a run with other settings"):
        zoo.fit(Squared, ticket(1, Pruning(score={"name": "grasp", "temperature": 2.0})), max_epochs=1)
    assert (tmp_path / "last.ckpt").exists()


@pytest.mark.parametrize("name", ["last.ckpt", "rewind.ckpt", "masks/01.safetensors", "run.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_a_damaged_file_is_named_with_the_way_out(name: str, damage: str, tmp_path: Path) -> None:
    if (name, damage) == ("last.ckpt", "missing"):
        damage = "empty"  # without it, the round rightly starts over
    ticket = functools.partial(LotteryTicket, 2, dirpath=tmp_path, save_every="1it")
    n = 3 if name == "last.ckpt" else 8  # inside round 0, or at the first batch of round 1 before it is saved
    with pytest.raises(zoo.Killed):
        zoo.fit(zoo.Net, ticket(), zoo.KillAt("on_train_batch_end", n), max_epochs=1)
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        data[len(data) // 2] ^= 255
        path.write_bytes(data)
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"")
    with pytest.raises(StorageError, match=Path(name).name):
        zoo.fit(zoo.Net, ticket(), NEVER_TRAINED(), max_epochs=1)


@pytest.mark.parametrize("name", ["last.ckpt", "rewind.ckpt"])
@pytest.mark.parametrize("other", ["of another run", "of Lightning", "a list"])
def test_a_state_that_is_not_of_the_run_is_refused(name: str, other: str, tmp_path: Path) -> None:
    def fit(path: Path, *callbacks: Any) -> None:
        ticket = LotteryTicket(1, Pruning(0.3), "2it", path, save_every="1it", seed=len(path.name))
        zoo.fit(zoo.Net, ticket, *callbacks, max_epochs=1)

    # inside round 0, or at the first batch of round 1 before it is saved
    n = 3 if name == "last.ckpt" else 8
    for path in (tmp_path / "one", tmp_path / "another"):
        with pytest.raises(zoo.Killed):
            fit(path, zoo.KillAt("on_train_batch_end", n))
    if other == "of another run":
        shutil.copy(tmp_path / "another" / name, tmp_path / "one" / name)
    elif other == "of Lightning":
        found = torch.load(tmp_path / "one" / name, weights_only=True)
        torch.save({**found, "callbacks": {}}, tmp_path / "one" / name)
    else:
        torch.save([1], tmp_path / "one" / name)
    reseal(tmp_path / "one")
    with pytest.raises(StorageError, match=f"{name} is (of|no)"):
        fit(tmp_path / "one", NEVER_TRAINED())


def test_a_directory_that_lost_its_manifest_is_not_overwritten(tmp_path: Path) -> None:
    zoo.fit(zoo.Net, LotteryTicket(1, dirpath=tmp_path), max_epochs=1)
    before = {
        p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p.name not in ("manifest.json", "run.lock")
    }
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(StorageError, match="manifest.json is missing"):
        zoo.fit(zoo.Net, LotteryTicket(1, dirpath=tmp_path), max_epochs=1)
    assert all(path.read_bytes() == data for path, data in before.items())


def test_state_that_cannot_be_stored_safely_is_refused_and_the_state_before_is_kept(tmp_path: Path) -> None:
    class Odd(pl.Callback):
        found: Any = None

        def on_validation_end(self, *_: Any) -> None:
            self.found = object()

        def state_dict(self) -> dict[str, Any]:
            return {"found": self.found}

    ticket = LotteryTicket(1, dirpath=tmp_path, save_every="1it")
    with pytest.raises(TypeError, match=r"Odd'\]\['found'\] .object."):
        zoo.fit(zoo.Net, ticket, Odd(), max_epochs=2)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 7  # before the first validation
    again = LotteryTicket(1, dirpath=tmp_path, save_every="1it")
    zoo.fit(zoo.Net, again, max_epochs=2)
    assert Run(tmp_path).rounds == [0, 1]


def test_hyperparameters_of_any_kind_are_no_hindrance(tmp_path: Path) -> None:
    class Configured(zoo.Net):
        def __init__(self, path: Path, width: int) -> None:
            super().__init__()
            self.save_hyperparameters()

    zoo.fit(functools.partial(Configured, Path("x"), 3), LotteryTicket(1, dirpath=tmp_path), max_epochs=1)
    stored = torch.load(tmp_path / "rewind.ckpt", weights_only=True)["hyper_parameters"]
    assert stored == {"width": 3}
    assert "path" in json.loads((tmp_path / "run.json").read_text())["settings"]["hyperparameters"]


def test_two_tickets_in_one_trainer_are_refused(tmp_path: Path) -> None:
    with pytest.raises((ValueError, RuntimeError), match="one LotteryTicket|state_key"):
        zoo.fit(zoo.Net, LotteryTicket(1, dirpath=tmp_path), LotteryTicket(1, dirpath=tmp_path / "b"), max_epochs=1)


def test_a_fast_dev_run_leaves_the_run_directory_alone(tmp_path: Path) -> None:
    zoo.fit(zoo.Net, LotteryTicket(2, dirpath=tmp_path / "run"), fast_dev_run=True)
    assert not (tmp_path / "run").exists()


def test_a_run_stays_where_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the script goes to another directory while it trains, and the way to the run's is relative."""

    class GoesAway(pl.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            os.chdir(tmp_path / "elsewhere")

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    zoo.fit(zoo.Net, LotteryTicket(1, dirpath="run"), GoesAway(), max_epochs=1)
    assert Run(tmp_path / "run").rounds == [0, 1]
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_run_is_read_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative ways and ~ mean to a reader what they mean to the fit."""
    monkeypatch.setenv("HOME", str(tmp_path))
    zoo.fit(zoo.Net, LotteryTicket(1, dirpath="~/run"), max_epochs=1)
    assert Run("~/run").rounds == [0, 1]
    monkeypatch.chdir(tmp_path)
    run = Run("run")
    monkeypatch.chdir("/")
    assert run.rounds == [0, 1] and run.ticket(1).density < 1


@pytest.mark.parametrize("name", ["manifest.json", "rewind.ckpt"])
def test_a_reader_names_the_file_that_is_missing(name: str, tmp_path: Path) -> None:
    zoo.fit(zoo.Net, LotteryTicket(1, dirpath=tmp_path), max_epochs=1)
    (tmp_path / name).unlink()
    with pytest.raises(StorageError, match=f"{name} is missing"):
        Run(tmp_path).weights("rewind")


def test_a_run_directory_can_be_moved(tmp_path: Path) -> None:
    zoo.fit(zoo.Net, LotteryTicket(1, dirpath=tmp_path / "a", keep="all"), max_epochs=1)
    shutil.move(tmp_path / "a", tmp_path / "b")
    zoo.fit(zoo.Net, LotteryTicket(2, dirpath=tmp_path / "b", keep="all"), max_epochs=1)
    assert Run(tmp_path / "b").rounds == [0, 1, 2]
