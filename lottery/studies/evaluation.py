"""A module's error on its data, measured by a quiet Trainer: what `error_barrier` asks at each point."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Literal

from torch import Tensor
from torch.utils.data import DataLoader

from lottery.foundations import streams
from lottery.studies.stability import POINTS, Barrier, accumulating, error_barrier
from lottery.training.callback import LotteryTicket
from lottery.training.recipes import RecipeCLI

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule, Trainer


class Evaluation:
    """The error of one architecture on one data set, by its own `validation_step` or `test_step`.

    The data are set up once. Random streams are left as they were.

    Args:
        module: a LightningModule of that architecture.
        data: a LightningDataModule; or the module, where it has data loaders of its own.
        metric: what the module logs: one with "test" in its name is measured on test data, any other on validation
            data.
        mode: "max" says that more is better: then the error is 1 - the metric. "min" says that the metric is an error.
            Default: "min" if the name contains "loss", "error" or "perplexity", else "max".
        batches: so many batches of training data are what BatchNorm's statistics are computed from.
        trainer: arguments of the Trainer, such as ``accelerator="cpu"``.

    Example::

        evaluation = Evaluation(module, datamodule, "val_acc", accelerator="cpu")
        evaluation.barrier(first.weights(0), second.weights(0)).height
    """

    def __init__(
        self,
        module: LightningModule,
        data: LightningModule | LightningDataModule,
        metric: str = "val_acc",
        *,
        mode: Literal["min", "max"] | None = None,
        batches: int = 50,
        **trainer: object,
    ) -> None:
        self.module = module
        self.data = data
        self.metric = metric
        self.mode = LotteryTicket(0, monitor=metric, mode=mode).mode
        self.batches = batches
        self._options = trainer

    @classmethod
    def of(cls, recipe: RecipeCLI, metric: str | None = None) -> Evaluation:
        """That of a recipe, on its device and in its precision.

        Args:
            recipe: what `lottery.training.recipes.load` returned.
            metric: default: the metric that the recipe monitors.

        Raises:
            ValueError: the recipe monitors none, and none is given.
        """
        ticket, trainer = recipe.ticket, recipe.config_init["trainer"]
        metric = metric or ticket.monitor
        if metric is None:
            raise ValueError(
                "the recipe monitors no metric: set lottery.monitor to one that the module logs, such as val_acc"
            )
        return cls(
            recipe.model,
            recipe.datamodule or recipe.model,
            metric,
            mode=ticket.mode if metric == ticket.monitor else None,
            accelerator=trainer["accelerator"],
            precision=trainer["precision"],
        )

    def barrier(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor], points: int = POINTS) -> Barrier:
        """The error barrier between two state dicts, with BatchNorm's statistics recomputed at each point.

        Raises:
            ValueError: as `error_barrier`, or the module does not log the metric.
        """
        return error_barrier(self.module, a, b, lambda _: self.error(), points, lambda _: self.recompute())

    def error(self) -> float:
        """The error of the module with the weights it has now.

        Raises:
            ValueError: the module does not log the metric.
        """
        logged = self._pass(training_data=False)
        if self.metric not in logged:
            raise ValueError(
                f"{type(self.module).__name__} does not log {self.metric!r} on"
                f" {'test' if self._tests else 'validation'} data; it logs {', '.join(map(repr, logged)) or 'nothing'}"
            )
        value = float(logged[self.metric])
        return value if self.mode == "min" else 1 - value

    def recompute(self) -> None:
        """Set the running statistics of BatchNorm layers to their means over training batches, the same each time.

        The other layers are in eval mode meanwhile.
        """
        with accumulating(self.module) as layers:
            if layers:
                self._pass(training_data=True)

    def _pass(self, *, training_data: bool) -> dict[str, Tensor]:
        """What the module logs in one pass."""
        with streams.isolated(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # training has given them, once
            batches = self._training if training_data else self._held_out
            run = self._trainer.test if self._tests else self._trainer.validate
            run(self.module, dataloaders=batches, verbose=False)
        return dict(self._trainer.callback_metrics)

    @property
    def _tests(self) -> bool:
        return "test" in self.metric

    @cached_property
    def _trainer(self) -> Trainer:
        # the Trainer of the namespace that the module's class is from
        home = next(base.__module__ for base in type(self.module).__mro__ if base.__name__ == "LightningModule")
        lightning = importlib.import_module(home.partition(".core.")[0])
        return lightning.Trainer(
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            inference_mode=False,  # tensors that a module keeps must go on to train
            devices=1,
            **self._options,
        )

    @cached_property
    def _source(self) -> LightningModule | LightningDataModule:
        """The data, set up."""
        self.data.trainer = self._trainer
        self.data.prepare_data()
        self.data.setup("fit")
        return self.data

    @cached_property
    def _held_out(self) -> object:
        if self._tests:
            self._source.setup("test")
            return self._source.test_dataloader()
        return self._source.val_dataloader()

    @cached_property
    def _training(self) -> DataLoader:
        batches = list(islice(self._source.train_dataloader(), self.batches))
        return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
