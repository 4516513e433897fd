"""Entering a state of a fit: in this process or another, and going on from there."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lottery.foundations.names import load_weights
from lottery.runs.layout import CALLBACK, STATE
from lottery.storage.directory import StorageError
from lottery.training.lightning.data import Data
from lottery.training.lightning.driver import Driver
from lottery.training.lightning.kinds import all_loops, is_a
from lottery.training.lightning.live import SETTINGS
from lottery.training.lightning.loaders import another_origin
from lottery.training.lightning.precision import restore_precision
from lottery.training.lightning.reading import timers
from lottery.training.lightning.states import FORMAT, LOGGED, WRITTEN, States
from lottery.training.state import Changes, Plain

if TYPE_CHECKING:
    from lottery.training.lightning.namespaces import Trainer


class Entering:
    """How a fit is put where a state was captured.

    Args:
        trainer: the fit's.
        data: its loaders.
        states: its states.

    Attributes:
        driver: of the rounds.
        mid_epoch: whether the round goes on in the middle of an epoch that was not entered yet.
    """

    driver: Driver

    def __init__(self, trainer: Trainer, data: Data, states: States) -> None:
        self.trainer = trainer
        self.data = data
        self._states = states
        self.mid_epoch = False
        self._enter: list[Callable[[], object]] = []
        self._folders: dict[int, str] = {}

    def begin(
        self, checkpoint: Mapping[str, Plain], *, seed: int | None = None, seconds: float = 0.0, reorder: bool = False
    ) -> None:
        """Put the fit where `checkpoint` was captured.

        Args:
            checkpoint: what `capture` returned, read back from a file (its tensors are taken over).
            seed: None goes on with the captured random streams: the same round, resumed. A seed starts a new round
                at the captured point: other random streams, callbacks that name files or count time as at first.
            seconds: time that the rounds so far have taken, for `Trainer(max_time=...)`.
            reorder: with a seed, inside an epoch: whether the rest of the epoch comes in another order too: the epoch
                is begun anew in one, and as many batches left out as were given.
        """
        resuming = seed is None
        state = dict(checkpoint[STATE])
        _check_form(state)
        written = {key: state.pop(key) for key in WRITTEN}
        checkpoint = self._states.stored_objects.decode({**checkpoint, STATE: state})
        state = checkpoint[STATE] = {**checkpoint[STATE], **written}
        # records of files and of time belong to the round that made them
        own = () if resuming else ("ModelCheckpoint", "Timer")
        left_out = {c.state_key for c in self.trainer.callbacks if is_a(c, *own)}
        self.data.drop()
        self._reset_logged()
        self._restore(checkpoint, left_out)
        self.data.validation = state["validation"]
        for name in LOGGED:
            known = copy.copy(state["logged"][name])
            setattr(self.trainer._logger_connector, name, known)
        for timer in timers(self.trainer):
            _start_timer(timer, seconds if not resuming else timer._offset)
        self.trainer.should_stop = resuming and state["should_stop"]
        self._enter = (
            []
            if state["position"] == "start"
            else [lambda: self._undo_start(state["live"], left_out), lambda: self._reload_as(state)]
        )
        if (built := (state["iterator"] or {}).get("built")) is not None:
            self.data.build_from(built, state["live"], left_out)
        if state["position"] == "batch":
            self._begin_mid_epoch(state, seed, reorder)
        elif seed is not None:
            counted = self.data.begin_epoch(state["now"]["loaders"], seed)
            if state["position"] == "epoch":
                self._enter.append(counted)
        elif state["position"] == "start":
            if state["iterator"] is not None:
                self.data.build_as(state["iterator"])
            self.data.restore_streams(state["now"])
        else:
            self.trainer.fit_loop.setup_data()
            self._enter.append(lambda: self.data.restore_streams(state["now"]))

    def adopt(self, random: Mapping[str, Plain], metrics: Mapping[str, Tensor]) -> bool:
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
        self.data.drop()
        self.data.validation, live = random["validation"], random["live"]
        self._states.live.restore(live)
        if random["iterator"] is not None and batches.current.ready and not batches.is_last_batch:
            self.data.make_iterator_again(random["iterator"], 0 if stateful else batches.current.ready)
        else:
            loop.setup_data()
            self.data.is_stale = True
        self.trainer._logger_connector._callback_metrics = dict(metrics)
        self._enter = [lambda: self._undo_start(live, ()), lambda: self.data.restore_streams(random["now"])]
        return epochs.processed > epochs.completed

    def enter(self) -> bool:
        """Set the random streams of a resumed round; whether it goes on in the middle of an epoch."""
        for step in self._enter:
            step()
        self._enter = []
        return self.mid_epoch

    def entered(self) -> None:
        self.mid_epoch = False

    def file_under(self, number: int) -> None:
        """Give every ModelCheckpoint a folder for a round: its own for round 0, "round-01" and so on below it."""
        for callback in self.trainer.callbacks:
            if is_a(callback, "ModelCheckpoint") and callback.dirpath is not None:
                base = self._folders.setdefault(id(callback), str(callback.dirpath).rstrip("/"))
                callback.dirpath = f"{base}/round-{number:02d}" if number else base

    def rest_schedulers(self) -> None:
        """Keep the learning rate as it is for this round."""
        self.trainer.strategy.lr_scheduler_configs = []

    def _begin_mid_epoch(self, state: Mapping[str, Plain], seed: int | None, reorder: bool) -> None:
        given = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if reorder and seed is not None:
            origin = another_origin(state["iterator"], seed)
            self.data.make_iterator_again(origin, given, reorder=True)
        else:
            self.data.make_iterator_again(state["iterator"], given, state["loaders"])
        self.trainer.fit_loop.epoch_loop._results.refill(state["results"])
        self.mid_epoch = True
        self._enter.append(
            (lambda: self.data.restore_streams(state["now"])) if seed is None else (lambda: self.data.seed(seed))
        )

    def _undo_start(self, live: Changes, without: Collection[str]) -> None:
        """Put back what the hooks of a training's start have changed, but for the order of the data."""
        self.data.put_live(live, without)
        self.driver.restored()

    def _reload_as(self, state: Mapping[str, Plain]) -> None:
        """Have loaders that are made anew every few epochs be made when they would have been."""
        self.trainer.fit_loop._last_train_dl_reload_epoch = state["reloaded"]

    def _restore(self, checkpoint: Mapping[str, Plain], left_out: Collection[str]) -> None:
        state = checkpoint[STATE]
        self._states.live.restore(state["live"], without=left_out)
        self.file_under(self._states.round)
        callbacks = {
            key: value for key, value in checkpoint.get("callbacks", {}).items() if key not in {*left_out, CALLBACK}
        }
        connector = self.trainer._checkpoint_connector
        connector._loaded_checkpoint = {**checkpoint, "callbacks": callbacks}
        connector.restore_datamodule()
        connector.restore_model()
        connector.restore_callbacks()
        connector.restore_training_state()
        for optimizer, saved in zip(self.trainer.optimizers, checkpoint["optimizer_states"], strict=True):
            restore_precision(optimizer, saved)
        connector._loaded_checkpoint = {}
        # what checkpoints hold may be renamed, thinned or averaged
        load_weights(self.trainer.lightning_module, state["weights"])
        self._states.live.enter(state["live"], {*left_out, *SETTINGS})
        for name, parameter in self.trainer.lightning_module.named_parameters():
            gradient = state["gradients"].get(name)
            parameter.grad = None if gradient is None else gradient.to(parameter.device)
        self.trainer.fit_loop._combined_loader_states_to_load = []
        for loop in all_loops(self.trainer.fit_loop):
            for flag in ("_restarting", "_loaded_from_state_dict", "_resuming_from_checkpoint"):
                if hasattr(loop, flag):
                    setattr(loop, flag, False)

    def _reset_logged(self) -> None:
        logger = self.trainer._logger_connector
        self.trainer.fit_loop.epoch_loop._results.clear()
        self.trainer.fit_loop.epoch_loop.val_loop._results.clear()
        logger.reset_metrics()
        logger.reset_results()


def _check_form(state: Mapping[str, Plain]) -> None:
    if state.get("format") != FORMAT:
        raise StorageError(
            "the state that this round goes on from was saved by another version of lottery, which knew another form of"
            " states. Go on with that version, or take a new dirpath. What is finished can be read."
        )


def _start_timer(timer: Any, elapsed: float) -> None:
    timer._offset = elapsed
    for times in (timer._start_time, timer._end_time):
        for stage in times:
            times[stage] = None
