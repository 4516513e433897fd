"""One round while it trains: what is enforced, noted and saved."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lottery.foundations.names import parameters_of
from lottery.foundations.steps import Step
from lottery.masks.masks import Masks
from lottery.pruning.dynamic import Mover, Training
from lottery.pruning.graph.paths import Connectivity
from lottery.pruning.scores.movement import MovementAccumulator
from lottery.runs.layout import LAST, REWIND, STATE, snapshot_file
from lottery.runs.metric import Mode
from lottery.runs.schema import RoundState
from lottery.storage.checkpoints import encode_checkpoint
from lottery.storage.directory import Directory, StorageError
from lottery.training import decision, messages
from lottery.training.enforcement import Enforcement, RegrowthError, regrown
from lottery.training.lightning import Fit, Position, scalars
from lottery.training.lightning.hooks import (
    before_checkpoints,
    before_clipping,
    before_validations,
    checked_saves,
    overridden,
)
from lottery.training.options import Options
from lottery.training.record import Record
from lottery.training.stopping import Stopping

# where others read gradients before an optimizer does, and where they may write weights
_READING = ("on_before_optimizer_step",)
_WRITING = (
    *("on_train_start", "on_train_epoch_start", "on_train_batch_start"),
    *("on_before_zero_grad", "optimizer_zero_grad", "optimizer_step"),
    *("on_train_batch_end", "on_train_epoch_end", "on_train_end"),
    *("on_validation_start", "on_validation_epoch_start", "on_validation_batch_start"),
    *("on_validation_batch_end", "on_validation_epoch_end", "on_validation_end"),
    *("on_save_checkpoint",),
)


@dataclass(frozen=True)
class ActiveRun:
    """What the rounds of a run share while it is being written.

    Args:
        id: tells this run from all others.
        seed: from which the random streams of rounds 1, 2, ... are derived.
        options: what to do.
        fit: the fit to do it in.
        directory: where to store it.
        monitor: the metric that chooses the best step, or None, and its mode.
        rewind_step: the step of round 0 at which the rewind point is stored.
        stopping: the signals that ask to end.
    """

    id: str
    seed: int
    options: Options
    fit: Fit
    directory: Directory
    monitor: tuple[str | None, Mode]
    rewind_step: Step
    stopping: Stopping

    def follow(self, masks: Masks) -> Connectivity:
        """What masks leave of the network, as far as its paths can be followed."""
        return decision.connectivity(self.fit, masks, self.seed)

    def write_state(self, name: str, state: dict[str, Any]) -> None:
        """Store a state: for good, but for that of the round in progress."""
        if not self.fit.is_writer:
            return
        if name == LAST:
            self.directory.write_checkpoint(name, state)
        else:
            self.directory.commit({name: encode_checkpoint(state)})


class Round:
    """One round of a run, from its start or from where it was left.

    Args:
        run: the run.
        number: 0 is dense.
        masks: the masks it trains under.

    Attributes:
        record: the evidence that it gathers.
        gathered: what the score gathers while the round trains, for scores that do.
        mover: moves the masks while the round trains, where they move.
        validated: set after a validation, so that its metrics are noted at the next boundary.
    """

    def __init__(self, run: ActiveRun, number: int, masks: Masks) -> None:
        self.run = run
        self.number = number
        self.masks = masks
        self.record = Record(*run.monitor)
        self.validated = False
        self.gathered = MovementAccumulator(masks) if "accumulated" in run.options.pruning.needs else None
        options = run.options
        self.mover = (
            Mover(
                options.dynamic,
                run.seed,
                allow_empty=options.pruning.collapse == "warn",
                follow=run.follow,
            )
            if options.dynamic is not None
            else None
        )
        self._enforcement: Enforcement | None = None
        self._unmoved: list[str] | None = None
        self._first_batch = True
        self._gradients_are_read = True
        self._pending = self._states_to_store()
        self._seen: dict[str, Any] = {}
        self._epoch_starts = [0]
        self._clock = time.monotonic()
        self._saved_at = (0.0, 0, 0)

    def go_on(self, saved: dict[str, Any]) -> None:
        """Take up a state that `Fit.capture` returned."""
        own = RoundState.within(saved)
        assert own is not None
        self._take(own)
        self._first_batch = saved[STATE]["position"] == "start"
        self.run.fit.entering.begin(saved)
        self.see_all_but(own.fresh)

    def adopt(self, own: RoundState | None) -> None:
        """Go on from a checkpoint of the user's, which Lightning has restored."""
        if own is None:
            return
        self._take(own)
        epoch_is_over = self.run.fit.entering.adopt(own.streams, own.metrics)
        self.see_all_but(own.fresh)
        if epoch_is_over:
            self._note_epoch()
        if REWIND in self._reached():
            raise StorageError(
                f"ckpt_path is not before the rewind point {str(self.run.rewind_step)!r}, which is not stored in"
                f" {self.run.directory.path} yet. Leave out ckpt_path: the run goes on from where it was last saved."
            )

    def _take(self, own: RoundState) -> None:
        self._unmoved = own.unmoved
        self._first_batch = False
        self.record = Record(**own.record)
        if self.mover is not None:
            self.masks = Masks.unpack(own.masks, own.shapes)
            self.mover.load(own.moving)
        if self.gathered is not None:
            self.gathered = MovementAccumulator(self.masks, own.gathered)
        self._epoch_starts = list(own.epoch_starts)

    def train(self) -> None:
        """Train once, as the user's Trainer says, on the weights that are left."""
        trainer, module = self.run.fit.trainer, self.run.fit.module
        parameters = parameters_of(module)
        self.masks.check(parameters)
        self._mark_saved()
        self._gradients_are_read = bool(overridden(trainer, _READING))
        with (
            checked_saves(trainer, self._check_saved),
            before_validations(trainer, self._mask_copies),
            before_checkpoints(trainer, self._mask_for_checkpoint),
            before_clipping(trainer, self.mask_gradients),
            Enforcement(
                self.masks,
                parameters,
                self.run.fit.states.optimizers(),
                [*trainer.callbacks, module],
                going_on=not self._first_batch,
                unmoved=self._unmoved,
            ) as self._enforcement,
        ):
            if self._first_batch and not self.record.start:
                self.record.start = self._metrics_at_first()
            if self.run.options.rounds or self.mover is not None:
                of = f"{self.number}/{self.run.options.rounds}"
                self.run.fit.show(round=of, density=self.masks.density)
            if self.mover is not None:
                self.mover.start(module, trainer.optimizers, Training.of(trainer))
            self._clock = time.monotonic() - self.record.seconds
            self.run.fit.train()
            self.record.seconds = time.monotonic() - self._clock
        self._enforcement = None
        self.check("at its end")

    def gather(self, optimizer: Any) -> None:
        """Let a score gather what it needs from a step, before the optimizer makes it."""
        if self.gathered is not None:
            self.gathered.update(self.run.fit.module, optimizer)

    def keep_gradients(self) -> None:
        """Keep the gradients that a move needs, before those of pruned weights are set to zero."""
        if self.mover is not None and self._enforcement is not None:
            self.mover.keep_gradients(self.masks, self.run.fit.position())

    def move(self, optimizer: Any) -> bool:
        """Move the masks where it is time, before an optimizer steps; whether they moved."""
        if self.mover is None or self._enforcement is None:
            return False
        masks = self.mover.step(self.masks, optimizer, self.run.fit.global_step, self.run.fit.position())
        if masks is None:
            return False
        if masks.kept < self.masks.kept:
            self.record.start_over()
        self.masks = masks
        self._enforcement.replace(masks)
        self.run.fit.show(density=masks.density)
        return True

    def mask_gradients(self) -> None:
        """Set the gradients of pruned weights to zero, before others read them."""
        if self._enforcement is not None:
            self._enforcement.mask_gradients()

    def before_step(self) -> None:
        """Mask gradients where anybody reads them before the optimizer, which gets them masked in any case."""
        if self._gradients_are_read:
            self.mask_gradients()

    def _metrics_at_first(self) -> dict[str, float]:
        try:
            return self.run.fit.aside.evaluate("validate")
        except Exception as error:  # noqa: BLE001 (of the user's: it may need what training makes)
            messages.no_metrics_at_first(error)
            return {}

    def restored(self) -> None:
        """Mask what was put back since the masks came to work."""
        if self._enforcement is not None:
            self._enforcement.begin()

    def _mask_copies(self) -> None:
        """Set pruned weights to zero in averages of the weights and other copies of them."""
        if self._enforcement is not None:
            self._enforcement.mask_copies()

    def _mask_for_checkpoint(self) -> None:
        if not self.run.fit.states.is_capturing:  # how often that is has no part in anything
            self._mask_copies()

    def after_batch(self) -> None:
        """Mask the copies that follow the weights from the first step on."""
        if self._first_batch:
            self._first_batch = False
            self._mask_copies()

    def check(self, moment: str) -> None:
        """Make sure that every pruned weight is zero.

        Raises:
            RegrowthError: some are not; the message names them, and what may have changed them.
        """
        parameters = parameters_of(self.run.fit.module)
        self._check(parameters, "the module", moment)

    def _check_saved(self, checkpoint: Mapping[str, Any]) -> None:
        self._check(checkpoint.get("state_dict", {}), "a checkpoint", "before it is written")

    def _check(self, weights: Mapping[str, Any], owner: str, moment: str) -> None:
        found = regrown(self.masks, weights)
        if not found:
            return
        trainer = self.run.fit.trainer
        where = ", ".join(f"{n} ({a:,} of {b:,})" for n, (a, b) in found.items())
        causes = overridden(trainer, _WRITING) + [
            f"the optimizer {type(optimizer).__name__}"
            for optimizer in self.run.fit.states.optimizers()
            if not type(optimizer).__module__.startswith("torch.optim")
        ]
        if not self.run.fit.module.automatic_optimization:
            causes.append(f"{type(self.run.fit.module).__name__}.training_step")
        kept = [] if self._enforcement is None else self._enforcement.alive_in_copies()
        raise RegrowthError(
            f"pruned weights of {owner} are not zero in round {self.number}, {moment}: {where}. Optimizers that torch"
            " knows cannot have changed them, so something else wrote into the weights."
            + (f" What may have: {', '.join(causes)}." if causes else "")
            + (f" Pruned weights live on in {', '.join(kept)}." if kept else "")
            + f" Nothing of this was stored; what {self.run.directory.path} holds is right. Let what writes weights"
            " leave zeros at zero (`new * (weight != 0)`), train without it, or leave the parameters out with"
            " Pruning(exclude=[...])."
        )

    def at_boundary(self, position: Position | Literal["end"]) -> None:
        """Note metrics, store the rewind point when it comes, and save the state from time to time."""
        self.check(f"after step {self.run.fit.global_step}")
        if position != "batch":
            self._mask_copies()
            self._note_epoch()
        elif self.validated:
            self._note_metrics()
        self.validated = False
        if position == "end":
            return
        reached, due = self._reached(), self._due()
        can_capture = self.run.fit.states.can_capture()
        if (reached or due) and can_capture:
            for name in reached:
                self._write(name, position)
                del self._pending[name]
            if due:
                self._write(LAST, position)
                self._mark_saved()
        if self.run.stopping.is_asked:
            messages.stopped(self.number, self.run.fit.global_step if can_capture else None, self.run.directory.path)
            self.run.stopping.stop()

    def wants_boundary(self) -> bool:
        """Whether `at_boundary` has anything to do after a batch."""
        return self.validated or bool(self._reached()) or self._due()

    def state(self) -> RoundState:
        """What checkpoints hold of the round."""
        return RoundState(
            run=self.run.id,
            round=self.number,
            masks=self.masks.pack(),
            shapes={name: tuple(mask.shape) for name, mask in self.masks.items()},
            record=self.record.state(),
            gathered={} if self.gathered is None else self.gathered.sums,
            moving={} if self.mover is None else self.mover.state(),
            epoch_starts=list(self._epoch_starts),
            unmoved=None if self._enforcement is None else self._enforcement.unmoved,
            metrics=self.run.fit.metrics(),
            fresh=list(self._fresh()),
            streams=self.run.fit.states.state(),
        )

    def _note_epoch(self) -> None:
        self._note_metrics()
        fit, starts = self.run.fit, self._epoch_starts
        starts += [fit.global_step] * (fit.epoch + 1 - len(starts))
        self._check_monitor()

    def _note_metrics(self) -> None:
        fresh = scalars(self._fresh())
        self._seen = self.run.fit.metrics()
        best = self.record.add(self.run.fit.global_step, self.run.fit.epoch, fresh)
        if best and self.run.options.test_each_round:
            self.record.best_test = self.run.fit.aside.evaluate("test")

    def see_all_but(self, fresh: Collection[str]) -> None:
        """Take the metrics for noted, but for those that were logged since."""
        metrics = self.run.fit.metrics()
        self._seen = {k: v for k, v in metrics.items() if k not in fresh}

    def _fresh(self) -> dict[str, Any]:
        """The metrics that were logged since they were last noted."""
        metrics = self.run.fit.metrics()
        return {k: v for k, v in metrics.items() if self._seen.get(k) is not v}

    def _check_monitor(self) -> None:
        monitor = self.run.options.monitor
        if monitor is not None and not any(monitor in row for row in (self.record.start, *self.record.history)):
            raise ValueError(
                f"monitor={monitor!r} was not logged in the first epoch of round {self.number}. Logged were:"
                f" {sorted(self.run.fit.metrics())}. Monitor one of these, or log it with self.log({monitor!r}, ...)."
            )

    def _states_to_store(self) -> dict[str, Step]:
        """The rewind point and the snapshots that are not stored yet: file to step."""
        options = self.run.options
        if self.number > 0 or options.branch is not None:
            return {}
        states = {snapshot_file(step): step for step in options.snapshots}
        states[REWIND] = self.run.rewind_step
        return {name: step for name, step in states.items() if name not in self.run.directory}

    def _reached(self) -> list[str]:
        """The files of the states to store that the round has come to."""
        fit, starts = self.run.fit, self._epoch_starts
        return [
            name
            for name, step in self._pending.items()
            if step.epochs < len(starts) and fit.global_step - starts[step.epochs] >= step.iterations
        ]

    def _mark_saved(self) -> None:
        self._saved_at = (time.monotonic(), self.run.fit.global_step, self.run.fit.epoch)

    def _due(self) -> bool:
        if self.run.stopping.is_asked:
            return True
        seconds, step, epoch = self._saved_at
        every = self.run.options.save_every
        if isinstance(every, Step):
            by_steps = every.iterations and self.run.fit.global_step - step >= every.iterations
            by_epochs = every.epochs and self.run.fit.epoch - epoch >= every.epochs
            return bool(by_steps or by_epochs)
        return time.monotonic() - seconds >= every

    def _write(self, name: str, position: Position) -> None:
        self.record.seconds = time.monotonic() - self._clock
        state = self.run.fit.states.capture(position)
        self._check_saved(state)
        messages.not_stored(self.run.fit.not_stored())
        self.run.write_state(name, state)
