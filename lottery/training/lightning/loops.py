"""What Lightning's loops are extended by, and what loads its checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from lottery.training.lightning.data import Data
from lottery.training.lightning.driver import Driver
from lottery.training.lightning.entering import Entering
from lottery.training.lightning.kinds import new_result
from lottery.training.lightning.scoring import Scoring
from lottery.training.lightning.states import States
from lottery.training.state import Plain

if TYPE_CHECKING:
    from lottery.training.lightning.namespaces import Trainer


class Lottery(Protocol):
    """What the extensions call: a `Fit`."""

    trainer: Trainer
    driver: Driver
    data: Data
    states: States
    entering: Entering
    scoring: Scoring

    def run(self) -> None: ...
    def reached_its_end(self) -> bool: ...


class FitLoop:
    """What Lightning's fit loop is extended by."""

    lottery: Lottery

    def run(self) -> None:
        self.lottery.run()

    def run_once(self) -> None:
        super().run()  # type: ignore[misc]

    def setup_data(self) -> None:
        loop: Any = self
        if loop._combined_loader is not None and not loop._should_reload_train_dl:
            super().setup_data()  # type: ignore[misc]
            return
        self.lottery.data.before_build()
        self.lottery.data.note_iterator("build")
        with self.lottery.states.beforehand():
            super().setup_data()  # type: ignore[misc]
        self.lottery.data.after_build()
        self.lottery.data.tell_round()

    def _load_combined_loader_states(self) -> None:
        """Called when the loaders are there and their iterator is not."""
        super()._load_combined_loader_states()  # type: ignore[misc]
        self.lottery.data.before_first_iterator()

    def on_advance_start(self) -> None:
        if not self.lottery.entering.enter():
            super().on_advance_start()  # type: ignore[misc]

    def on_advance_end(self) -> None:
        loop: Any = self
        self.lottery.scoring.stop_watching()  # a hook may have ended the epoch before its step
        completed = loop.epoch_loop._results.complete()
        super().on_advance_end()  # type: ignore[misc]
        for key in completed:  # the next to log it makes an entry of its own
            del loop.epoch_loop._results[key]
        stopping = self.lottery.reached_its_end() or (loop.trainer.should_stop and loop._can_stop_early)
        self.lottery.driver.at_boundary("end" if stopping else "epoch")


class EpochLoop:
    """What Lightning's training epoch loop is extended by."""

    lottery: Lottery

    def reset(self) -> None:
        if not self.lottery.entering.mid_epoch:
            super().reset()  # type: ignore[misc]

    def on_run_start(self, data_fetcher: Iterable[object]) -> None:
        loop: Any = self
        if self.lottery.entering.mid_epoch:
            loop._restarting = True  # the iterator is there: Lightning must not make another
            super().on_run_start(data_fetcher)  # type: ignore[misc]
            loop._restarting = False
            self.lottery.entering.entered()
            return
        resuming = getattr(loop.trainer.fit_loop, "is_resuming", False) or loop.restarting
        stale, self.lottery.data.is_stale = self.lottery.data.is_stale, False
        if loop.trainer.current_epoch > 0 and not resuming:
            self.lottery.data.note_iterator("iterate")
        elif stale and not loop.batch_progress.current.ready:
            self.lottery.data.note_iterator("iterate")
            iter(data_fetcher)
        super().on_run_start(data_fetcher)  # type: ignore[misc]
        self.lottery.data.before_first_batch()

    def on_advance_end(self, data_fetcher: object) -> None:
        loop: Any = self
        self.lottery.scoring.stop_watching()
        self.lottery.driver.after_batch()
        super().on_advance_end(data_fetcher)  # type: ignore[misc]
        if not self.lottery.driver.wants_boundary():
            return
        stopping = loop._is_training_done or (loop.trainer.should_stop and loop.trainer.fit_loop._can_stop_early)
        accumulating = loop.trainer.lightning_module.automatic_optimization and loop._should_accumulate()
        if not stopping and not accumulating:
            self.lottery.driver.at_boundary("batch")


class ValidationLoop:
    """What Lightning's loop of validations during training is extended by."""

    lottery: Lottery

    def setup_data(self) -> None:
        loop: Any = self
        before = loop._combined_loader
        super().setup_data()  # type: ignore[misc]
        if loop._combined_loader is not before:
            self.lottery.data.after_validation_build()


class Checkpoints:
    """What Lightning's checkpoint connector is extended by: the checkpoint that a fit begins from, not those that
    tuners go back to.
    """

    lottery: Lottery

    def _restore_modules_and_callbacks(self, checkpoint_path: object = None, *args: object, **kwargs: object) -> None:
        if checkpoint_path is None or self.lottery.states.is_unasked(checkpoint_path):
            super()._restore_modules_and_callbacks(None, *args, **kwargs)  # type: ignore[misc]
            return
        self.lottery.states.restored_from = checkpoint_path
        with self.lottery.states.beforehand():
            super()._restore_modules_and_callbacks(checkpoint_path, *args, **kwargs)  # type: ignore[misc]
        self.lottery.states.restored_from = None


class Results(dict):
    """What the collection of logged values is extended by: the sums of a partly done epoch can be put back."""

    lottery: Lottery

    def partial_values(self) -> dict[str, dict[str, Plain]]:
        names = ("value", "cumulated_batch_size", "_forward_cache", "_update_count")
        return {
            key: {
                "meta": _plain_metadata(item.meta) if item.is_tensor else None,
                **{n: getattr(item, n) for n in names if isinstance(getattr(item, n, None), (Tensor, int))},
            }
            for key, item in self.items()
        }

    def refill(self, values: Mapping[str, dict[str, object]]) -> None:
        """Start what is logged from now on with sums that it had."""
        self._refill = dict(values)

    def complete(self) -> list[str]:
        """At the end of an epoch: put back also what was logged before it was cut and not again; the names of that."""
        left, self._refill = getattr(self, "_refill", {}), {}
        logged = [k for k, v in left.items() if v.get("meta") and v["_update_count"]]
        for key in logged:
            self._refill = {key: left[key]}
            self[key] = new_result(self.lottery.trainer, left[key]["meta"])
        return logged

    def __setitem__(self, key: str, item: object) -> None:
        for name, value in getattr(self, "_refill", {}).pop(key, {}).items():
            if name != "meta":
                setattr(item, name, value)
        super().__setitem__(key, item)


def _plain_metadata(meta: Any) -> dict[str, Plain]:
    """How a value is logged, as plain data."""
    names = ("fx", "name", "prog_bar", "logger", "on_step", "on_epoch", "dataloader_idx")
    return {**{n: getattr(meta, n) for n in names}, "reduce_fx": meta.reduce_fx.__name__}
