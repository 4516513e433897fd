"""One round while it trains: what is enforced, noted and saved."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

from lottery import streams
from lottery.enforcement import Enforcement
from lottery.lightning import Fit, Position, scalars
from lottery.masks import Masks
from lottery.moving import Mover, Training
from lottery.options import Options
from lottery.paths import Connectivity
from lottery.record import Record
from lottery.run import REWIND, snapshot_file
from lottery.scores.movement import MovementAccumulator
from lottery.steps import Step
from lottery.storage import LAST, Directory, StorageError


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
    """

    id: str
    seed: int
    options: Options
    fit: Fit
    directory: Directory
    monitor: tuple[str | None, str]
    rewind_step: Step

    def seed_of(self, round: int) -> int:
        """Seed of a round's random streams."""
        return streams.derive(self.seed, "round", round)

    def own(self, checkpoint: dict[str, Any] | None) -> dict[str, Any] | None:
        """What `Round.state` put into a checkpoint, or None where it is not one of a LotteryTicket."""
        return (
            None
            if checkpoint is None
            else checkpoint.get("callbacks", {}).get(self.fit.own_state_key)
        )

    def write_checkpoint(self, name: str, checkpoint: dict[str, Any]) -> None:
        if self.fit.is_writer:
            self.directory.write_checkpoint(name, checkpoint)


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
        connectivity: what `masks` leave of the network, once that was asked.
        validated: set after a validation, so that its metrics are noted at the next boundary.
    """

    def __init__(self, run: ActiveRun, number: int, masks: Masks) -> None:
        self.run = run
        self.number = number
        self.masks = masks
        self.record = Record(*run.monitor)
        self.validated = False
        self.gathered = (
            MovementAccumulator(masks)
            if "accumulated" in run.options.pruning.needs
            else None
        )
        options = run.options
        self.mover = (
            Mover(options.moving, run.seed, options.pruning.collapse == "warn")
            if options.moving is not None
            else None
        )
        self.connectivity: Connectivity | None = None
        self._enforcement: Enforcement | None = None
        self._pending = self._states_to_store()
        self._seen: dict[str, Any] = {}
        self._epoch_starts = [0]
        self._clock = time.monotonic()
        self._saved_at = (0.0, 0, 0)

    def go_on(self, saved: dict[str, Any]) -> None:
        """Take up a state that `Fit.capture` returned."""
        self._take(self.run.own(saved) or {})
        self.run.fit.begin(saved)
        self._seen = self.run.fit.metrics()

    def adopt(self, own: dict[str, Any] | None) -> None:
        """Go on from a checkpoint of the user's, which Lightning has restored."""
        if own is None:
            return
        self._take(own)
        epoch_is_over = self.run.fit.adopt(own["streams"], own["metrics"])
        self._seen = {
            name: value
            for name, value in self.run.fit.metrics().items()
            if name not in own["fresh"]
        }
        if epoch_is_over:
            self._note_epoch()
        if REWIND in self._reached():
            raise StorageError(
                f"ckpt_path is not before the rewind point {str(self.run.rewind_step)!r}, which is not stored in"
                f" {self.run.directory.path} yet. Leave out ckpt_path: the run goes on from where it was last saved."
            )

    def _take(self, own: dict[str, Any]) -> None:
        self.record = Record(**own["record"])
        if self.mover is not None:
            self.masks = Masks.unpack(own["masks"], own["shapes"])
            self.mover.load(own["moving"])
        if self.gathered is not None:
            self.gathered = MovementAccumulator(self.masks, own["gathered"])
        self._epoch_starts = list(own["epoch_starts"])

    def train(self) -> None:
        """Train once, as the user's Trainer says, on the weights that are left."""
        parameters = dict(self.run.fit.module.named_parameters())
        self.masks.check(parameters)
        self._mark_saved()
        with Enforcement(
            self.masks, parameters, self.run.fit.trainer.optimizers
        ) as self._enforcement:
            if not self.record.start:
                self.record.start = self.run.fit.evaluate("validate")
            if self.run.options.rounds or self.mover is not None:
                self.run.fit.show(round=self.number, density=self.masks.density)
            if self.mover is not None:
                trainer = self.run.fit.trainer
                training = Training.of(trainer)
                self.mover.start(self.run.fit.module, trainer.optimizers, training)
            self._clock = time.monotonic() - self.record.seconds
            self.run.fit.train()
            self.record.seconds = time.monotonic() - self._clock
        self._enforcement = None

    def gather(self, optimizer: Any) -> None:
        """Let a score gather what it needs from a step, before the optimizer makes it."""
        if self.gathered is not None:
            self.gathered.update(self.run.fit.module, optimizer)

    def keep_gradients(self) -> None:
        """Keep the gradients that a move needs, before those of pruned weights are set to zero."""
        if self.mover is not None and self._enforcement is not None:
            self.mover.keep_gradients(self.masks)

    def move(self, optimizer: Any) -> bool:
        """Move the masks where it is time, before an optimizer steps; whether they moved."""
        if self.mover is None or self._enforcement is None:
            return False
        masks = self.mover.step(self.masks, optimizer, self.run.fit.global_step)
        if masks is None:
            return False
        if masks.kept < self.masks.kept:
            self.record.start_over()
        self.masks = masks
        self._enforcement.replace(masks)
        self.run.fit.show(density=masks.density)
        return True

    def mask_gradients(self) -> None:
        """Set the gradients of pruned weights to zero."""
        if self._enforcement is not None:
            self._enforcement.mask_gradients()

    def at_boundary(self, position: Position | Literal["end"]) -> None:
        """Note metrics, store the rewind point when it comes, and save the state from time to time."""
        if position != "batch":
            self._note_epoch()
        elif self.validated:
            self._note_metrics()
        self.validated = False
        if position == "end":
            return
        reached, due = self._reached(), self._due()
        if (reached or due) and self.run.fit.can_capture():
            for name in reached:
                self._write(name, position)
                del self._pending[name]
            if due:
                self._write(LAST, position)
                self._mark_saved()

    def wants_boundary(self) -> bool:
        """Whether `at_boundary` has anything to do after a batch."""
        return self.validated or bool(self._reached()) or self._due()

    def state(self) -> dict[str, Any]:
        """What checkpoints hold of the callback: plain containers and tensors."""
        return {
            "run": self.run.id,
            "round": self.number,
            "masks": self.masks.pack(),
            "shapes": {name: list(mask.shape) for name, mask in self.masks.items()},
            "record": self.record.state(),
            "gathered": {} if self.gathered is None else self.gathered.sums,
            "moving": {} if self.mover is None else self.mover.state(),
            "epoch_starts": list(self._epoch_starts),
            "metrics": self.run.fit.metrics(),
            "fresh": list(self._fresh()),
            "streams": self.run.fit.streams_state(),
        }

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
            self.record.best_test = self.run.fit.evaluate("test")

    def _fresh(self) -> dict[str, Any]:
        """The metrics that were logged since they were last noted."""
        metrics = self.run.fit.metrics()
        return {k: v for k, v in metrics.items() if self._seen.get(k) is not v}

    def _check_monitor(self) -> None:
        monitor = self.run.options.monitor
        if monitor is not None and not any(
            monitor in row for row in (self.record.start, *self.record.history)
        ):
            raise ValueError(
                f"monitor={monitor!r} was not logged in the first epoch of round {self.number}. Logged were:"
                f" {sorted(self.run.fit.metrics())}. Monitor one of these, or log it with self.log({monitor!r}, ...)."
            )

    def _states_to_store(self) -> dict[str, Step]:
        """The rewind point and the snapshots that are not stored yet: file to step."""
        options = self.run.options
        if self.number > 0 or options.instead_of is not None:
            return {}
        states = {snapshot_file(step): step for step in options.snapshots}
        states[REWIND] = self.run.rewind_step
        path = self.run.directory.path
        return {n: step for n, step in states.items() if not (path / n).exists()}

    def _reached(self) -> list[str]:
        """The files of the states to store that the round has come to."""
        fit, starts = self.run.fit, self._epoch_starts
        return [
            name
            for name, step in self._pending.items()
            if step.epochs < len(starts)
            and fit.global_step - starts[step.epochs] >= step.iterations
        ]

    def _mark_saved(self) -> None:
        self._saved_at = (
            time.monotonic(),
            self.run.fit.global_step,
            self.run.fit.epoch,
        )

    def _due(self) -> bool:
        seconds, step, epoch = self._saved_at
        every = self.run.options.save_every
        if isinstance(every, Step):
            by_steps = (
                every.iterations and self.run.fit.global_step - step >= every.iterations
            )
            by_epochs = every.epochs and self.run.fit.epoch - epoch >= every.epochs
            return bool(by_steps or by_epochs)
        return time.monotonic() - seconds >= every

    def _write(self, name: str, position: Position) -> None:
        self.record.seconds = time.monotonic() - self._clock
        self.run.write_checkpoint(name, self.run.fit.capture(position))
