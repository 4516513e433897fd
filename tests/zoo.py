"""Small modules of the kinds that people bring, and what fits them need."""

from __future__ import annotations

import importlib.util
import itertools
import os
import runpy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import EarlyStopping, StochasticWeightAveraging
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lottery.masks.masks import Masks
from lottery.pruning.graph.paths import Connectivity
from lottery.runs.schema import RoundSummary
from lottery.tasks.data import BatchLoader
from lottery.training.record import Record

torch.set_num_threads(1)

INPUTS, CLASSES, BATCH = 12, 3, 8

needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="the extra onnx is not installed"
)
hides_compiled_parts = pytest.mark.skipif(
    tuple(int(n) for n in torch.__version__.split(".")[:2]) < (2, 6),
    reason="torch 2.5 runs a compiled part eagerly where its functions are watched",
)
resumes_inside_epochs = pytest.mark.skipif(
    tuple(int(n) for n in pl.__version__.split(".")[:2]) < (2, 5),
    reason="Lightning 2.4 itself does not go on from a checkpoint inside an epoch as it was",
)


def data(samples: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, INPUTS, generator=generator)
    return x, (x[:, :CLASSES] + 0.3 * torch.randn(samples, CLASSES, generator=generator)).argmax(1)


class Net(pl.LightningModule):
    """A net with BatchNorm and dropout; optimizer and schedule are given."""

    def __init__(
        self,
        optimizer: Callable[[Any], Any] = lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
        scheduler: Callable[[Any, pl.Trainer], Any] | None = None,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(INPUTS, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, CLASSES)
        )
        self._optimizer, self._scheduler = optimizer, scheduler

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        out = self(x)
        self.log_dict({"val_loss": F.cross_entropy(out, y), "val_acc": (out.argmax(1) == y).float().mean()})

    def test_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("test_acc", (self(x).argmax(1) == y).float().mean())

    def configure_optimizers(self) -> Any:
        optimizer = self._optimizer(self.parameters())
        if self._scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self._scheduler(optimizer, self.trainer)}


class Recurrent(Net):
    def __init__(self) -> None:
        super().__init__(lambda p: torch.optim.Adam(p, lr=1e-2))
        self.gru = nn.GRU(3, 8, batch_first=True)
        self.net = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.gru(x.view(len(x), 4, 3))[0][:, -1])


class Tied(Net):
    """Encoder and decoder share one matrix: twice in the state dict, once in named_parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(INPUTS, INPUTS)
        self.decoder = nn.Linear(INPUTS, INPUTS)
        self.decoder.weight = self.encoder.weight
        self.net = nn.Linear(INPUTS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.tanh(self.decoder(torch.tanh(self.encoder(x)))))


class WeightNorm(Net):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(weight_norm(nn.Linear(INPUTS, 16)), nn.ReLU(), weight_norm(nn.Linear(16, CLASSES)))


class Lazy(Net):
    """Shapes come in `setup`."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(CLASSES))

    def setup(self, stage: str) -> None:
        self(torch.zeros(2, INPUTS))


class Attention(Net):
    def __init__(self) -> None:
        super().__init__(lambda p: torch.optim.AdamW(p, lr=1e-2))
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.net = nn.Linear(INPUTS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.view(len(x), 3, 4)
        return self.net(self.attention(tokens, tokens, tokens)[0].reshape(len(x), -1))


class Double(Net):
    def __init__(self) -> None:
        super().__init__(lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1))
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.double())


class Unused(Net):
    """A parameter that never gets a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(4, 4)


class TwoOptimizers(Net):
    """Manual optimization: two optimizers, clipping by hand, a scheduler stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.other = nn.Sequential(nn.Linear(INPUTS, 8), nn.Tanh(), nn.Linear(8, CLASSES))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        first, second = self.optimizers()
        for optimizer, net in ((first, self.net), (second, self.other)):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            self.manual_backward(loss)
            self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
            optimizer.step()
        if self.trainer.is_last_batch:
            self.lr_schedulers().step()
        self.log("train_loss", loss)

    def configure_optimizers(self) -> Any:
        first = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)
        second = torch.optim.Adam(self.other.parameters(), lr=1e-2)
        return [first, second], [torch.optim.lr_scheduler.StepLR(first, 1, 0.5)]


class SparseEmbedding(Net):
    """Sparse gradients with SparseAdam beside dense ones."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.embedding = nn.Embedding(10, 6, sparse=True)
        self.net = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.embedding((x[:, 0].abs() * 4).long().clamp(max=9)))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.SparseAdam(self.embedding.parameters(), lr=1e-2),
            torch.optim.Adam(self.net.parameters(), lr=1e-2),
        ]


class NoValidation(Net):
    validation_step = pl.LightningModule.validation_step


class Endless(IterableDataset):
    """Batches without end, from a generator of its own."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for seed in itertools.count():
            yield data(BATCH, seed)


ANY_MODULE = {
    kind.__name__: kind
    for kind in (
        Net,
        Recurrent,
        Tied,
        WeightNorm,
        Lazy,
        Attention,
        Double,
        Unused,
        NoValidation,
        TwoOptimizers,
        SparseEmbedding,
    )
}


SGD: Callable[..., Any] = lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3)
ADAM: Callable[..., Any] = lambda p: torch.optim.Adam(p, lr=1e-2)
ADAMW: Callable[..., Any] = lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1)
OPTIMIZERS = {"sgd": SGD, "adam": ADAM, "adamw": ADAMW}


def per_epoch(optimizer: Any, _: Any) -> Any:
    return torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)


def per_step(optimizer: Any, _: Any) -> Any:
    return {"scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97), "interval": "step"}


def plateau(optimizer: Any, _: Any) -> Any:
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    return {"scheduler": scheduler, "monitor": "val_loss"}


def one_cycle(optimizer: Any, trainer: pl.Trainer) -> Any:
    steps = int(trainer.estimated_stepping_batches)
    return {"scheduler": torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=steps), "interval": "step"}


SCHEDULERS = {"none": None, "epoch": per_epoch, "step": per_step, "plateau": plateau, "estimated": one_cycle}

# settings of a Trainer, and callbacks, under which every law must hold
FEATURES: dict[str, tuple[dict[str, Any], Callable[[], list[Any]]]] = {
    "plain": ({"max_epochs": 3}, list),
    "max_steps": ({"max_epochs": -1, "max_steps": 19}, list),
    "accumulation": ({"max_epochs": 3, "accumulate_grad_batches": 3}, list),
    "clipping": ({"max_epochs": 3, "gradient_clip_val": 0.1}, list),
    "bf16": ({"max_epochs": 2, "precision": "bf16-mixed"}, list),
    "validation inside epochs": ({"max_epochs": 2, "val_check_interval": 3}, list),
    "early stopping": ({"max_epochs": 6}, lambda: [EarlyStopping("val_loss", patience=1, min_delta=0.02)]),
    "swa": ({"max_epochs": 4}, lambda: [StochasticWeightAveraging(0.05, swa_epoch_start=2, annealing_epochs=1)]),
    "max_time": ({"max_epochs": 2, "max_time": "00:01:00:00"}, list),
    "sanity check": ({"max_epochs": 2, "num_sanity_val_steps": 2}, list),
    "limited batches": ({"max_epochs": 3, "limit_train_batches": 5}, list),
    "reloaded loaders": ({"max_epochs": 3, "reload_dataloaders_every_n_epochs": 1}, list),
}


def ordered_loader(seed: int = 0) -> BatchLoader:
    """Shuffled by seed, round and epoch; leaves the global streams alone."""
    return BatchLoader(*data(), batch_size=BATCH, seed=seed)


def shuffled_loader() -> DataLoader:
    """Shuffled from the global streams, as most people do."""
    return DataLoader(TensorDataset(*data()), batch_size=BATCH, shuffle=True)


def generator_loader() -> DataLoader:
    """Shuffled from a generator of the user's."""
    generator = torch.Generator().manual_seed(5)
    return DataLoader(TensorDataset(*data()), batch_size=BATCH, shuffle=True, generator=generator)


def endless_loader() -> DataLoader:
    return DataLoader(Endless(), batch_size=None)


def validation_loader() -> BatchLoader:
    return BatchLoader(*data(24, seed=1), batch_size=12, shuffle=False)


def trainer(*callbacks: Any, **settings: Any) -> pl.Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": any(type(c).__name__.endswith("Checkpoint") for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "accelerator": "cpu",
    }
    return pl.Trainer(callbacks=list(callbacks), **{**quiet, **settings})


def fit(
    module: pl.LightningModule,
    *callbacks: Any,
    loader: Any = None,
    seed: int = 1,
    ckpt_path: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> pl.Trainer:
    """One fit from the given seed; `module` is a module or makes one."""
    pl.seed_everything(seed, verbose=False)
    fitted = module() if callable(module) and not isinstance(module, nn.Module) else module
    run = trainer(*callbacks, **settings)
    data = ordered_loader() if loader is None else loader
    if isinstance(data, pl.LightningDataModule):
        run.fit(fitted, datamodule=data, ckpt_path=ckpt_path)
    else:
        own = "val_dataloader" in vars(type(fitted))
        run.fit(fitted, data, None if own else validation_loader(), ckpt_path=ckpt_path)
    return run


class Killed(BaseException):
    """Ends a fit from inside, as a crash would."""


class KillAt(pl.Callback):
    """Raises at the n-th call of a hook, counted over all rounds: the count is no state that a round would put back."""

    def __init__(self, hook: str, n: int) -> None:
        calls = itertools.count()

        def count(*_: Any) -> None:
            if next(calls) >= n:
                raise Killed

        setattr(self, hook, count)


def assert_equal(left: Any, right: Any, path: str = "") -> None:
    """Equality of nested containers of tensors, bit for bit (NaN equals NaN), naming the first difference."""
    if isinstance(left, Tensor):
        same = left.dtype == right.dtype and left.shape == right.shape
        assert same and torch.equal(left.nan_to_num(12345), right.nan_to_num(12345)), f"{path} differs"
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), f"{path}: keys {left.keys() ^ right.keys()}"
        for key in left:
            assert_equal(left[key], right[key], f"{path}.{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), f"{path}: {len(left)} != {len(right)}"
        for index, pair in enumerate(zip(left, right, strict=True)):
            assert_equal(*pair, f"{path}[{index}]")
    else:
        assert repr(left) == repr(right), f"{path}: {left!r} != {right!r}"


def contents(dirpath: str | os.PathLike[str]) -> dict[str, Any]:
    """Everything that a run directory says about its results: all but times and ids."""
    from lottery import Run

    run = Run(dirpath)
    found: dict[str, Any] = {"initial": run.weights("initial"), "rounds": run.rounds, "seed": run.info.seed}
    for round in run.rounds:
        summary = {k: v for k, v in run.summary(round).plain().items() if k != "seconds"}
        found[f"round {round}"] = {
            "summary": summary,
            "history": run.records(round),
            "masks": dict(run.ticket(round).masks),
            "start": dict(run.ticket(round).weights),
            "trained": run.weights(round),
        }
    return found


def call(file: str, function: str, *arguments: Any) -> None:
    """Call a function of a test file in a fresh process, where test files are not importable by name."""
    runpy.run_path(file)[function](*arguments)


def summary_of(record: Record, round: int, masks: Masks, **changes: Any) -> RoundSummary:
    """The summary of a round of 20 steps in two epochs."""
    arguments = {
        "steps": 20,
        "epochs": 2,
        "test_last": {},
        "logged_steps": 20,
        "connectivity": Connectivity(masks, masks).summary(),
    }
    return record.summary(round, masks, **{**arguments, **changes})
