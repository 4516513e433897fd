"""Evaluating a module in the middle of its fit, without a trace."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from lottery.foundations import streams
from lottery.training.lightning.data import Data
from lottery.training.lightning.kinds import silent_logger
from lottery.training.lightning.states import LOGGED, States
from lottery.training.state import tensors_kept

if TYPE_CHECKING:
    from lottery.training.lightning.namespaces import Trainer


class Aside:
    """Evaluations beside the training.

    Args:
        trainer: the fit's.
        own_type: base class of callbacks that this Trainer accepts.
        data: its loaders.
        states: its states.
    """

    def __init__(self, trainer: Trainer, own_type: type, data: Data, states: States) -> None:
        self.trainer = trainer
        self._own_type = own_type
        self._data = data
        self._states = states

    def check_testing(self) -> None:
        """Raise where there is nothing to test with; make the test data otherwise."""
        datamodule = self.trainer.datamodule
        with streams.isolated(), self._loop_of("test") as loop:
            try:
                if datamodule is not None:
                    datamodule.setup("test")
                loop.setup_data()
            except Exception as error:
                raise ValueError(f"test_each_round=True, but the test data cannot be loaded: {error}") from error
            if loop._combined_loader is None:
                raise ValueError(
                    f"test_each_round=True, but {type(self.trainer.lightning_module).__name__} has no `test_step`, or"
                    " no test batches"
                )

    def evaluate(self, stage: Literal["validate", "test"]) -> dict[str, float]:
        """Metrics of the module as it is now, leaving no trace in loggers, callbacks, random streams or progress.

        Modules see it as a sanity check (`trainer.sanity_checking`) or as a test.
        """
        trainer = self.trainer
        if stage == "validate" and not trainer.enable_validation:
            return {}
        found: dict[str, float] = {}

        def note(_: object, trainer: Trainer, *__: object) -> None:
            found.update(scalars(trainer.callback_metrics))

        hook = "on_validation_end" if stage == "validate" else "on_test_end"
        with streams.isolated(), self._loop_of(stage) as loop:
            trainer.callbacks = [type("Probe", (self._own_type,), {hook: note})()]
            loop.run()
        return found

    @contextlib.contextmanager
    def _loop_of(self, stage: str) -> Iterator[Any]:
        trainer = self.trainer
        loop = trainer.fit_loop.epoch_loop.val_loop if stage == "validate" else trainer.test_loop
        logger = trainer._logger_connector
        loop_before = {
            name: copy.copy(getattr(loop, name))
            for name in ("_combined_loader", "_data_fetcher", "_max_batches", "_has_run", "_last_val_dl_reload_epoch")
        }
        validation, self._data.validation = self._data.validation, None
        progress, verbose = copy.deepcopy(loop.batch_progress), loop.verbose
        logged_before = {name: copy.copy(getattr(logger, name)) for name in LOGGED}
        before = (
            trainer.state.fn,
            trainer.state.stage,
            trainer.callbacks,
            trainer.loggers,
            trainer.num_sanity_val_steps,
            loop.inference_mode,
        )
        # modules may write to their logger, so one that drops everything takes its place
        trainer.loggers = [silent_logger(trainer) for _ in trainer.loggers]
        loop.verbose = False
        loop.inference_mode = False  # tensors that a module keeps must go on to train
        if stage == "validate":
            trainer.num_sanity_val_steps = math.inf
            trainer.sanity_checking = True
        else:
            trainer.state.fn = type(trainer.state.fn).TESTING
            trainer.testing = True
        for name in ("_progress_bar_metrics", "_logged_metrics", "_callback_metrics"):
            setattr(logger, name, {})
        logger._first_loop_iter = None
        loop._results.clear()
        try:
            with self._states.undisturbed(), tensors_kept(trainer.lightning_module):
                yield loop
        finally:
            loop._results.clear()
            (
                trainer.state.fn,
                trainer.state.stage,
                trainer.callbacks,
                loggers,
                trainer.num_sanity_val_steps,
                loop.inference_mode,
            ) = before
            trainer.loggers = loggers
            self._data.validation = validation
            for name, value in logged_before.items():
                setattr(logger, name, value)
            loop.batch_progress, loop.verbose = progress, verbose
            if stage == "validate":
                for name, value in loop_before.items():
                    setattr(loop, name, value)


def scalars(metrics: Mapping[str, object]) -> dict[str, float]:
    """The single numbers among metrics, as floats."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() == 1)
    }
