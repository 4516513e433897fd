"""A run that is stopped anywhere and started again equals one that never stopped."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import torchmetrics
import zoo
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lottery import LotteryTicket, Pruning, Rewind, Run, StorageError

LAYERWISE = Pruning(0.3, scope="layerwise")


def killed(
    hook: str,
    n: int,
    make: Any,
    ticket: Callable[[], LotteryTicket],
    callbacks: Callable[[], list[Any]] = list,
    loader: Callable[[], Any] = zoo.shuffled_loader,
    **settings: Any,
) -> None:
    """Run until the n-th call of a hook; then nothing of the process is left but its files."""
    with pytest.raises(zoo.Killed):
        zoo.fit(make, ticket(), *callbacks(), zoo.KillAt(hook, n), loader=loader(), **settings)


def assert_resumes(
    tmp_path: Path,
    make: Any,
    kills: list[tuple[str, int]],
    *,
    callbacks: Callable[[], list[Any]] = list,
    loader: Callable[[], Any] = zoo.shuffled_loader,
    ticket: dict[str, Any] | None = None,
    save_every: Any = "1it",
    **settings: Any,
) -> None:
    arguments = {"rounds": 2, "pruning": LAYERWISE, "keep": "all", "save_every": save_every, **(ticket or {})}
    whole = LotteryTicket(dirpath=tmp_path / "whole", **arguments)
    zoo.fit(make, whole, *callbacks(), loader=loader(), **settings)
    again = functools.partial(LotteryTicket, dirpath=tmp_path / "again", **arguments)
    for hook, n in kills:
        killed(hook, n, make, again, callbacks, loader, **settings)
    # a new process starts from other streams and other weights: all must come from the files
    zoo.fit(make, again(), *callbacks(), loader=loader(), seed=1, **settings)
    zoo.assert_equal(zoo.contents(tmp_path / "again"), zoo.contents(tmp_path / "whole"))


# over all rounds; a round of "plain" has 24 batches and 3 epochs; slow: other places, the same law
KILLS = [
    pytest.param([("on_train_batch_end", 5)], marks=pytest.mark.slow),
    [("on_train_batch_end", 30), ("on_train_batch_start", 14)],
    pytest.param([("on_validation_end", 4), ("on_train_epoch_end", 2)], marks=pytest.mark.slow),
]


@pytest.mark.parametrize("kills", KILLS, ids=str)
@pytest.mark.parametrize(
    "feature",
    [pytest.param(f, marks=[pytest.mark.slow] * (f not in ("plain", "early stopping"))) for f in zoo.FEATURES],
)  # slow: settings that the quick part of tests/conformance tries as well
def test_a_killed_run_resumes_bit_for_bit(feature: str, kills: list[tuple[str, int]], tmp_path: Path) -> None:
    settings, callbacks = zoo.FEATURES[feature]
    make = functools.partial(zoo.Net, zoo.OPTIMIZERS["adam"])
    if feature in ("max_steps", "bf16", "early stopping", "max_time", "sanity check", "validation inside epochs"):
        kills = [(hook, min(n, 20 if "batch" in hook else 3)) for hook, n in kills]
    if feature == "limited batches":
        kills = [(hook, min(n, 12)) for hook, n in kills]
    assert_resumes(tmp_path, make, kills, callbacks=callbacks, **settings)


class Apart(zoo.Net):
    """Its training step does not call it, its validation does."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self.net(batch["inputs"]), batch["targets"])


def test_what_a_validation_gives_the_module_is_no_example_of_a_batch(tmp_path: Path) -> None:
    """Or a run that is killed before one would know less of its network."""

    def loader() -> Any:
        batches = zip(*(t.split(8) for t in zoo.data()), strict=True)
        batches = [{"inputs": x, "targets": y} for x, y in batches]
        return DataLoader(batches, batch_size=None)

    kills = [("on_train_epoch_end", 1), ("on_train_start", 1)]
    assert_resumes(tmp_path, Apart, kills, loader=loader, max_epochs=2)


class Buffered(IterableDataset):
    """Shuffles in a buffer, with draws from torch's global stream or a generator of its own."""

    def __init__(self, generator: torch.Generator | None) -> None:
        self.generator = generator

    def __iter__(self) -> Any:
        buffer: list[Any] = []
        for sample in [*zip(*zoo.data(), strict=True), *[None] * 24]:
            buffer += [sample] if sample is not None else []
            if len(buffer) == 24 or (sample is None and buffer):
                drawn = torch.randint(len(buffer), (), generator=self.generator)
                yield buffer.pop(int(drawn))


def test_a_data_set_that_shuffles_in_a_buffer_resumes_with_a_generator_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def loader() -> Any:
        return DataLoader(Buffered(torch.Generator().manual_seed(3)), 8)

    kills = [("on_train_batch_end", 4), ("on_train_batch_end", 22)]
    assert_resumes(tmp_path, zoo.Net, kills, loader=loader, max_epochs=2)
    assert "Buffered" not in capsys.readouterr().out


def test_a_data_set_that_shares_its_draws_with_training_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ticket = functools.partial(LotteryTicket, 0, dirpath=tmp_path, save_every="1it")
    shared = functools.partial(DataLoader, Buffered(None), 8)
    killed("on_train_batch_end", 4, zoo.Net, ticket, loader=shared, max_epochs=1)
    assert "Buffered" not in capsys.readouterr().out
    zoo.fit(zoo.Net, ticket(), loader=shared(), max_epochs=1)
    told = " ".join(capsys.readouterr().out.split())
    assert "Buffered draws from torch's global stream" in told
    assert "Give it a generator of its own" in told


class Draws(pl.Callback):
    """Draws from the streams that order the data, in one hook."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, self.draw)

    def draw(self, trainer: Any, *_: Any) -> None:
        loaders = trainer.fit_loop._combined_loader.flattened
        for generator in (None, *(loader.generator for loader in loaders)):
            torch.rand(3, generator=generator)


@pytest.mark.parametrize("n", [2, pytest.param(34, marks=pytest.mark.slow)])
@pytest.mark.parametrize("loader", [zoo.shuffled_loader, zoo.generator_loader])
@pytest.mark.parametrize("hook", ["on_train_start", "on_train_epoch_start", "on_train_batch_start"])
def test_samplers_that_draw_late_resume(hook: str, loader: Callable[[], Any], n: int, tmp_path: Path) -> None:
    """An order is drawn with the first batch: what hooks draw before it counts."""
    assert_resumes(
        tmp_path, zoo.Net, [("on_train_batch_end", n)], callbacks=lambda: [Draws(hook)], loader=loader, max_epochs=2
    )


@pytest.mark.parametrize("rewind", ["init", "1ep", "11it"])
def test_each_round_has_a_folder_for_its_checkpoints_after_kills_too(rewind: str, tmp_path: Path) -> None:
    """Folders are where the ModelCheckpoint of this process puts them."""

    def run(folder: str, *callbacks: Any) -> set[str]:
        checkpoints = ModelCheckpoint(tmp_path / folder, "{epoch}", save_top_k=-1)
        ticket = LotteryTicket(2, rewind=rewind, dirpath=tmp_path / "run")
        with contextlib.suppress(zoo.Killed):
            zoo.fit(zoo.Net, ticket, checkpoints, *callbacks, max_epochs=2)
        files = (tmp_path / folder).rglob("*.ckpt")
        return {str(path.relative_to(tmp_path / folder)) for path in files}

    last = "epoch=1.ckpt"
    in_round_1 = run("first", zoo.KillAt("on_train_epoch_end", 3 - (rewind != "init")))
    assert in_round_1 >= {"epoch=0.ckpt", last}
    rest = run("second")
    assert {f"round-01/{last}", f"round-02/{last}"} <= rest
    assert {path.partition("/")[0] for path in rest} == {"round-01", "round-02"}


# each of both; conformance tries pairs
@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "scheduler"), zip(itertools.cycle(zoo.OPTIMIZERS), zoo.SCHEDULERS))
def test_a_killed_run_resumes_with_any_schedule(optimizer: str, scheduler: str, tmp_path: Path) -> None:
    make = functools.partial(zoo.Net, zoo.OPTIMIZERS[optimizer], zoo.SCHEDULERS[scheduler])
    assert_resumes(tmp_path, make, [("on_train_batch_end", 13), ("on_train_batch_end", 20)], max_epochs=3)


# slow: modules whose training steps and state are as those of another
MOST_UNLIKE = {"Lazy", "Recurrent", "SparseEmbedding", "Tied", "TwoOptimizers"}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind not in MOST_UNLIKE)) for kind in zoo.ANY_MODULE]
)
def test_a_killed_run_resumes_for_any_module(kind: str, tmp_path: Path) -> None:
    kills = [("on_train_batch_end", 13), ("on_train_batch_end", 9)]
    assert_resumes(tmp_path, zoo.ANY_MODULE[kind], kills, max_epochs=2)


@pytest.mark.parametrize("loader", [zoo.ordered_loader, zoo.shuffled_loader, zoo.generator_loader])
@pytest.mark.parametrize(
    "rewind", ["3it", *(pytest.param(r, marks=pytest.mark.slow) for r in ("init", "11it", "1ep"))]
)  # slow: the same law at other points
def test_a_killed_run_resumes_with_any_rewind_point_and_loader(
    rewind: str, loader: Callable[[], Any], tmp_path: Path
) -> None:
    kills = [("on_train_batch_end", 13), ("on_train_batch_end", 20)]
    assert_resumes(tmp_path, zoo.Net, kills, loader=loader, ticket={"rewind": rewind}, max_epochs=3)


@pytest.mark.parametrize(
    "rewind",
    [
        Rewind("1ep", rule="learning-rate"),
        *(
            pytest.param(rewind, marks=pytest.mark.slow)
            for rewind in (
                Rewind("5it", optimizer="fresh"),
                Rewind("1ep", optimizer="keep"),
                Rewind(rule="fine-tune", length="1ep"),
            )
        ),
    ],
    ids=str,
)
def test_a_killed_run_resumes_with_any_retraining_rule(rewind: Rewind, tmp_path: Path) -> None:
    make = functools.partial(zoo.Net, scheduler=zoo.per_step)
    kills = [("on_train_batch_end", 26), ("on_train_batch_end", 9)]
    assert_resumes(tmp_path, make, kills, ticket={"rewind": rewind}, max_epochs=3)


def test_a_killed_run_resumes_on_endless_data(tmp_path: Path) -> None:
    settings = {"max_epochs": -1, "max_steps": 15, "val_check_interval": 5}
    kills = [("on_train_batch_end", 7), ("on_train_batch_end", 12)]
    assert_resumes(tmp_path, zoo.Net, kills, loader=zoo.endless_loader, **settings)


@pytest.mark.parametrize("save_every", ["5it", *(pytest.param(s, marks=pytest.mark.slow) for s in (1e9, "1ep", 0))])
def test_a_killed_run_resumes_however_often_it_is_saved(save_every: Any, tmp_path: Path) -> None:
    kills = [("on_train_batch_end", 13), ("on_train_batch_end", 20), ("on_train_epoch_end", 1)]
    assert_resumes(tmp_path, zoo.Net, kills, save_every=save_every, max_epochs=3)


class Metered(zoo.Net):
    """Logs metric objects that add up over an epoch, and watches one of them."""

    def __init__(self) -> None:
        super().__init__(scheduler=watch_training)
        self.accuracy = torchmetrics.MeanMetric()

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        self.accuracy(loss.detach())
        self.log("metered", self.accuracy, on_step=False, on_epoch=True)
        self.log("largest", loss.detach(), on_step=False, on_epoch=True, reduce_fx="max")
        return loss


def watch_training(optimizer: Any, _: Any) -> Any:
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.3)
    return {"scheduler": scheduler, "monitor": "train_loss_epoch"}


def test_averages_of_a_cut_epoch_are_whole_after_resuming(tmp_path: Path) -> None:
    kills = [("on_train_batch_end", 5), ("on_train_batch_end", 12)]
    assert_resumes(tmp_path, Metered, kills, max_epochs=3, check_val_every_n_epoch=2)
    assert "metered" in Run(tmp_path / "again").records(1)[0]


class Sparing(zoo.Net):
    """Logs a value at the first batch of each epoch only."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        if batch_idx == 0:
            self.log("rare", loss.detach(), on_step=False, on_epoch=True)
        return loss


def test_sums_of_a_cut_epoch_do_not_reach_the_next(tmp_path: Path) -> None:
    def ticket(name: str) -> LotteryTicket:
        return LotteryTicket(0, dirpath=tmp_path / name, save_every="1it")

    zoo.fit(Sparing, ticket("whole"), max_epochs=2)
    with pytest.raises(zoo.Killed):
        kill = zoo.KillAt("on_train_batch_end", 5)
        zoo.fit(Sparing, ticket("again"), kill, max_epochs=2)
    zoo.fit(Sparing, ticket("again"), max_epochs=2)
    whole, again = (Run(tmp_path / name).records(0) for name in ("whole", "again"))
    assert again[1]["rare"] == whole[1]["rare"]


def test_tests_of_each_round_are_the_same_after_resuming(tmp_path: Path) -> None:
    def fit(dirpath: Path, *more: Any) -> None:
        ticket = LotteryTicket(
            2, dirpath=dirpath, monitor="val_acc", test_each_round=True, save_every="1it", keep="all"
        )
        pl.seed_everything(1, verbose=False)
        module = zoo.Net()
        module.test_dataloader = zoo.validation_loader
        zoo.trainer(ticket, *more, max_epochs=3).fit(module, zoo.shuffled_loader(), zoo.validation_loader())

    fit(tmp_path / "whole")
    for n in (10, 20):
        with pytest.raises(zoo.Killed):
            fit(tmp_path / "again", zoo.KillAt("on_train_batch_end", n))
    fit(tmp_path / "again")
    zoo.assert_equal(zoo.contents(tmp_path / "again"), zoo.contents(tmp_path / "whole"))
    assert set(Run(tmp_path / "whole").summary(2).test_best) == {"test_acc"}


def test_a_finished_run_goes_on_with_more_rounds(tmp_path: Path) -> None:
    for rounds in (1, 3):
        zoo.fit(zoo.Net, LotteryTicket(rounds, dirpath=tmp_path / "grown", keep="all"), max_epochs=2)
    zoo.fit(zoo.Net, LotteryTicket(3, dirpath=tmp_path / "whole", keep="all"), max_epochs=2)
    zoo.assert_equal(zoo.contents(tmp_path / "grown"), zoo.contents(tmp_path / "whole"))


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    zoo.fit(zoo.Net, LotteryTicket(2, dirpath=tmp_path), max_epochs=2)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    again = zoo.fit(zoo.Net, LotteryTicket(2, dirpath=tmp_path), zoo.KillAt("on_train_batch_start", 0), max_epochs=2)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")} == before
    zoo.assert_equal(again.lightning_module.state_dict(), Run(tmp_path).weights(2))


def test_a_lightning_checkpoint_of_any_round_resumes_it(tmp_path: Path) -> None:
    """Saved by ModelCheckpoint at the end of epochs, in rounds 0 and 1; passed as ckpt_path."""
    whole = LotteryTicket(2, dirpath=tmp_path / "whole", keep="all")
    zoo.fit(zoo.Net, whole, loader=zoo.shuffled_loader(), max_epochs=3)
    for n, folder in ((12, ""), (36, "round-01")):
        dirpath = tmp_path / f"again-{n}"
        saver = functools.partial(ModelCheckpoint, tmp_path / f"ckpts-{n}", save_top_k=-1, filename="{epoch}")
        ticket = functools.partial(LotteryTicket, 2, dirpath=dirpath, keep="all", save_every=1e9)
        with pytest.raises(zoo.Killed):
            kill = zoo.KillAt("on_train_batch_end", n)
            zoo.fit(zoo.Net, ticket(), saver(), kill, loader=zoo.shuffled_loader(), max_epochs=3)
        checkpoint = tmp_path / f"ckpts-{n}" / folder / "epoch=0.ckpt"
        zoo.fit(zoo.Net, ticket(), saver(), loader=zoo.shuffled_loader(), ckpt_path=checkpoint, max_epochs=3)
        found, expected = zoo.contents(dirpath), zoo.contents(tmp_path / "whole")
        zoo.assert_equal(found, expected)
        for part in ("", "round-01", "round-02"):
            names = {path.name for path in (tmp_path / f"ckpts-{n}" / part).glob("*.ckpt")}
            assert {name for name in names if "-v" not in name} == {f"epoch={e}.ckpt" for e in range(3)}, part


def test_the_runs_own_checkpoint_resumes_it_inside_an_epoch(tmp_path: Path) -> None:
    ticket = functools.partial(LotteryTicket, 2, dirpath=tmp_path / "again", keep="all", save_every="1it")
    killed("on_train_batch_end", 37, zoo.Net, ticket, max_epochs=3)
    last = tmp_path / "again" / "last.ckpt"
    zoo.fit(zoo.Net, ticket(), loader=zoo.shuffled_loader(), ckpt_path=last, max_epochs=3)
    whole = LotteryTicket(2, dirpath=tmp_path / "whole", keep="all")
    zoo.fit(zoo.Net, whole, loader=zoo.shuffled_loader(), max_epochs=3)
    zoo.assert_equal(zoo.contents(tmp_path / "again"), zoo.contents(tmp_path / "whole"))


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        saver = ModelCheckpoint(tmp_path / f"{name}-ckpts", filename="{epoch}")
        zoo.fit(zoo.Net, LotteryTicket(1, dirpath=tmp_path / name), saver, max_epochs=2)
    foreign = next((tmp_path / "b-ckpts" / "round-01").glob("*.ckpt"))
    with pytest.raises(StorageError, match="belongs to run"):
        zoo.fit(zoo.Net, LotteryTicket(2, dirpath=tmp_path / "a"), ckpt_path=foreign, max_epochs=2)
    with pytest.raises(StorageError, match="dirpath of that run"):
        zoo.fit(zoo.Net, LotteryTicket(2, dirpath=tmp_path / "new"), ckpt_path=foreign, max_epochs=2)
    zoo.fit(zoo.Net, max_epochs=1).save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.raises(StorageError, match="a training without LotteryTicket"):
        zoo.fit(zoo.Net, LotteryTicket(2, dirpath=tmp_path / "new"), ckpt_path=tmp_path / "plain.ckpt", max_epochs=2)


def test_max_time_bounds_the_whole_run_and_more_time_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    elapsed = [0.0]

    class Slow(pl.Callback):
        """Every batch takes a second, on a clock that nothing else moves."""

        def on_train_batch_start(self, *_: Any) -> None:
            elapsed[0] = float(next(clock))

    monkeypatch.setattr(time, "monotonic", lambda: elapsed[0])
    ticket = functools.partial(LotteryTicket, 2, dirpath=tmp_path / "again", keep="all", save_every="1it")
    zoo.fit(zoo.Net, ticket(), Slow(), loader=zoo.shuffled_loader(), max_epochs=3, max_time="00:00:00:40")
    assert Run(tmp_path / "again").rounds == [0]
    assert Run(tmp_path / "again").in_progress == 1
    zoo.fit(zoo.Net, ticket(), Slow(), loader=zoo.shuffled_loader(), max_epochs=3, max_time="00:01:00:00")
    whole = LotteryTicket(2, dirpath=tmp_path / "whole", keep="all")
    zoo.fit(zoo.Net, whole, loader=zoo.shuffled_loader(), max_epochs=3)
    zoo.assert_equal(zoo.contents(tmp_path / "again"), zoo.contents(tmp_path / "whole"))


def test_workers_of_a_data_loader_are_no_hindrance(tmp_path: Path) -> None:
    def loader() -> DataLoader:
        return DataLoader(TensorDataset(*zoo.data()), batch_size=8, shuffle=True, num_workers=1)

    assert_resumes(tmp_path, zoo.Net, [("on_train_batch_end", 21)], loader=loader, max_epochs=2)


@pytest.mark.parametrize("rewind", ["init", "2it", "1ep"])
def test_a_run_that_grows_is_the_run_that_had_all_its_rounds_at_once(rewind: str, tmp_path: Path) -> None:
    """Its default seed too, which is of the moment when round 0 began."""

    def fit(rounds: int, name: str) -> None:
        ticket = LotteryTicket(rounds, 0.3, rewind, tmp_path / name, keep="all")
        zoo.fit(zoo.Net, ticket, loader=zoo.shuffled_loader(), max_epochs=2)

    for rounds in (0, 2):
        fit(rounds, "grown")
    fit(2, "whole")
    zoo.assert_equal(zoo.contents(tmp_path / "grown"), zoo.contents(tmp_path / "whole"))
