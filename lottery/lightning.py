"""The one place that knows Lightning's internals: many rounds inside one `Trainer.fit`.

A `Fit` extends the loops of one Trainer, for the time of one `fit`, by a few methods. They call the round driver in
place of the single training, note from which random streams each data iterator was made, and report every boundary at
which nothing is half done: after an epoch, and between two batches of an epoch. A state captured at such a boundary can
be entered again, in this process or another, and goes on bit for bit.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Literal, Protocol

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from lottery import streams

Position = Literal["start", "epoch", "batch"]
STATE = "lottery"
_UNSUPPORTED = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")
_LOGGED = (
    "_progress_bar_metrics",
    "_logged_metrics",
    "_callback_metrics",
    "_first_loop_iter",
    "_current_fx",
)


class Driver(Protocol):
    """What a fit with several rounds is driven by."""

    def run(self) -> None:
        """Called in place of the training; calls `Fit.train` once per round."""

    def wants_boundary(self) -> bool:
        """Asked after every batch whether `at_boundary` has anything to do."""

    def at_boundary(self, position: Position | Literal["end"]) -> None:
        """Called with "epoch" or "batch" where a state can be captured and the round goes on, and with "end" after the
        last epoch of a round."""


class Fit:
    """One `trainer.fit`, as the driver of the rounds sees it.

    Args:
        trainer: a Trainer in `setup(stage="fit")`.
        own_state_key: key of the calling callback's state in checkpoints.
        own_type: base class of callbacks that this Trainer accepts.

    Attributes:
        round: the round in progress, after which folders are named.
        data_round: the round that loaders are told whose order depends on it.
    """

    driver: Driver

    def __init__(self, trainer: Any, own_state_key: str, own_type: type) -> None:
        name = type(trainer.strategy).__name__
        if name in _UNSUPPORTED:
            raise ValueError(
                f"LotteryTicket needs whole parameters on every device; {name} shards them. Use 'ddp'."
            )
        self.trainer = trainer
        self.round = 0
        self.data_round = 0
        self.own_state_key = own_state_key
        self._own_type = own_type
        self._iterator_origin: dict[str, Any] | None = None
        self._iterator_is_stale = False
        self._generators_to_restore: list[Tensor] | None = None
        self._enter: Callable[[], None] | None = None
        self._entering_mid_epoch = False
        self._folders: dict[int, str] = {}
        self._extended: list[tuple[Any, type]] = []
        self._pristine: _Pristine | None = None
        self._example: Any = None

    # what the loops are extended by

    def install(self, driver: Driver) -> None:
        """Extend the Trainer's loops, so that `driver` runs in place of the training, until `uninstall`."""
        self.driver = driver
        fit_loop = self.trainer.fit_loop
        for target, extension in (
            (fit_loop, _FitLoop),
            (fit_loop.epoch_loop, _EpochLoop),
            (fit_loop.epoch_loop._results, _Results),
        ):
            self._extended.append((target, type(target)))
            target.__class__ = type(extension.__name__, (extension, type(target)), {})
            target.lottery = self

    def uninstall(self) -> None:
        for target, original in self._extended:
            target.__class__ = original
            del target.lottery
        self._extended.clear()

    def run(self) -> None:
        self._pristine = _Pristine(self.trainer)
        self.driver.run()

    def train(self) -> None:
        """Run the Trainer's own training once: one round, from wherever `begin` put it."""
        self.trainer.fit_loop.run_once()

    # what the driver reads

    @property
    def module(self) -> Any:
        return self.trainer.lightning_module

    @property
    def global_step(self) -> int:
        return self.trainer.global_step

    @property
    def epoch(self) -> int:
        """Epochs of the round that are complete."""
        return self.trainer.fit_loop.epoch_progress.current.processed

    @property
    def logged_steps(self) -> int:
        """The step under which loggers get what comes next: batches, whatever the optimizers do with them."""
        return self.trainer.fit_loop.epoch_loop._batches_that_stepped

    @property
    def is_writer(self) -> bool:
        return self.trainer.is_global_zero

    @property
    def max_epochs(self) -> int:
        """The user's `max_epochs`, -1 for none."""
        limit = self.trainer.max_epochs
        return -1 if limit is None else limit

    def weights(self) -> dict[str, Tensor]:
        """The module's state dict, tensors only."""
        return {
            k: v for k, v in self.module.state_dict().items() if isinstance(v, Tensor)
        }

    def settings(self) -> dict[str, Any]:
        """What defines a round besides the callback's own arguments, as plain data."""
        trainer = self.trainer
        return {
            "module": type(self.module).__name__,
            "hyperparameters": {
                k: _describe(v) for k, v in dict(self.module.hparams).items()
            },
            "data": {
                k: _describe(v) for k, v in dict(trainer.datamodule.hparams).items()
            }
            if trainer.datamodule is not None
            else {},
            "max_epochs": trainer.max_epochs,
            "max_steps": trainer.max_steps,
            "min_epochs": trainer.min_epochs,
            "min_steps": trainer.min_steps,
            "accumulate_grad_batches": trainer.accumulate_grad_batches,
            "gradient_clip_val": trainer.gradient_clip_val,
            "gradient_clip_algorithm": _describe(trainer.gradient_clip_algorithm),
            "limit_train_batches": trainer.limit_train_batches,
            "precision": trainer.precision,
            "devices": trainer.world_size,
            "optimizers": [
                {
                    "name": type(o).__name__,
                    **{k: _describe(v) for k, v in o.defaults.items()},
                }
                for o in trainer.optimizers
            ],
            "lr_schedulers": [
                type(c.scheduler).__name__ for c in trainer.lr_scheduler_configs
            ],
        }

    def metrics(self) -> dict[str, Tensor]:
        """The metrics known to callbacks; a value is the same object until it is logged again."""
        return dict(self.trainer.callback_metrics)

    def monitored(self) -> tuple[str, str] | None:
        """Metric and mode of the first EarlyStopping or ModelCheckpoint that has one."""
        for callback in self.trainer.callbacks:
            if _is_a(callback, "EarlyStopping", "ModelCheckpoint") and callback.monitor:
                return callback.monitor, callback.mode
        return None

    def show(self, **values: float) -> None:
        """Put values beside the metrics of whatever progress bar the Trainer has."""
        self.trainer._logger_connector._progress_bar_metrics.update(values)

    def barrier(self) -> None:
        self.trainer.strategy.barrier("lottery")

    def reached_its_end(self) -> bool:
        """Whether the round ran to the Trainer's own limits, rather than being stopped."""
        loop = self.trainer.fit_loop
        if 0 <= loop.max_steps <= self.global_step:
            return True
        whole_epoch = loop.epoch_loop._num_ready_batches_reached()
        return 0 <= loop.max_epochs <= self.epoch and whole_epoch

    def time_limit(self) -> float:
        """Seconds that `Trainer(max_time=...)` allows, infinity where it is not given."""
        limits = [
            timer._duration for timer in self._timers() if timer._duration is not None
        ]
        return min(limits, default=math.inf)

    def time_is_up(self) -> bool:
        """Whether `Trainer(max_time=...)` has run out."""
        left = [timer.time_remaining() for timer in self._timers()]
        return any(seconds is not None and seconds <= 0 for seconds in left)

    def _timers(self) -> list[Any]:
        return [
            callback for callback in self.trainer.callbacks if _is_a(callback, "Timer")
        ]

    # capture

    def capture(self, position: Position) -> dict[str, Any]:
        """A Lightning checkpoint of this moment, with what Lightning leaves out under the key "lottery"."""
        trainer = self.trainer
        loop = trainer.fit_loop
        logger = trainer._logger_connector
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        for key in ("hyper_parameters", "datamodule_hyper_parameters"):
            if key in checkpoint:
                checkpoint[key] = {
                    k: v for k, v in checkpoint[key].items() if _is_plain(v)
                }
        state: dict[str, Any] = {
            "position": position,
            "round": self.round,
            **self.streams_state(),
            "should_stop": trainer.should_stop,
            "logged": {name: copy.copy(getattr(logger, name)) for name in _LOGGED},
        }
        if position == "batch":
            state["loaders"] = self._loader_states()
            state["results"] = loop.epoch_loop._results.partial_values()
            state["metric_states"] = _metric_states(self.module)
            if not self.module.automatic_optimization:
                state["gradients"] = {
                    n: p.grad
                    for n, p in self.module.named_parameters()
                    if p.grad is not None
                }
        checkpoint[STATE] = state
        return checkpoint

    def can_capture(self) -> bool:
        """Whether a state captured now could be entered again; not while weights are being averaged by SWA."""
        averaging = any(
            _is_a(callback, "StochasticWeightAveraging") and callback._initialized
            for callback in self.trainer.callbacks
        )
        return not averaging

    def _capture_streams(self) -> dict[str, Any]:
        return {
            "streams": streams.capture(),
            "generators": [g.get_state() for g in self._generators()],
        }

    def _restore_streams(self, state: Mapping[str, Any]) -> None:
        streams.restore(state["streams"])
        generators = self._generators()
        if len(generators) == len(state["generators"]):
            for generator, generator_state in zip(
                generators, state["generators"], strict=True
            ):
                generator.set_state(generator_state)

    def _generators(self) -> list[torch.Generator]:
        return _generators(self._train_loaders())

    def _train_loaders(self) -> list[Any]:
        combined = self.trainer.fit_loop._combined_loader
        return [] if combined is None else combined.flattened

    def _loader_states(self) -> list[dict[str, Any]] | None:
        """States of the loaders, where all have one that counts just the batches handed to the module."""
        loop = self.trainer.fit_loop
        prefetching = loop._data_fetcher is None or loop._data_fetcher.length is None
        stateful = all(
            hasattr(loader, "load_state_dict") for loader in self._train_loaders()
        )
        return (
            [loader.state_dict() for loader in self._train_loaders()]
            if stateful and not prefetching
            else None
        )

    # begin

    def begin(
        self,
        checkpoint: Mapping[str, Any],
        *,
        seed: int | None = None,
        seconds: float = 0.0,
        reorder: bool = False,
    ) -> None:
        """Put the fit where `checkpoint` was captured.

        Args:
            checkpoint: what `capture` returned, read back from a file (its tensors are taken over).
            seed: None goes on with the captured random streams: the same round, resumed. A seed starts a new round
                at the captured point: other random streams, callbacks that name files or count time as at first.
            seconds: time that the rounds so far have taken, for `Trainer(max_time=...)`.
            reorder: with a seed, inside an epoch: whether the rest of the epoch comes in another order too: the epoch is
                begun anew in one, and as many batches left out as were given.
        """
        resuming = seed is None
        state = checkpoint[STATE]
        self._drop_loaders()
        self._restore(checkpoint, resuming)
        self._restore_logged(state, resuming)
        for timer in self._timers():
            _start_timer(timer, seconds if not resuming else timer._offset)
        self.trainer.should_stop = resuming and state["should_stop"]
        if state["position"] == "batch":
            self._begin_mid_epoch(state, seed, reorder)
        elif seed is not None:
            streams.seed(seed)
            self.trainer.fit_loop.setup_data()
            if self._generators():
                self._seed(seed)
                self._note_iterator("iterate")
                iter(self.trainer.fit_loop._data_fetcher)
        elif state["position"] == "start":
            if state["iterator"] is not None:
                self._build_loaders_as(state["iterator"])
            self._restore_streams(state["now"])
        else:
            self.trainer.fit_loop.setup_data()
            self._enter = lambda: self._restore_streams(state["now"])

    def adopt(self, random: Mapping[str, Any], metrics: Mapping[str, Tensor]) -> bool:
        """Go on from a checkpoint that Lightning itself has restored from `ckpt_path`.

        Args:
            random: what `streams_state` returned when it was saved.
            metrics: what `metrics` returned then.

        Returns:
            Whether it was saved at the very end of an epoch, so that Lightning goes on with the next one.
        """
        loop = self.trainer.fit_loop
        batches, epochs = loop.epoch_loop.batch_progress, loop.epoch_progress.current
        stateful = bool(loop._combined_loader_states_to_load)
        self._drop_loaders()
        if (
            random["iterator"] is not None
            and batches.current.ready
            and not batches.is_last_batch
        ):
            self._make_iterator_again(
                random["iterator"], 0 if stateful else batches.current.ready
            )
        else:
            loop.setup_data()
            self._iterator_is_stale = True
        self.trainer._logger_connector._callback_metrics = dict(metrics)
        self._enter = lambda: self._restore_streams(random["now"])
        return epochs.processed > epochs.completed

    def streams_state(self) -> dict[str, Any]:
        """The random streams now, and those from which the current epoch's iterator was made."""
        return {"now": self._capture_streams(), "iterator": self._iterator_origin}

    def _make_iterator_again(
        self,
        origin: Mapping[str, Any],
        given: int,
        states: Any = None,
        reorder: bool = False,
    ) -> None:
        """Make an epoch's iterator as it was made first and pass over the batches that it has given.

        To reorder, `origin` is another one, and loaders whose order depends on the round are told it first.
        """
        loop = self.trainer.fit_loop
        self._build_loaders_as(origin)
        fetcher = loop._data_fetcher
        _set_sampler_epochs(
            self._train_loaders(), loop.epoch_progress.current.processed
        )
        if states is not None:
            loop._combined_loader._load_state_dicts(states)
            self._tell_round()
            iter(fetcher)
        else:
            if reorder:
                self._tell_round()
            if origin["kind"] == "iterate":
                self._restore_streams(origin)
                iter(fetcher)
            for _ in range(given):
                next(fetcher)
            fetcher.fetched -= given  # the epoch loop adds them again
        self._iterator_origin = dict(origin)

    def _begin_mid_epoch(
        self, state: Mapping[str, Any], seed: int | None, reorder: bool
    ) -> None:
        given = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if reorder and seed is not None:
            origin = _another_origin(state["iterator"], seed)
            self._make_iterator_again(origin, given, reorder=True)
        else:
            self._make_iterator_again(state["iterator"], given, state["loaders"])
        if seed is None:
            self.trainer.fit_loop.epoch_loop._results.refill(state["results"])
            _restore_metric_states(self.module, state["metric_states"])
        if "gradients" in state:
            for name, parameter in self.module.named_parameters():
                gradient = state["gradients"].get(name)
                parameter.grad = (
                    None if gradient is None else gradient.to(parameter.device)
                )
        self._entering_mid_epoch = True
        self._enter = (
            (lambda: self._restore_streams(state["now"]))
            if seed is None
            else (lambda: self._seed(seed))
        )

    def _seed(self, seed: int) -> None:
        streams.seed(seed)
        for index, generator in enumerate(self._generators()):
            generator.manual_seed(streams.derive(seed, "loader", index))

    def _restore(self, checkpoint: Mapping[str, Any], resuming: bool) -> None:
        assert self._pristine is not None
        self._pristine.restore()
        self.file_under(self.round)
        left_out = {self.own_state_key}
        if (
            not resuming
        ):  # records of files and of time belong to the round that made them
            left_out |= {
                c.state_key
                for c in self.trainer.callbacks
                if _is_a(c, "ModelCheckpoint", "Timer")
            }
        callbacks = {
            key: value
            for key, value in checkpoint.get("callbacks", {}).items()
            if key not in left_out
        }
        connector = self.trainer._checkpoint_connector
        connector._loaded_checkpoint = {**checkpoint, "callbacks": callbacks}
        connector.restore_datamodule()
        connector.restore_model()
        connector.restore_callbacks()
        connector.restore_training_state()
        connector._loaded_checkpoint = {}
        self.module.zero_grad()
        self.trainer.fit_loop._combined_loader_states_to_load = []
        for loop in _all_loops(self.trainer.fit_loop):
            for flag in (
                "_restarting",
                "_loaded_from_state_dict",
                "_resuming_from_checkpoint",
            ):
                if hasattr(loop, flag):
                    setattr(loop, flag, False)

    def _restore_logged(self, state: Mapping[str, Any], resuming: bool) -> None:
        logger = self.trainer._logger_connector
        self.trainer.fit_loop.epoch_loop._results.clear()
        self.trainer.fit_loop.epoch_loop.val_loop._results.clear()
        logger.reset_metrics()
        logger.reset_results()
        for metric in _metrics_of(self.module).values():
            metric.reset()
        if resuming:
            for name in _LOGGED:
                setattr(logger, name, copy.copy(state["logged"][name]))

    def _drop_loaders(self) -> None:
        loop = self.trainer.fit_loop
        for part in (loop, loop.epoch_loop.val_loop):
            if part._data_fetcher is not None:
                part._data_fetcher.teardown()
                part._data_fetcher = None
            part._combined_loader = None
        self._iterator_origin = None

    def file_under(self, round: int) -> None:
        """Give every ModelCheckpoint a folder for a round: its own for round 0, "round-01" and so on below it."""
        for callback in self.trainer.callbacks:
            if _is_a(callback, "ModelCheckpoint") and callback.dirpath is not None:
                base = self._folders.setdefault(
                    id(callback), str(callback.dirpath).rstrip("/")
                )
                callback.dirpath = f"{base}/round-{round:02d}" if round else base

    def rest_schedulers(self) -> None:
        """Keep the learning rate as it is for this round."""
        self.trainer.strategy.lr_scheduler_configs = []

    # score

    def training_batches(self, seed: int) -> Generator[Any, None, None]:
        """Fresh batches of the training data, on the module's device, in an order of their own.

        Every process of a distributed fit gets the same. Between rounds only: the loaders are those of the next one.
        """
        trainer = self.trainer
        source = trainer.fit_loop._data_source.dataloader()
        kind = _combined_loader_type(trainer)
        loaders = source if isinstance(source, kind) else kind(source, "max_size_cycle")
        for loader in loaders.flattened:
            if hasattr(loader, "set_round"):
                loader.set_round(self.data_round)
        generators = _generators(loaders.flattened)
        before = [generator.get_state() for generator in generators]
        streams.seed(seed)
        for index, generator in enumerate(generators):
            generator.manual_seed(streams.derive(seed, "loader", index))
        _set_sampler_epochs(loaders.flattened, 0)
        try:
            for batch, *_ in loaders:
                batch = trainer.precision_plugin.convert_input(batch)
                yield trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        finally:
            for generator, state in zip(generators, before, strict=True):
                generator.set_state(state)

    def training_loss(self, module: Any, batch: Any) -> Tensor:
        """The loss that `training_step` gives for a batch; what it logs goes nowhere.

        Raises:
            ValueError: the module does its own optimization.
            TypeError: it gives no loss.
        """
        self.check_loss()
        step = module.training_step
        takes_index = len(inspect.signature(step).parameters) > 1
        loggers = self.trainer.loggers
        self.trainer.loggers = [_silent_logger(self.trainer) for _ in loggers]
        module.log = module.log_dict = lambda *_, **__: None
        try:
            found = step(batch, 0) if takes_index else step(batch)
        finally:
            del module.log, module.log_dict
            self.trainer.loggers = loggers
        loss = found.get("loss") if isinstance(found, Mapping) else found
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"the training_step of {type(module).__name__} gave {type(found).__name__} and no loss, so there is"
                " nothing to score with"
            )
        return loss

    def check_loss(self) -> None:
        """Raise where `training_step` gives no loss because the module does its own optimization."""
        if not self.module.automatic_optimization:
            raise ValueError(
                f"{type(self.module).__name__} optimizes manually, so its training_step gives no loss to score with. Use a"
                " score without data, such as 'magnitude' or 'synflow', or a function of your own."
            )

    def note_batch(self, batch: Any) -> None:
        """Remember what a training batch looks like, from the first of a fit."""
        if self._example is None:
            first = batch[0] if isinstance(batch, (list, tuple)) else batch
            self._example = first[:1].clone() if isinstance(first, Tensor) else first

    def example_input(self, seed: int) -> Any:
        """An input of the module's `forward`: its `example_input_array`, or what comes first in a training batch."""
        module = self.module
        if module.example_input_array is not None:
            return apply_to_collection(
                module.example_input_array, Tensor, lambda t: t.to(module.device)
            )
        if self._example is None:
            batches = self.training_batches(seed)
            with streams.isolated(), contextlib.closing(batches):
                self.note_batch(next(batches))
        return self._example

    # evaluate

    def check_testing(self) -> None:
        """Raise where there is nothing to test with; make the test data otherwise."""
        datamodule = self.trainer.datamodule
        with streams.isolated(), self._aside("test") as loop:
            try:
                if datamodule is not None:
                    datamodule.setup("test")
                loop.setup_data()
            except Exception as error:
                raise ValueError(
                    f"test_each_round=True, but the test data cannot be loaded: {error}"
                ) from error
            if loop._combined_loader is None:
                raise ValueError(
                    f"test_each_round=True, but {type(self.module).__name__} has no `test_step`, or no test batches"
                )

    def evaluate(self, stage: Literal["validate", "test"]) -> dict[str, float]:
        """Metrics of the module as it is now, leaving no trace in loggers, callbacks, random streams or progress.

        Modules see it as a sanity check (`trainer.sanity_checking`) or as a test.
        """
        trainer = self.trainer
        if stage == "validate" and not trainer.enable_validation:
            return {}
        found: dict[str, float] = {}

        def note(_: Any, trainer: Any, *__: Any) -> None:
            found.update(scalars(trainer.callback_metrics))

        hook = "on_validation_end" if stage == "validate" else "on_test_end"
        with streams.isolated(), self._aside(stage) as loop:
            trainer.callbacks = [type("Probe", (self._own_type,), {hook: note})()]
            loop.run()
        return found

    @contextlib.contextmanager
    def _aside(self, stage: str) -> Iterator[Any]:
        trainer = self.trainer
        loop = (
            trainer.fit_loop.epoch_loop.val_loop
            if stage == "validate"
            else trainer.test_loop
        )
        logger = trainer._logger_connector
        loop_before = {
            name: copy.copy(getattr(loop, name))
            for name in (
                "_combined_loader",
                "_data_fetcher",
                "_max_batches",
                "_has_run",
                "_last_val_dl_reload_epoch",
            )
        }
        progress, verbose = copy.deepcopy(loop.batch_progress), loop.verbose
        metrics_before = _metric_states(self.module)
        logged_before = {name: copy.copy(getattr(logger, name)) for name in _LOGGED}
        before = (
            trainer.state.fn,
            trainer.state.stage,
            trainer.callbacks,
            trainer.loggers,
            trainer.num_sanity_val_steps,
        )
        # modules may write to their logger, so one that drops everything takes its place
        trainer.loggers = [_silent_logger(trainer) for _ in trainer.loggers]
        loop.verbose = False
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
            yield loop
        finally:
            loop._results.clear()
            (
                trainer.state.fn,
                trainer.state.stage,
                trainer.callbacks,
                loggers,
                trainer.num_sanity_val_steps,
            ) = before
            trainer.loggers = loggers
            for name, value in logged_before.items():
                setattr(logger, name, value)
            for metric in _metrics_of(self.module).values():
                metric.reset()
            _restore_metric_states(self.module, metrics_before)
            loop.batch_progress, loop.verbose = progress, verbose
            if stage == "validate":
                for name, value in loop_before.items():
                    setattr(loop, name, value)

    # what the extended loops call

    def _tell_round(self) -> None:
        """Tell the round to loaders whose order depends on it."""
        for loader in self._train_loaders():
            if hasattr(loader, "set_round"):
                loader.set_round(self.data_round)

    def _build_loaders_as(self, origin: Mapping[str, Any]) -> None:
        """Build the loaders and their first iterator from the random streams of `origin`."""
        self._generators_to_restore = origin["generators"]
        self._restore_streams(origin)
        self.trainer.fit_loop.setup_data()

    def _before_first_iterator(self) -> None:
        if self._generators_to_restore is not None:
            for generator, state in zip(
                self._generators(), self._generators_to_restore, strict=False
            ):
                generator.set_state(state)
            self._generators_to_restore = None
        if self._iterator_origin is not None:
            self._iterator_origin["generators"] = [
                g.get_state() for g in self._generators()
            ]

    def _note_iterator(self, kind: Literal["build", "iterate"]) -> None:
        self._iterator_origin = {"kind": kind, **self._capture_streams()}

    def enter(self) -> bool:
        """Set the random streams of a resumed round; whether it goes on in the middle of an epoch."""
        if self._enter is not None:
            self._enter()
            self._enter = None
        return self._entering_mid_epoch

    def entered(self) -> None:
        self._entering_mid_epoch = False


class _FitLoop:
    """What Lightning's fit loop is extended by."""

    lottery: Fit

    def run(self) -> None:
        self.lottery.run()

    def run_once(self) -> None:
        super().run()  # type: ignore[misc]

    def setup_data(self) -> None:
        loop: Any = self
        building = loop._combined_loader is None or loop._should_reload_train_dl
        if building:
            self.lottery._note_iterator("build")
        super().setup_data()  # type: ignore[misc]
        if building:
            self.lottery._tell_round()

    def _load_combined_loader_states(self) -> None:
        """Called when the loaders are there and their iterator is not."""
        super()._load_combined_loader_states()  # type: ignore[misc]
        self.lottery._before_first_iterator()

    def on_advance_start(self) -> None:
        if not self.lottery.enter():
            super().on_advance_start()  # type: ignore[misc]

    def on_advance_end(self) -> None:
        loop: Any = self
        loop.epoch_loop._results.refill({})  # sums of a cut epoch end with it
        super().on_advance_end()  # type: ignore[misc]
        stopping = self.lottery.reached_its_end() or (
            loop.trainer.should_stop and loop._can_stop_early
        )
        self.lottery.driver.at_boundary("end" if stopping else "epoch")


class _EpochLoop:
    """What Lightning's training epoch loop is extended by."""

    lottery: Fit

    def reset(self) -> None:
        if not self.lottery._entering_mid_epoch:
            super().reset()  # type: ignore[misc]

    def on_run_start(self, data_fetcher: Any) -> None:
        loop: Any = self
        if self.lottery._entering_mid_epoch:
            loop._restarting = (
                True  # the iterator is there: Lightning must not make another
            )
            super().on_run_start(data_fetcher)  # type: ignore[misc]
            loop._restarting = False
            self.lottery.entered()
            return
        resuming = (
            getattr(loop.trainer.fit_loop, "is_resuming", False) or loop.restarting
        )
        stale, self.lottery._iterator_is_stale = self.lottery._iterator_is_stale, False
        if loop.trainer.current_epoch > 0 and not resuming:
            self.lottery._note_iterator("iterate")
        elif stale and not loop.batch_progress.current.ready:
            self.lottery._note_iterator("iterate")
            iter(data_fetcher)
        super().on_run_start(data_fetcher)  # type: ignore[misc]

    def on_advance_end(self, data_fetcher: Any) -> None:
        loop: Any = self
        super().on_advance_end(data_fetcher)  # type: ignore[misc]
        if not self.lottery.driver.wants_boundary():
            return
        stopping = loop._is_training_done or (
            loop.trainer.should_stop and loop.trainer.fit_loop._can_stop_early
        )
        accumulating = (
            loop.trainer.lightning_module.automatic_optimization
            and loop._should_accumulate()
        )
        if not stopping and not accumulating:
            self.lottery.driver.at_boundary("batch")


class _Results(dict):
    """What the collection of logged values is extended by: the sums of a partly done epoch can be put back."""

    lottery: Fit

    def partial_values(self) -> dict[str, dict[str, Any]]:
        names = ("value", "cumulated_batch_size", "_forward_cache", "_update_count")
        return {
            key: {
                n: getattr(item, n)
                for n in names
                if isinstance(getattr(item, n, None), (Tensor, int))
            }
            for key, item in self.items()
        }

    def refill(self, values: Mapping[str, dict[str, Any]]) -> None:
        self._refill = dict(values)

    def __setitem__(self, key: str, item: Any) -> None:
        for name, value in getattr(self, "_refill", {}).pop(key, {}).items():
            setattr(item, name, value)
        super().__setitem__(key, item)


class _Pristine:
    """What a fit changes outside of checkpoints, as it was before the first round."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._max_epochs = trainer.fit_loop.max_epochs
        self._accumulate = trainer.accumulate_grad_batches
        self._schedulers = list(trainer.lr_scheduler_configs)
        self._group_counts = [
            len(optimizer.param_groups) for optimizer in trainer.optimizers
        ]
        self._requires_grad = [
            (p, p.requires_grad) for p in trainer.lightning_module.parameters()
        ]
        self._callbacks = [
            (
                callback,
                {name: _copy_if_plain(value) for name, value in vars(callback).items()},
            )
            for callback in trainer.callbacks
            if _is_lightnings_own(callback)
        ]

    def restore(self) -> None:
        trainer = self._trainer
        trainer.fit_loop.max_epochs = self._max_epochs
        trainer.accumulate_grad_batches = self._accumulate
        trainer.fit_loop._skip_backward = False
        trainer.strategy.lr_scheduler_configs = list(self._schedulers)
        for optimizer, count in zip(
            trainer.optimizers, self._group_counts, strict=True
        ):
            del optimizer.param_groups[count:]
        for parameter, flag in self._requires_grad:
            parameter.requires_grad_(flag)
        for callback, attributes in self._callbacks:
            vars(callback).clear()
            vars(callback).update(
                {name: _copy_if_plain(value) for name, value in attributes.items()}
            )


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The single numbers among metrics, as floats."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float))
        or (isinstance(value, Tensor) and value.numel() == 1)
    }


def _another_origin(origin: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Random streams for an epoch's iterator that are others than those it was made from."""
    with streams.isolated():
        streams.seed(streams.derive(seed, "epoch"))
        generators = [
            torch.Generator().manual_seed(streams.derive(seed, "epoch", i)).get_state()
            for i, _ in enumerate(origin["generators"])
        ]
        return {**origin, "streams": streams.capture(), "generators": generators}


def _is_a(callback: Any, *names: str) -> bool:
    """Recognise a callback by class name: the same class exists in `pytorch_lightning` and in `lightning`."""
    return any(base.__name__ in names for base in type(callback).__mro__)


def _silent_logger(trainer: Any) -> Any:
    """A logger that drops everything, of the namespace that the Trainer is of."""
    home = next(
        base.__module__
        for base in reversed(type(trainer).__mro__)
        if base.__name__ == "Trainer"
    )
    package = home.rpartition(".trainer.")[0]
    return importlib.import_module(f"{package}.loggers.logger").DummyLogger()


def _is_lightnings_own(callback: Any) -> bool:
    if _is_a(callback, "ProgressBar", "Timer", "LotteryTicket"):
        return False
    return any(
        base.__module__.startswith(("pytorch_lightning.", "lightning."))
        and base.__name__ != "Callback"
        for base in type(callback).__mro__
    )


def _start_timer(timer: Any, elapsed: float) -> None:
    timer._offset = elapsed
    for times in (timer._start_time, timer._end_time):
        for stage in times:
            times[stage] = None


def _all_loops(loop: Any) -> Iterator[Any]:
    yield loop
    for child in vars(loop).values():
        if any(base.__name__ == "_Loop" for base in type(child).__mro__):
            yield from _all_loops(child)


def _generators(loaders: list[Any]) -> list[torch.Generator]:
    """The random generators that loaders draw their order from."""
    found: dict[int, torch.Generator] = {}
    for loader in loaders:
        batch_sampler = getattr(loader, "batch_sampler", None)
        for owner in (
            loader,
            getattr(loader, "sampler", None),
            getattr(batch_sampler, "sampler", None),
        ):
            generator = getattr(owner, "generator", None)
            if isinstance(generator, torch.Generator):
                found[id(generator)] = generator
    return list(found.values())


def _combined_loader_type(trainer: Any) -> Any:
    """Lightning's CombinedLoader, of the Trainer's namespace."""
    home = next(
        base.__module__ for base in type(trainer).__mro__ if base.__name__ == "Trainer"
    )
    package = home.removesuffix(".trainer.trainer")
    return importlib.import_module(
        f"{package}.utilities.combined_loader"
    ).CombinedLoader


def _set_sampler_epochs(loaders: list[Any], epoch: int) -> None:
    for loader in loaders:
        for owner in (loader, getattr(loader, "batch_sampler", None)):
            set_epoch = getattr(getattr(owner, "sampler", None), "set_epoch", None)
            if callable(set_epoch):
                set_epoch(epoch)


def _metrics_of(module: Any) -> dict[str, Any]:
    from torchmetrics import Metric

    return {
        name: part for name, part in module.named_modules() if isinstance(part, Metric)
    }


def _metric_states(module: Any) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "count": metric._update_count,
            "values": {
                key: list(v) if isinstance(v, list) else v
                for key, v in metric.metric_state.items()
            },
        }
        for name, metric in _metrics_of(module).items()
        if metric._update_count
    }


def _restore_metric_states(
    module: Any, states: Mapping[str, Mapping[str, Any]]
) -> None:
    metrics = _metrics_of(module)
    for name, state in states.items():
        metrics[name]._update_count = state["count"]
        for key, value in state["values"].items():
            setattr(metrics[name], key, value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return type(value) is dict and all(
            _is_plain(v) for item in value.items() for v in item
        )
    if isinstance(value, (list, tuple, set)):
        return type(value) in (list, tuple, set) and all(_is_plain(v) for v in value)
    return (
        value is None
        or type(value) in (bool, int, float, complex, str, bytes)
        or isinstance(value, Tensor)
    )


def _copy_if_plain(value: Any) -> Any:
    return copy.deepcopy(value) if _is_plain(value) else value


def _describe(value: Any) -> Any:
    """A setting as something that JSON holds and that compares equal from run to run."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(k): _describe(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_describe(v) for v in value]
    if isinstance(value, Tensor):
        return (
            value.tolist()
            if value.numel() < 100
            else f"tensor of shape {tuple(value.shape)}"
        )
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return f"{getattr(value, '__module__', None) or type(value).__module__}.{name}"
