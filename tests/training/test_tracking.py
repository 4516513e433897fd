"""What the user's loggers see of a run."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.loggers.logger import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from lottery import LotteryTicket, Pruning, Run
from lottery.foundations import streams
from lottery.training.tracking.board import AXIS, LAYERS, axis_step, run_name
from lottery.training.tracking.images import SIDE, mask_image

ROUNDS = 2
SETTINGS: dict[str, Any] = {"max_epochs": 2, "log_every_n_steps": 2}


class Rows(Logger):
    """A logger of a user's: keeps the rows that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []
        self.hyperparameters: dict[str, Any] = {}

    name = version = "rows"

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.hyperparameters.update(params)


class Showing(zoo.Net):
    """Writes to its TensorBoard itself, and has hyperparameters."""

    def __init__(self, width: int = 7, **more: Any) -> None:
        super().__init__(**more)
        self.save_hyperparameters("width")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        image = torch.zeros(1, 4, 4)
        self.logger.experiment.add_image("mine", image, self.trainer.global_step)


def ticket(tmp_path: Path, rounds: int = ROUNDS, **more: Any) -> LotteryTicket:
    settings = {"monitor": "val_acc", "dirpath": tmp_path / "run"}
    return LotteryTicket(rounds, **{**settings, **more})


def fit(logger: Any, *callbacks: Any, make: Any = zoo.Net, **changes: Any) -> Any:
    data = zoo.shuffled_loader()
    return zoo.fit(make, *callbacks, loader=data, logger=logger, **{**SETTINGS, **changes})


def board(tmp_path: Path, version: int = 0) -> TensorBoardLogger:
    return TensorBoardLogger(tmp_path, name="", version=version)


def runs(tmp_path: Path, version: int = 0) -> dict[str, EventAccumulator]:
    """The runs that TensorBoard shows, by name."""
    base = tmp_path / f"version_{version}"
    found = {}
    for path in sorted({file.parent for file in base.rglob("events.*")}):
        found[str(path.relative_to(base))] = EventAccumulator(str(path)).Reload()
    return found


def series(run: EventAccumulator, tag: str) -> dict[int, float]:
    found = pairs(run, tag)
    assert len(dict(found)) == len(found), f"{tag} repeats a step: {found}"
    return dict(found)


def pairs(run: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    """Steps and values as drawn; Lightning itself draws some values several times at one step, as "epoch"."""
    found = [(event.step, event.value) for event in run.Scalars(tag)]
    steps = [step for step, _ in found]
    assert steps == sorted(steps), f"{tag} goes back: {steps}"
    return found


def table(tmp_path: Path, version: int = 0) -> list[dict[str, str]]:
    with open(tmp_path / f"version_{version}" / "metrics.csv") as file:
        return list(csv.DictReader(file))


def test_rows_of_other_loggers_have_round_and_density_and_steps_that_never_go_back(tmp_path: Path) -> None:
    rows, lists = Rows(), CSVLogger(tmp_path, name="", version=0)
    fit([rows, lists], ticket(tmp_path), LearningRateMonitor("step"))
    run = Run(tmp_path / "run")
    density = {r: run.summary(r).density for r in run.rounds}
    read = [(int(row["step"]), int(row["round"]), float(row["density"])) for row in table(tmp_path)]
    seen = [(step, row["round"], row["density"]) for step, row in rows.rows]
    assert read == seen
    steps, rounds, densities = zip(*seen, strict=True)
    assert list(steps) == sorted(steps) and set(rounds) == set(density)
    assert list(densities) == [density[r] for r in rounds]
    # the same batches of every round lie 16 steps apart
    assert [s for s, r, _ in seen if r == 1] == [s + 16 for s, r, _ in seen if r == 0]


@pytest.mark.parametrize("hook, n", [("on_train_batch_end", 21), ("on_train_end", 0)])
def test_rows_are_equal_after_a_kill(hook: str, n: int, tmp_path: Path) -> None:
    whole = Rows()
    fit(whole, ticket(tmp_path / "whole"))
    first, second = Rows(), Rows()
    with pytest.raises(zoo.Killed):
        fit(first, ticket(tmp_path, save_every="3it"), zoo.KillAt(hook, n))
    fit(second, ticket(tmp_path, save_every="3it"))
    resumed_at = second.rows[0][0]
    assert resumed_at is not None and 0 < resumed_at < 32
    kept = [row for row in first.rows if row[0] < resumed_at]  # type: ignore[operator]
    zoo.assert_equal(kept + second.rows, whole.rows)


def test_manual_optimization_with_rare_steps_does_not_turn_steps_back(tmp_path: Path) -> None:
    class Rare(zoo.Net):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            loss = torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
            self.manual_backward(loss)
            if batch_idx % 4 == 3:
                self.optimizers().step()
                self.optimizers().zero_grad()
            self.log("train_loss", loss)

    rows = Rows()
    fit(rows, ticket(tmp_path), make=Rare)
    steps = [step for step, _ in rows.rows]
    assert steps == sorted(steps) and steps[-1] == 3 * 16 - 1  # type: ignore[type-var]


def test_rows_without_a_step_have_none_and_the_users_own_columns_stay(tmp_path: Path) -> None:
    class Logs(pl.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            trainer.logger.log_metrics({"round": -1.0, "mine": 1.0})

    rows = Rows()
    fit(rows, ticket(tmp_path), Logs())
    mine = [(step, row) for step, row in rows.rows if "mine" in row]
    assert len(mine) == 3
    assert all(step is None and row["round"] == -1.0 for step, row in mine)
    assert mine[0][1]["density"] == 1.0


def test_the_settings_are_logged_beside_the_users_hyperparameters(tmp_path: Path) -> None:
    class Hyper(zoo.Net):
        def __init__(self, width: int = 7) -> None:
            super().__init__()
            self.save_hyperparameters()

    rows, boards = Rows(), board(tmp_path)
    pruning = Pruning(0.3, scope="layerwise", groups={"net.4.weight": 0.1})
    fit([rows, boards], ticket(tmp_path, pruning=pruning, seed=5), make=Hyper)
    for found in (rows.hyperparameters, boards.hparams):
        assert found["width"] == 7 and found["lottery/rounds"] == ROUNDS
        assert found["lottery/pruning/groups/net.4.weight"] == 0.1
        assert found["lottery/rewind/to"] == "init" and found["lottery/seed"] == 5
    written = (tmp_path / "version_0/hparams.yaml").read_text()
    assert "width: 7" in written and "lottery/pruning/amount: 0.3" in written


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Run, Path]:
    """A finished run, as TensorBoard shows it, and as it is stored."""
    base = tmp_path_factory.mktemp("shown")
    callbacks = ticket(base), ModelCheckpoint()
    fit(board(base), *callbacks, make=Showing, num_sanity_val_steps=1)
    return runs(base), Run(base / "run"), base / "version_0"


def test_each_round_is_a_run_of_tensorboard_over_the_same_steps(shown: Any) -> None:
    found, run, _ = shown
    names = [run_name(r, run.summary(r).density) for r in run.rounds]
    assert list(found) == [".", *names, "summary"]
    for round, name in enumerate(names):
        assert list(series(found[name], "train_loss_step")) == [*range(1, 16, 2)]
        logged = series(found[name], "val_acc")
        assert list(logged) == [7, 15]
        noted = [row["val_acc"] for row in run.records(round)]
        assert list(logged.values()) == pytest.approx(noted)
        images = found[name].Tags()["images"]
        assert sorted(images) == ["masks/net.0.weight", "masks/net.4.weight", "mine"]
        assert {event.step for event in found[name].Images("mine")} == {8, 16}
    # the sanity check came before any round
    assert {event.step for event in found["."].Images("mine")} == {0}


def test_the_summary_shows_metrics_and_layers_over_density(shown: Any) -> None:
    found, run, _ = shown
    summaries = [run.summary(r) for r in run.rounds]
    steps = [axis_step(summary) for summary in summaries]
    assert steps[0] == 0 and steps[1] == 32  # 0.8 is 32 hundredths of a halving
    best = series(found["summary"], f"{AXIS}/best val_acc")
    assert list(best) == steps
    assert list(best.values()) == pytest.approx([summary.best["val_acc"] for summary in summaries])
    kept = series(found["summary"], f"{AXIS}/weights kept")
    on_a_path = series(found["summary"], f"{AXIS}/weights on a path")
    dead = series(found["summary"], f"{AXIS}/dead units")
    connectivity = run.connectivity()
    assert list(on_a_path.values()) == pytest.approx(list(connectivity["on a path"] * run.summary(0).prunable))
    assert list(dead.values()) == list(connectivity["dead units"])
    assert list(kept.values()) == [summary.kept for summary in summaries]
    layer = series(found["summary"], f"{LAYERS}/net.0.weight")
    assert list(layer.values()) == pytest.approx([summary.densities["net.0.weight"] for summary in summaries])
    # each round's own run holds its point of the line, which is what HPARAMS shows
    for summary, step in zip(summaries, steps, strict=True):
        own = found[run_name(summary.round, summary.density)]
        tag = f"{AXIS}/start val_acc"
        assert series(own, tag) == {step: series(found["summary"], tag)[step]}


def hparams(run: EventAccumulator) -> dict[str, HParamsPluginData]:
    """What the HPARAMS tab is told by a run."""
    try:
        told = run.PluginTagToContent("hparams")
    except KeyError:  # nothing
        return {}
    return {tag.rpartition("/")[2]: HParamsPluginData.FromString(content) for tag, content in told.items()}


def hyperparameters(run: EventAccumulator) -> dict[str, Any]:
    started = hparams(run)["session_start_info"].session_start_info.hparams
    return {k: v.number_value or v.string_value for k, v in started.items()}


def test_hparams_have_a_session_per_round_with_its_density(shown: Any) -> None:
    found, run, _ = shown
    for name in found:
        assert ("session_start_info" in hparams(found[name])) == ("round" in name)
    for summary in map(run.summary, run.rounds):
        own = found[run_name(summary.round, summary.density)]
        values = hyperparameters(own)
        assert values["round"] == (summary.round or "")  # protobuf's zero
        assert values["density"] == summary.density
        assert values["width"] == 7 and values["lottery/pruning/amount"] == 0.2
        experiment = hparams(own)["experiment"].experiment
        metrics = {m.name.tag: m.display_name for m in experiment.metric_infos}
        assert metrics[f"{AXIS}/best val_acc"] == "best val_acc"
        assert set(metrics) <= set(own.Tags()["scalars"])


def test_a_resumed_run_shows_no_step_twice(tmp_path: Path) -> None:
    fit(board(tmp_path / "whole"), ticket(tmp_path / "whole"))
    arguments = {"save_every": "5it"}  # so that steps after the saved one are lost
    for hook, n in (("on_train_batch_end", 12), ("on_train_batch_end", 26)):
        with pytest.raises(zoo.Killed):
            fit(board(tmp_path), ticket(tmp_path, **arguments), zoo.KillAt(hook, n))
    fit(board(tmp_path), ticket(tmp_path, **arguments))
    expected, found = runs(tmp_path / "whole"), runs(tmp_path)
    assert list(found) == list(expected)
    for name, run in expected.items():
        assert found[name].Tags()["scalars"] == run.Tags()["scalars"]
        for tag in run.Tags()["scalars"]:
            assert pairs(found[name], tag) == pairs(run, tag), (name, tag)


@pytest.mark.parametrize("rounds", [ROUNDS, ROUNDS + 1])
def test_a_run_that_goes_on_elsewhere_shows_all_rounds_there(rounds: int, tmp_path: Path) -> None:
    """Also where nothing is left to train."""
    fit(board(tmp_path), ticket(tmp_path))
    fit(board(tmp_path, 1), ticket(tmp_path, rounds))
    before, after = runs(tmp_path), runs(tmp_path, 1)
    assert list(before)[1:-1] == list(after)[1 : ROUNDS + 2]
    assert len(after) == rounds + 3
    for tag in before["summary"].Tags()["scalars"]:
        drawn = series(before["summary"], tag).items()
        assert drawn <= series(after["summary"], tag).items()
        assert len(series(after["summary"], tag)) == rounds + 1


def files(base: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(base)): path.read_bytes()
        for path in sorted(base.rglob("*"))
        if path.is_file() and "tfevents" not in path.name
    }


def test_with_rounds_0_the_log_files_are_those_of_a_plain_fit(tmp_path: Path) -> None:
    def logged(base: Path, *callbacks: Any) -> Any:
        fit([CSVLogger(base, version=0), board(base)], *callbacks, make=Logged)
        events = runs(base)
        scalars = {name: {tag: pairs(run, tag) for tag in run.Tags()["scalars"]} for name, run in events.items()}
        return files(base), scalars

    class Logged(zoo.Net):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters(ignore=["optimizer", "scheduler"])

    zero = ticket(tmp_path, rounds=0)
    assert logged(tmp_path / "plain") == logged(tmp_path / "zero", zero)


def test_loggers_change_nothing_of_a_run(tmp_path: Path) -> None:
    def ended(base: Path, logger: Any) -> Any:
        fit(logger, ticket(base, keep="all"), ModelCheckpoint(base / "kept"))
        return zoo.contents(base / "run"), streams.capture()

    none = ended(tmp_path / "none", False)
    all_three = [Rows(), CSVLogger(tmp_path, name="csv"), board(tmp_path)]
    zoo.assert_equal(ended(tmp_path / "three", all_three), none)
    names = [file for file in files(tmp_path / "none") if "kept" in file]
    assert names == [file for file in files(tmp_path / "three") if "kept" in file]


def test_checkpoints_lie_where_the_logger_says(shown: Any) -> None:
    *_, log_dir = shown
    assert (log_dir / "checkpoints").is_dir()
    assert (log_dir / "checkpoints/round-02").is_dir()


def test_loggers_are_what_they_were_after_a_fit_and_after_an_exception(tmp_path: Path) -> None:
    class Mine(TensorBoardLogger):
        pass

    mine, rows = Mine(tmp_path), Rows()
    attributes = set(vars(rows))
    kinds: list[Any] = []

    class Look(pl.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            kinds.extend(type(logger) for logger in trainer.loggers)
            assert isinstance(trainer.logger, Mine)

    with pytest.raises(zoo.Killed):
        fit([mine, rows], ticket(tmp_path), Look(), zoo.KillAt("on_train_end", 1))
    assert [kind.__name__ for kind in kinds[:2]] == ["Mine", "Rows"]
    assert kinds[0] is not Mine
    for end in (lambda: None, lambda: fit([mine, rows], ticket(tmp_path))):
        end()
        assert type(mine) is Mine and type(rows) is Rows
        assert set(vars(rows)) == attributes
        assert mine.experiment.get_logdir() == mine.log_dir


def test_a_logger_that_fails_in_setup_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    class Failing(Rows):
        def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
            raise OSError("disk full")

    rows, failing = Rows(), Failing()
    with pytest.raises(OSError, match="disk full"):
        fit([rows, failing], ticket(tmp_path))
    assert type(rows) is Rows and type(failing) is Failing


def test_hyperparameters_with_metrics_of_the_users_own_have_the_density_too(tmp_path: Path) -> None:
    class Own(Showing):
        def on_train_start(self) -> None:
            self.logger.log_hyperparams({"lr": 0.1}, {"hp/loss": 0.0})

    fit(board(tmp_path), ticket(tmp_path), make=Own)
    for name, run in runs(tmp_path).items():
        if name.startswith("round"):
            assert series(run, "hp/loss") == {0: 0.0}
            assert "density" in hyperparameters(run)


def test_the_other_namespace_is_served_too(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    loggers = importlib.import_module("lightning.pytorch.loggers")

    class Net(lightning.LightningModule):  # type: ignore[misc, name-defined]
        training_step = zoo.Net.training_step
        validation_step = zoo.Net.validation_step
        configure_optimizers = zoo.Net.configure_optimizers
        forward = zoo.Net.forward

        def __init__(self) -> None:
            super().__init__()
            self.net = zoo.Net().net
            self._optimizer, self._scheduler = zoo.SGD, None

    trainer = lightning.Trainer(
        logger=[
            loggers.TensorBoardLogger(tmp_path, name="", version=0),
            loggers.CSVLogger(tmp_path, name="", version=1),
        ],
        callbacks=[ticket(tmp_path)],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        accelerator="cpu",
        **SETTINGS,
    )
    lightning.seed_everything(1, verbose=False)
    trainer.fit(Net(), zoo.ordered_loader(), zoo.validation_loader())
    assert len(runs(tmp_path)) == ROUNDS + 3
    assert {row["round"] for row in table(tmp_path, 1)} == {"0", "1", "2"}


@settings(max_examples=25)
@given(shape=st.lists(st.integers(1, 20), min_size=1, max_size=4), density=st.floats(0, 1), of_input=st.booleans())
def test_any_mask_has_an_image_of_a_sensible_size(shape: list[int], density: float, of_input: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(shape, generator=generator) < density
    image = mask_image(mask, of_input=of_input)
    assert image.dtype == np.uint8 and image.shape[2] == 3
    assert SIDE / 2 < max(image.shape) <= SIDE
    white = (image == 255).all()
    assert white == (not mask.any())


def test_an_input_layer_is_drawn_as_the_image_that_it_reads() -> None:
    mask = torch.zeros(10, 64, dtype=torch.bool)
    mask[:, 8 * 2 + 5] = True  # every unit reads the pixel in row 2, column 5
    image = mask_image(mask, of_input=True)
    pixels = image[16::32, 16::32, 0]
    assert pixels.shape == (8, 8)
    assert np.argwhere(pixels < 255).tolist() == [[2, 5]]


def test_kernels_are_drawn_as_a_grid() -> None:
    mask = torch.zeros(2, 3, 3, 3, dtype=torch.bool)
    mask[1, 2] = True
    image = mask_image(mask)[..., 0]
    pixel = SIDE // 11
    assert image.shape == (7 * pixel, 11 * pixel)
    rows, columns = np.where(image < 255)
    assert rows.min() == 4 * pixel and columns.min() == 8 * pixel
    assert len(rows) == 9 * pixel**2


@given(st.integers(1, 10**6), st.integers(0, 99))
def test_names_of_rounds_are_safe_and_sort_in_order(kept: int, round: int) -> None:
    name = run_name(round, kept / 10**6)
    assert not set(name) & set('/\\:*?"<>|')
    assert name < run_name(round + 1, kept / 10**6) or round == 99
