"""One fit of a Trainer, as the driver of its rounds sees it."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
import math
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from typing import Any, Literal, Protocol

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook

from lottery.foundations import streams
from lottery.foundations.names import load_weights, weights_of
from lottery.foundations.tensors_in import with_tensors
from lottery.storage.directory import STATE
from lottery.training.lightning.described import settings_of
from lottery.training.lightning.kinds import (
    all_loops,
    combined_loader_type,
    is_a,
    silent_logger,
)
from lottery.training.lightning.live import SETTINGS, Live, LoaderStates, look
from lottery.training.lightning.loaders import (
    another_origin,
    built_loaders,
    generators_of,
    iterables_of,
    set_sampler_epochs,
)
from lottery.training.lightning.loops import (
    Checkpoints,
    EpochLoop,
    FitLoop,
    Results,
    ValidationLoop,
)
from lottery.training.lightning.precision import restore_precision
from lottery.training.lightning.schedules import final_rates
from lottery.training.lightning.stored_objects import StoredObjects
from lottery.training.state import Changes, Objects, Snapshot, is_plain, tensors_kept

Position = Literal["start", "epoch", "batch"]
STATE_KEY = "LotteryTicket"  # the key of the callback's state in checkpoints
_UNSUPPORTED = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")
_FORMAT = 3  # of states
# of a state: are plain forms already
_WRITTEN = ("now", "iterator", "live", "validation")
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

    def after_batch(self) -> None:
        """Called after the hooks of a batch and before its validation."""

    def wants_boundary(self) -> bool:
        """Asked after every batch whether `at_boundary` has anything to do."""

    def restored(self) -> None:
        """Called when live objects were put back after a training had started."""

    def at_boundary(self, position: Position | Literal["end"]) -> None:
        """Called with "epoch" or "batch" where a state can be captured and the round goes on, and with "end" after the
        last epoch of a round."""


class Fit:
    """One `trainer.fit`, as the driver of the rounds sees it.

    Args:
        trainer: a Trainer in `setup(stage="fit")`.
        callback: the LotteryTicket.
        own_type: base class of callbacks that this Trainer accepts.

    Attributes:
        round: the round in progress, after which folders are named.
        data_round: the round that loaders are told whose order depends on it.
    """

    driver: Driver

    def __init__(self, trainer: Any, callback: Any, own_type: type) -> None:
        name = type(trainer.strategy).__name__
        if name in _UNSUPPORTED:
            raise ValueError(
                f"LotteryTicket needs whole parameters on every device; {name} shards them. Use 'ddp'."
            )
        several = [c for c in trainer.callbacks if is_a(c, "LotteryTicket")]
        if len(several) > 1:
            raise ValueError(
                f"a Trainer takes one LotteryTicket; this one has {len(several)}. Give each run its own Trainer."
            )
        if any(is_a(c, "ModelPruning") for c in trainer.callbacks):
            raise ValueError(
                "Lightning's ModelPruning replaces the module's parameters by masked ones, which LotteryTicket prunes itself."
                " Leave one of the two callbacks out."
            )
        self.trainer = trainer
        self.round = 0
        self.data_round = 0
        self._callback = callback
        self._own_type = own_type
        self._iterator_origin: dict[str, Any] | None = None
        self._iterator_is_stale = False
        self._first_iterator: Mapping[str, Any] | None = None
        self._enter: list[Callable[[], object]] = []
        self._entering_mid_epoch = False
        self._folders: dict[int, str] = {}
        self._extended: list[tuple[Any, type]] = []
        self._live: Live | None = None
        self._beforehand: list[tuple[Objects, Objects]] = []
        self._restored_from: object = None  # while Lightning loads it
        self._orders = LoaderStates()
        self._validation: Changes | None = None  # of loaders that are to be made
        self._stored_objects = StoredObjects(self._dump)
        self._state: dict[str, Any] | None = None
        self._built: Changes = {}
        self._build_from: tuple[Any, Any, Collection[str]] | None = None
        self._named: set[str] = set()
        self._lost_orders: list[str] = []
        self._example: Any = None
        self._watching: Callable[[], object] = lambda: None

    # what the loops are extended by

    def install(self, driver: Driver) -> None:
        """Extend the Trainer's loops, so that `driver` runs in place of the training, until `uninstall`."""
        self.driver = driver
        fit_loop = self.trainer.fit_loop
        for target, extension in (
            (fit_loop, FitLoop),
            (fit_loop.epoch_loop, EpochLoop),
            (fit_loop.epoch_loop._results, Results),
            (fit_loop.epoch_loop.val_loop, ValidationLoop),
            (self.trainer._checkpoint_connector, Checkpoints),
        ):
            self._extended.append((target, type(target)))
            target.__class__ = type(extension.__name__, (extension, type(target)), {})
            target.lottery = self

    def uninstall(self) -> None:
        self.stop_watching()
        for target, original in self._extended:
            target.__class__ = original
            del target.lottery
        self._extended.clear()

    def run(self) -> None:
        if self.is_own:
            self._live = Live(self.trainer, self._beforehand)
            self._orders.live = self._live
            self.driver.run()
        else:
            self.train()

    @property
    def is_own(self) -> bool:
        """Whether the fit is one of the LotteryTicket's: tuners take the callbacks away and run the loop for themselves."""
        return any(callback is self._callback for callback in self.trainer.callbacks)

    def train(self) -> None:
        """Run the Trainer's own training once: one round, from wherever `begin` put it."""
        self.trainer.fit_loop.run_once()

    # what the driver reads

    @property
    def module(self) -> Any:
        return self.trainer.lightning_module

    @property
    def is_resuming(self) -> bool:
        """Whether Lightning restores a checkpoint that the user has named, rather than one of a tuner's or, unasked, of
        OnExceptionCheckpoint: the run itself knows more than that."""
        path = self._restored_from
        unasked = [
            c for c in self.trainer.callbacks if is_a(c, "OnExceptionCheckpoint")
        ]
        named = path is not None and all(c.ckpt_path != path for c in unasked)
        return self.is_own and named

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
        """The module's own state dict by canonical names, tensors only."""
        return weights_of(self.module)

    def optimizers(self) -> list[Any]:
        """The Trainer's, and those that the module or a callback holds and steps by itself."""
        assert self._live is not None
        own = list(self.trainer.optimizers)
        return [*own, *(held for held in self._live.optimizers() if held not in own)]

    def settings(self) -> dict[str, Any]:
        """What defines a round besides the callback's own arguments, as plain data."""
        return settings_of(self.trainer)

    def trains_nothing(self) -> str | None:
        """The Trainer's setting that leaves a round without a step, as it would be written, or None."""
        trainer = self.trainer
        limits = ("max_epochs", "max_steps", "limit_train_batches")
        return next((f"{n}=0" for n in limits if getattr(trainer, n) == 0), None)

    def never_ends(self) -> bool:
        """Whether nothing that is known here ends a training."""
        unlimited = self.max_epochs == -1 and self.trainer.max_steps == -1
        ends = [c for c in self.trainer.callbacks if is_a(c, "EarlyStopping", "Timer")]
        return unlimited and not ends

    def steps_in_an_epoch(self) -> float:
        """Optimizer steps in an epoch, infinity where that is not known. Makes the training data as the first epoch would.

        Callbacks that accumulate more and more batches may make them fewer.
        """
        if not self.module.automatic_optimization:
            return math.inf
        loop = self.trainer.fit_loop
        loop.setup_data()
        if not math.isfinite(loop.max_batches):
            return math.inf
        return math.ceil(loop.max_batches / self.trainer.accumulate_grad_batches)

    def averages_from(self) -> float:
        """The epoch in which weights begin to be averaged by SWA, from when on no state can be captured."""
        swa = [
            c for c in self.trainer.callbacks if is_a(c, "StochasticWeightAveraging")
        ]
        starts = [
            s if isinstance(s := c._swa_epoch_start, int) else int(self.max_epochs * s)
            for c in swa
        ]
        return min((max(start - 1, 0) for start in starts), default=math.inf)

    def persistent_loaders(self) -> list[str]:
        """The training data loaders, as far as they are made, whose workers live on from epoch to epoch."""
        return [
            type(loader).__name__
            for loader in self._train_loaders()
            if getattr(loader, "persistent_workers", False)
        ]

    def final_rates(self, steps_in_an_epoch: float) -> list[float] | None:
        """The largest learning rate of each optimizer at the end of a round, over the largest of the round; None where
        schedules cannot be foretold."""
        return final_rates(self.trainer, steps_in_an_epoch)

    def not_stored(self) -> list[str]:
        """What a state does not hold, since it has no plain form: each with its owner and kind, and only once."""
        assert self._live is not None
        found = [*self._live.opaque(), *self._live.lost(), *self._stored_objects.names]
        return self._not_yet_named(found)

    def lost_orders(self) -> list[str]:
        """Data sets that are iterated and draw from torch's global stream as they go: in an epoch that is made again, they
        do not know what training has drawn in between. Only once."""
        return self._not_yet_named(self._lost_orders)

    def _not_yet_named(self, found: list[str]) -> list[str]:
        new = [name for name in dict.fromkeys(found) if name not in self._named]
        self._named.update(new)
        return new

    def agrees(self, value: Callable[[], bytes]) -> bool:
        """Whether all processes of a distributed fit have the same value."""
        strategy = self.trainer.strategy
        if self.trainer.world_size == 1:
            return True
        digest = hashlib.sha256(value()).hexdigest()
        same = strategy.broadcast(digest) == digest
        return bool(strategy.reduce_boolean_decision(same, all=True))

    def metrics(self) -> dict[str, Tensor]:
        """The metrics known to callbacks; a value is the same object until it is logged again."""
        return dict(self.trainer.callback_metrics)

    def monitored(self) -> tuple[str, str] | None:
        """Metric and mode of the first EarlyStopping or ModelCheckpoint that has one."""
        for callback in self.trainer.callbacks:
            if is_a(callback, "EarlyStopping", "ModelCheckpoint") and callback.monitor:
                return callback.monitor, callback.mode
        return None

    def show(self, **values: float | str) -> None:
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
            callback for callback in self.trainer.callbacks if is_a(callback, "Timer")
        ]

    # capture

    def capture(self, position: Position) -> dict[str, Any]:
        """A Lightning checkpoint of this moment, with what Lightning leaves out under the key "lottery", all plain.

        Raises:
            TypeError: it holds something that cannot be stored safely, and that was not there when the fit began; the
                message names its owner.
        """
        trainer = self.trainer
        loop = trainer.fit_loop
        logger = trainer._logger_connector
        assert self._live is not None
        with self._live.undisturbed() as now:
            self._state = self.state(now)
            with streams.isolated():
                checkpoint = self._dump()
        for key in ("hyper_parameters", "datamodule_hyper_parameters"):
            if key in checkpoint:
                checkpoint[key] = {
                    k: v for k, v in checkpoint[key].items() if is_plain(v)
                }
        state: dict[str, Any] = {
            "position": position,
            "round": self.round,
            "weights": self.weights(),
            "gradients": {
                name: parameter.grad
                for name, parameter in self.module.named_parameters()
                if parameter.grad is not None
            },
            **self._state,
            "should_stop": trainer.should_stop,
            "reloaded": loop._last_train_dl_reload_epoch,
            "logged": {name: copy.copy(getattr(logger, name)) for name in _LOGGED},
        }
        if position == "batch":
            state["loaders"] = self._states_of_loaders()
            state["results"] = loop.epoch_loop._results.partial_values()
        self._state = None
        written = {key: state.pop(key) for key in _WRITTEN}
        checkpoint = self._stored_objects.encode({**checkpoint, STATE: state})
        checkpoint[STATE] |= written
        return checkpoint

    @property
    def is_capturing(self) -> bool:
        """Whether a checkpoint is being taken for the run, rather than for the user."""
        return self._state is not None

    def _dump(self) -> dict[str, Any]:
        return self.trainer._checkpoint_connector.dump_checkpoint(weights_only=False)

    def can_capture(self) -> bool:
        """Whether a state captured now could be entered again; not while weights are being averaged by SWA."""
        averaging = any(
            is_a(callback, "StochasticWeightAveraging") and callback._initialized
            for callback in self.trainer.callbacks
        )
        return not averaging

    def state(self, now: Snapshot | None = None) -> dict[str, Any]:
        """What Lightning's checkpoints leave out: the random streams now, and those from which the current epoch's
        iterator was made; what training has changed in live objects, `now` or by another look."""
        if self._state is not None:
            return (
                self._state
            )  # asked for by the callback while a checkpoint is captured
        assert self._live is not None
        return {
            "format": _FORMAT,
            "now": self._capture_streams(),
            "iterator": self._iterator_origin,
            "live": self._live.changes() if now is None else now.changes,
            "validation": self._orders.capture(self._validation_loaders()),
        }

    def _capture_streams(self) -> dict[str, Any]:
        return {
            "streams": streams.capture(),
            "generators": [g.get_state() for g in self._generators()],
            "loaders": self._orders.capture(self._train_loaders()),
        }

    def _restore_streams(self, state: Mapping[str, Any]) -> None:
        streams.restore(state["streams"])
        self._restore_loaders(state)

    def _restore_loaders(self, state: Mapping[str, Any], counters: bool = True) -> None:
        if counters:
            self._orders.restore(self._train_loaders(), state.get("loaders", {}))
        for generator, known in zip(
            self._generators(), state["generators"], strict=False
        ):
            generator.set_state(known)

    def _generators(self) -> list[torch.Generator]:
        return generators_of(self._train_loaders())

    def _train_loaders(self) -> list[Any]:
        return built_loaders(self.trainer.fit_loop)

    def _validation_loaders(self) -> list[Any]:
        return built_loaders(self.trainer.fit_loop.epoch_loop.val_loop)

    def _states_of_loaders(self) -> list[dict[str, Any]] | None:
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

    def as_at_first(self) -> None:
        """Have live objects as they were when the fit began, so that the module has the parts that it had then."""
        assert self._live is not None
        self._live.restore({})

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
        state = dict(checkpoint[STATE])
        _check_form(state)
        written = {key: state.pop(key) for key in _WRITTEN}
        checkpoint = self._stored_objects.decode({**checkpoint, STATE: state})
        state = checkpoint[STATE] = {**checkpoint[STATE], **written}
        # records of files and of time belong to the round that made them
        own = () if resuming else ("ModelCheckpoint", "Timer")
        left_out = {c.state_key for c in self.trainer.callbacks if is_a(c, *own)}
        self._drop_loaders()
        self._reset_logged()
        self._restore(checkpoint, left_out)
        self._validation = state["validation"]
        for name in _LOGGED:
            known = copy.copy(state["logged"][name])
            setattr(self.trainer._logger_connector, name, known)
        for timer in self._timers():
            start_timer(timer, seconds if not resuming else timer._offset)
        self.trainer.should_stop = resuming and state["should_stop"]
        self._enter = (
            []
            if state["position"] == "start"
            else [
                lambda: self._undo_start(state["live"], left_out),
                lambda: self._reload_as(state),
            ]
        )
        if (built := (state["iterator"] or {}).get("built")) is not None:
            self._build_from = built, state["live"], left_out
        if state["position"] == "batch":
            self._begin_mid_epoch(state, seed, reorder)
        elif seed is not None:
            self._begin_epoch(state, seed)
        elif state["position"] == "start":
            if state["iterator"] is not None:
                self._build_loaders_as(state["iterator"])
            self._restore_streams(state["now"])
        else:
            self.trainer.fit_loop.setup_data()
            self._enter.append(lambda: self._restore_streams(state["now"]))

    def adopt(self, random: Mapping[str, Any], metrics: Mapping[str, Tensor]) -> bool:
        """Go on from a checkpoint that Lightning itself has restored from `ckpt_path`.

        Args:
            random: what `state` returned when it was saved.
            metrics: what `metrics` returned then.

        Returns:
            Whether it was saved at the very end of an epoch, so that Lightning goes on with the next one.
        """
        _check_form(random)
        loop = self.trainer.fit_loop
        batches, epochs = loop.epoch_loop.batch_progress, loop.epoch_progress.current
        stateful = bool(loop._combined_loader_states_to_load)
        self._drop_loaders()
        self._validation, live = random["validation"], random["live"]
        assert self._live is not None
        self._live.restore(live)
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
        self._enter = [
            lambda: self._undo_start(live, ()),
            lambda: self._restore_streams(random["now"]),
        ]
        return epochs.processed > epochs.completed

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
        set_sampler_epochs(self._train_loaders(), loop.epoch_progress.current.processed)
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
            if "first" in origin:
                self._restore_streams(origin["first"])
            self._pass_over(given)
        self._iterator_origin = dict(origin)

    def _pass_over(self, given: int) -> None:
        fetcher, after_first = self.trainer.fit_loop._data_fetcher, None
        for already in range(given):
            if next(fetcher, None) is None:
                raise ValueError(
                    f"the round was stopped after {given} batches of an epoch, and the data that it is to go on with have"
                    f" {already}. Go on with the data of the run, or start anew in another dirpath."
                )
            after_first = after_first or streams.fingerprint(streams.capture())
        fetcher.fetched -= given  # the epoch loop adds them again
        if given and streams.fingerprint(streams.capture()) != after_first:
            self._lost_orders = iterables_of(self._train_loaders())

    def _begin_epoch(self, state: Mapping[str, Any], seed: int) -> None:
        """Start a round at the beginning of an epoch, on random streams of its own."""
        loop, loaders = self.trainer.fit_loop, state["now"].get("loaders", {})
        self._first_iterator = {"generators": [], "loaders": loaders}
        streams.seed(seed)
        loop.setup_data()
        if self._seed_loaders(seed):  # the iterator was made with other draws
            self._orders.restore(self._train_loaders(), loaders)
            self._seed(seed)
            self._note_iterator("iterate")
            iter(loop._data_fetcher)

        def count_as_captured() -> None:
            generators = [g.get_state() for g in self._generators()]
            self._orders.restore(self._train_loaders(), loaders)
            self._seed_loaders(seed)
            self._restore_loaders({"generators": generators}, counters=False)

        if state["position"] == "epoch":  # which makes an iterator of its own
            self._enter.append(count_as_captured)

    def _begin_mid_epoch(
        self, state: Mapping[str, Any], seed: int | None, reorder: bool
    ) -> None:
        given = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if reorder and seed is not None:
            origin = another_origin(state["iterator"], seed)
            self._make_iterator_again(origin, given, reorder=True)
        else:
            self._make_iterator_again(state["iterator"], given, state["loaders"])
        self.trainer.fit_loop.epoch_loop._results.refill(state["results"])
        self._entering_mid_epoch = True
        self._enter.append(
            (lambda: self._restore_streams(state["now"]))
            if seed is None
            else (lambda: self._seed(seed))
        )

    def _undo_start(self, live: Changes, without: Collection[str]) -> None:
        """Put back what the hooks of a training's start have changed, but for the order of the data."""
        self._put_live(live, without)
        self.driver.restored()

    def _reload_as(self, state: Mapping[str, Any]) -> None:
        """Have loaders that are made anew every few epochs be made when they would have been."""
        self.trainer.fit_loop._last_train_dl_reload_epoch = state["reloaded"]

    def _put_live(self, live: Changes, without: Collection[str] = ()) -> None:
        """Have live objects as `live` has them, but for the loaders."""
        assert self._live is not None
        now = self._capture_streams()
        self._live.enter(live, without)
        self._restore_loaders(now)

    def _seed(self, seed: int) -> None:
        streams.seed(seed)
        self._seed_loaders(seed)

    def _seed_loaders(self, seed: int) -> bool:
        """Seed what draws the order of the data; whether there is anything."""
        return self._orders.seed(self._train_loaders(), seed)

    def _restore(
        self, checkpoint: Mapping[str, Any], left_out: Collection[str]
    ) -> None:
        assert self._live is not None
        state = checkpoint[STATE]
        self._live.restore(state["live"], without=left_out)
        self.file_under(self.round)
        callbacks = {
            key: value
            for key, value in checkpoint.get("callbacks", {}).items()
            if key not in {*left_out, STATE_KEY}
        }
        connector = self.trainer._checkpoint_connector
        connector._loaded_checkpoint = {**checkpoint, "callbacks": callbacks}
        connector.restore_datamodule()
        connector.restore_model()
        connector.restore_callbacks()
        connector.restore_training_state()
        for optimizer, saved in zip(
            self.trainer.optimizers, checkpoint["optimizer_states"], strict=True
        ):
            restore_precision(optimizer, saved)
        connector._loaded_checkpoint = {}
        # what checkpoints hold may be renamed, thinned or averaged
        load_weights(self.module, state["weights"])
        self._live.enter(state["live"], {*left_out, *SETTINGS})
        for name, parameter in self.module.named_parameters():
            gradient = state["gradients"].get(name)
            parameter.grad = None if gradient is None else gradient.to(parameter.device)
        self.trainer.fit_loop._combined_loader_states_to_load = []
        for loop in all_loops(self.trainer.fit_loop):
            for flag in (
                "_restarting",
                "_loaded_from_state_dict",
                "_resuming_from_checkpoint",
            ):
                if hasattr(loop, flag):
                    setattr(loop, flag, False)

    def _reset_logged(self) -> None:
        logger = self.trainer._logger_connector
        self.trainer.fit_loop.epoch_loop._results.clear()
        self.trainer.fit_loop.epoch_loop.val_loop._results.clear()
        logger.reset_metrics()
        logger.reset_results()

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
            if is_a(callback, "ModelCheckpoint") and callback.dirpath is not None:
                base = self._folders.setdefault(
                    id(callback), str(callback.dirpath).rstrip("/")
                )
                callback.dirpath = f"{base}/round-{round:02d}" if round else base

    def rest_schedulers(self) -> None:
        """Keep the learning rate as it is for this round."""
        self.trainer.strategy.lr_scheduler_configs = []

    def undisturbed(self) -> contextlib.AbstractContextManager[object]:
        """A block after which attributes, metrics, modes and loaders are as they were before it."""
        assert self._live is not None
        return self._live.undisturbed()

    # score

    def training_batches(self, seed: int) -> Generator[Any, None, None]:
        """Fresh batches of the training data, on the module's device, in an order of their own.

        Every process of a distributed fit gets the same. Between rounds only: the loaders are those of the next one.
        """
        trainer = self.trainer
        source = trainer.fit_loop._data_source.dataloader()
        kind = combined_loader_type(trainer)
        loaders = source if isinstance(source, kind) else kind(source, "max_size_cycle")
        for loader in loaders.flattened:
            if hasattr(loader, "set_round"):
                loader.set_round(self.data_round)
        generators = generators_of(loaders.flattened)
        before = [generator.get_state() for generator in generators]
        streams.seed(seed)
        for index, generator in enumerate(generators):
            generator.manual_seed(streams.derive(seed, "loader", index))
        set_sampler_epochs(loaders.flattened, 0)
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
        found = self._training_step(module, batch)
        loss = found.get("loss") if isinstance(found, Mapping) else found
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"the training_step of {type(module).__name__} gave {type(found).__name__} and no loss, so there is"
                " nothing to score with"
            )
        return loss

    def _training_step(self, module: Any, batch: Any) -> Any:
        step = module.training_step
        takes_index = len(inspect.signature(step).parameters) > 1
        loggers = self.trainer.loggers
        self.trainer.loggers = [silent_logger(self.trainer) for _ in loggers]
        module.log = module.log_dict = lambda *_, **__: None
        try:
            return step(batch, 0) if takes_index else step(batch)
        finally:
            del module.log, module.log_dict
            self.trainer.loggers = loggers

    def check_loss(self) -> None:
        """Raise where `training_step` gives no loss because the module does its own optimization."""
        if not self.module.automatic_optimization:
            raise ValueError(
                f"{type(self.module).__name__} optimizes manually, so its training_step gives no loss to score with. Use a"
                " score without data, such as 'magnitude' or 'synflow', or a function of your own."
            )

    def note_batch(self, batch: Any) -> None:
        """Remember what a training batch looks like, and what `forward` gets of it, from the first of a fit."""
        if self._example is None:
            first = batch[0] if isinstance(batch, (list, tuple)) else batch
            if isinstance(first, Mapping):
                takes = inspect.signature(self.module.forward).parameters
                first = {k: v for k, v in first.items() if k in takes} or first
            self._example = with_tensors(first, _first_sample)
            self._watch_forward()

    def _watch_forward(self) -> None:
        """See what the next call of the module gets, in this step: a validation may call it with something else."""
        self.stop_watching()

        def note(
            module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any
        ) -> None:
            if module is not self.module:
                return
            self.stop_watching()
            called = inspect.signature(module.forward).bind(*args, **kwargs)
            found: Any = dict(called.arguments) if called.kwargs else called.args
            if isinstance(found, tuple) and len(found) == 1:
                found = found[0] if isinstance(found[0], Tensor) else found
            self._example = with_tensors(found, _first_sample)

        # not one of the module's own hooks, where torch can do without: a step may copy the module
        register: Any = register_module_forward_hook
        if "with_kwargs" not in inspect.signature(register).parameters:
            register = self.module.register_forward_hook
        handle = register(note, with_kwargs=True)
        self._watching = handle.remove

    def stop_watching(self) -> None:
        self._watching()
        self._watching = lambda: None

    def example_input(self, seed: int) -> Any:
        """What the module's `forward` takes, of one sample: its `example_input_array`, or what it gets in a training step.

        Where it is not called in a step, what comes first in a training batch.
        """
        module = self.module
        if module.example_input_array is not None:
            return apply_to_collection(
                module.example_input_array, Tensor, lambda t: t.to(module.device)
            )
        if self._example is None:
            batches = self.training_batches(seed)
            with streams.isolated(), contextlib.closing(batches):
                batch = next(batches)
                self.note_batch(batch)
                # a step says best what forward gets; where it fails, what comes first has to do (without gradients a
                # step of a module that optimizes manually ends before its optimizer's)
                with contextlib.suppress(Exception), torch.no_grad():
                    self._training_step(module, batch)
            self.stop_watching()
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
        validation, self._validation = self._validation, None
        progress, verbose = copy.deepcopy(loop.batch_progress), loop.verbose
        logged_before = {name: copy.copy(getattr(logger, name)) for name in _LOGGED}
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
            with self.undisturbed(), tensors_kept(self.module):
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
            self._validation = validation
            for name, value in logged_before.items():
                setattr(logger, name, value)
            loop.batch_progress, loop.verbose = progress, verbose
            if stage == "validate":
                for name, value in loop_before.items():
                    setattr(loop, name, value)

    # what the extended loops and the extended connector call

    @contextlib.contextmanager
    def beforehand(self) -> Generator[None]:
        """A block in which Lightning loads a checkpoint or has loaders made: before the rounds begin, what that changes is
        not taken for how live objects were at first."""
        if self._live is not None or not self.is_own:
            yield
            return
        before = look(self.trainer)
        yield
        self._beforehand.append((before, look(self.trainer)))

    def _tell_round(self) -> None:
        """Tell the round to loaders whose order depends on it."""
        for loader in self._train_loaders():
            if hasattr(loader, "set_round"):
                loader.set_round(self.data_round)

    def _build_loaders_as(self, origin: Mapping[str, Any]) -> None:
        """Build the loaders and their first iterator from the random streams of `origin`."""
        self._first_iterator = origin
        self._restore_streams(origin)
        self.trainer.fit_loop.setup_data()

    def _before_first_iterator(self) -> None:
        if self._first_iterator is not None:
            self._restore_loaders(self._first_iterator)
            self._first_iterator = None
        if self._iterator_origin is not None:
            now = self._capture_streams()
            self._iterator_origin |= {k: now[k] for k in ("generators", "loaders")}

    def _before_first_batch(self) -> None:
        """Samplers draw their order when they are first asked, after hooks that may have drawn from the same streams."""
        if self._iterator_origin is not None:
            self._iterator_origin["first"] = self._capture_streams()

    def _before_build(self) -> None:
        """Have loaders made as they were made first, where making them changes what the next ones are."""
        if self._build_from is not None:
            built, _, without = self._build_from
            self._put_live(built, {*without, *SETTINGS})
        if self._live is not None:
            self._built = self._live.changes()

    def _after_build(self) -> None:
        if self._build_from is not None:
            _, live, without = self._build_from
            self._build_from = None
            self._put_live(live, {*without, *SETTINGS})

    def _after_validation_build(self) -> None:
        """Have loaders of validations, once they are made, go on as they were."""
        if self._validation is not None:
            self._orders.restore(self._validation_loaders(), self._validation)
            self._validation = None

    def _note_iterator(self, kind: Literal["build", "iterate"]) -> None:
        origin = {"kind": kind, "built": self._built, **self._capture_streams()}
        self._iterator_origin = origin

    def enter(self) -> bool:
        """Set the random streams of a resumed round; whether it goes on in the middle of an epoch."""
        for step in self._enter:
            step()
        self._enter = []
        return self._entering_mid_epoch

    def entered(self) -> None:
        self._entering_mid_epoch = False


def _check_form(state: Mapping[str, Any]) -> None:
    if state.get("format") != _FORMAT:
        raise ValueError(
            "the state that this round goes on from was saved by another version of lottery, which knew another form of"
            " states. Go on with that version, or take a new dirpath. What is finished can be read."
        )


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The single numbers among metrics, as floats."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float))
        or (isinstance(value, Tensor) and value.numel() == 1)
    }


def _first_sample(x: Tensor) -> Tensor:
    return x[:1].detach().clone() if x.ndim else x.detach().clone()


def start_timer(timer: Any, elapsed: float) -> None:
    timer._offset = elapsed
    for times in (timer._start_time, timer._end_time):
        for stage in times:
            times[stage] = None
