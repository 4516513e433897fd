"""The loop of the lottery ticket: train, prune, rewind, again, with every round on disk."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lottery import console, settings, storage, streams
from lottery.enforcement import Enforcement
from lottery.lightning import STATE, Fit, scalars
from lottery.masks import Masks
from lottery.prunable import prunable_parameters
from lottery.pruning import Pruning
from lottery.record import Record
from lottery.retraining import Rewind
from lottery.run import INITIAL, REWIND, RUN, Run, round_file
from lottery.steps import Step
from lottery.storage import LAST, Directory, StorageError
from lottery.ticket import Ticket

END = "end.ckpt"


@dataclass(frozen=True)
class Options:
    """The arguments of `LotteryTicket`, read and checked."""

    rounds: int
    pruning: Pruning
    rewind: Rewind
    dirpath: Path
    seed: int | None
    monitor: str | None
    mode: str
    keep: str
    test_each_round: bool
    save_every: float | Step
    ticket: Ticket | None


class Rounds:
    """All rounds of one fit.

    Args:
        options: what to do.
        fit: the fit to do it in.

    Attributes:
        resume: the Lightning checkpoint that the user passed to `trainer.fit(ckpt_path=...)`, or None.
        begun: whether `run` was called.
        validated: set after a validation, so that its metrics are noted at the next boundary.
    """

    def __init__(self, options: Options, fit: Fit) -> None:
        self.options = options
        self.fit = fit
        self.resume: dict[str, Any] | None = None
        self.begun = False
        self.validated = False
        self.enforcement: Enforcement | None = None
        self.directory = Directory(options.dirpath)
        self.run_id = ""
        self.round = 0
        self.masks = Masks({})
        self.record = Record()
        self._seed = 0
        self._rewind_step = options.rewind.resolve(
            fit.max_epochs, fit.trainer.max_steps
        )
        self._seen: dict[str, Any] = {}
        self._saved_at = (time.monotonic(), 0, 0)
        self._clock = 0.0
        self._epoch_start = 0
        self._rewind_pending = False

    def run(self) -> None:
        """Every round that is not finished yet, in order."""
        self.begun = True
        with self.directory.locked(self.fit.is_writer):
            self._open()
            for round in range(self.options.rounds + 1):
                if self._finished(round):
                    continue
                if self._out_of_time(round):
                    return
                self._begin(round)
                self._train()
                if not self._complete():
                    return
                self._finish()
            self._end()

    # the directory

    def _open(self) -> None:
        """Start a run in an empty directory, or make sure that this fit belongs to the run that is there."""
        options, fit = self.options, self.fit
        parameters = prunable_parameters(
            fit.module, options.pruning.include, options.pruning.exclude
        )
        masks = Masks.ones(parameters)
        if options.ticket is not None:
            masks = masks.with_masks(options.ticket.masks)
        options.pruning.pools(list(masks))
        if options.test_each_round:
            fit.check_testing()
        now = settings.collect(options, fit, self._monitor(), masks)
        console.prunable(masks, parameters, options, self._rewind_step)
        if RUN in self.directory:
            stored = self.directory.read_json(RUN)
            settings.compare(stored["settings"], now, self.directory.path)
            self._take_run(stored)
            self._check_resume()
        else:
            self._start_run(now, masks)

    def _start_run(self, now: dict[str, Any], masks: Masks) -> None:
        fit, options = self.fit, self.options
        if self._finished_files():
            raise StorageError(
                f"{self.directory.path / storage.MANIFEST} is missing, though the directory holds finished rounds."
                " Restore it from a copy, or use another dirpath. Nothing was changed."
            )
        if self._own(self.resume) is not None:
            raise StorageError(
                f"ckpt_path is a checkpoint of round {self._own(self.resume)['round']} of a run that is not in"
                f" {self.directory.path}. Give LotteryTicket the dirpath of that run, or leave out ckpt_path."
            )
        if options.ticket is not None:
            options.ticket.apply(fit.module)
        seed = (
            streams.fingerprint(streams.capture())
            if options.seed is None
            else options.seed
        )
        self._take_run({"id": f"{streams.derive(os.urandom(16)):016x}", "seed": seed})
        self.masks, self.record, self._clock = (
            masks,
            Record(*self._monitor()),
            time.monotonic(),
        )
        weights = {
            k: v
            for k, v in fit.module.state_dict().items()
            if isinstance(v, torch.Tensor)
        }
        start = fit.capture("start")
        if fit.is_writer:
            self.directory.write_checkpoint(LAST, start)
            settings.check_loads(self.directory, LAST)
            if self._rewind_step == Step():
                self.directory.write_checkpoint(REWIND, start)
            self.directory.commit(
                {
                    INITIAL: storage.encode_tensors(weights),
                    round_file(0, "mask.safetensors"): storage.encode_masks(masks),
                    RUN: storage.encode_json(
                        {
                            "id": self.run_id,
                            "seed": seed,
                            "versions": settings.versions(),
                            "settings": now,
                        }
                    ),
                }
            )
        fit.barrier()

    def _finished_files(self) -> list[Path]:
        return list(self.directory.path.glob("rounds/*/summary.json"))

    def _take_run(self, stored: dict[str, Any]) -> None:
        self.run_id, self._seed = stored["id"], stored["seed"]

    def _check_resume(self) -> None:
        own = self._own(self.resume)
        if own is None:
            if self.resume is not None:
                raise StorageError(
                    f"ckpt_path is not a checkpoint of the run in {self.directory.path}. Leave out ckpt_path to go on"
                    " with that run, or give a new dirpath."
                )
        elif own["run"] != self.run_id:
            raise StorageError(
                f"ckpt_path belongs to run {own['run']}, but {self.directory.path} holds run {self.run_id}. Give"
                " LotteryTicket the dirpath of the checkpoint's run, or leave out ckpt_path."
            )
        elif self._finished(own["round"]):
            console.show(
                f"round {own['round']} of ckpt_path is finished already: going on with the run where it stands"
            )
            self.resume = None

    def _own(self, checkpoint: dict[str, Any] | None) -> Any:
        return (
            None
            if checkpoint is None
            else checkpoint.get("callbacks", {}).get(self.fit.own_state_key)
        )

    def _finished(self, round: int) -> bool:
        return round_file(round, "summary.json") in self.directory

    def _monitor(self) -> tuple[str | None, str]:
        if self.options.monitor is not None:
            return self.options.monitor, self.options.mode
        return self.fit.monitored() or (None, self.options.mode)

    def _spent(self) -> float:
        return sum(
            Run(self.directory.path).summary(r)["seconds"]
            for r in Run(self.directory.path).rounds
        )

    def _out_of_time(self, round: int) -> bool:
        if self.fit.time_limit() > self._spent():
            return False
        console.out_of_time(self, round)
        return True

    # the steps of the loop

    def _begin(self, round: int) -> None:
        """Put the module, the optimizers and the random streams where this round starts or was left."""
        self.round = self.fit.round = round
        self.masks = self._masks_of(round)
        self.record = Record(*self._monitor())
        self._seen, self._epoch_start = {}, 0
        self._rewind_pending = (
            round == 0 and not (self.directory.path / REWIND).exists()
        )
        saved = self._saved_state(round)
        if saved is not None and STATE in saved:
            self._take_progress(self._own(saved))
            self.fit.begin(saved)
            self._seen = self.fit.metrics()
        elif saved is not None:
            self._adopt(self._own(saved))
        elif round > 0:
            seed = streams.derive(self._seed, "round", round)
            self.fit.begin(self._start_of(round), seed=seed, seconds=self._spent())
        if round > 0 and self.options.rewind.rule == "fine-tune":
            self.fit.rest_schedulers()
        self._mark_saved()
        console.round_started(self, resumed=saved is not None)

    def _take_progress(self, own: dict[str, Any]) -> None:
        self.record = Record(**own["record"])
        self._epoch_start = own["epoch_start"]

    def _adopt(self, own: dict[str, Any] | None) -> None:
        """Go on from a checkpoint of the user's, which Lightning has restored."""
        if own is None:
            return
        self._take_progress(own)
        epoch_is_over = self.fit.adopt(own["streams"], own["metrics"])
        self._seen = {
            name: value
            for name, value in self.fit.metrics().items()
            if name not in own["fresh"]
        }
        if epoch_is_over:
            self._note_epoch()
        if self._at_rewind_point():
            raise StorageError(
                f"ckpt_path is not before the rewind point {str(self._rewind_step)!r}, which is not stored in"
                f" {self.directory.path} yet. Leave out ckpt_path: the run goes on from where it was last saved."
            )

    def _train(self) -> None:
        """Train once, as the user's Trainer says, on the weights that are left."""
        parameters = dict(self.fit.module.named_parameters())
        self.masks.check(parameters)
        with Enforcement(
            self.masks, parameters, self.fit.trainer.optimizers
        ) as self.enforcement:
            if not self.record.start:
                self.record.start = self.fit.evaluate("validate")
            if self.options.rounds:
                self.fit.show(round=self.round, density=self.masks.density)
            self._clock = time.monotonic() - self.record.seconds
            self.fit.train()
            self.record.seconds = time.monotonic() - self._clock
        self.enforcement = None

    def _complete(self) -> bool:
        """Whether the round ended by itself; otherwise the Trainer's time ran out in it."""
        if self.fit.time_is_up() and not self.fit.reached_its_end():
            console.out_of_time(self, self.round)
            return False
        return True

    def _finish(self) -> None:
        """Store the round. From here on it is never trained again."""
        fit, round = self.fit, self.round
        test = fit.evaluate("test") if self.options.test_each_round else {}
        summary = self.record.summary(
            round, self.masks, fit.global_step, fit.epoch, test
        )
        weights = {
            k: v
            for k, v in fit.module.state_dict().items()
            if isinstance(v, torch.Tensor)
        }
        if fit.is_writer:
            if (
                self.options.rewind.optimizer == "keep"
                or self.options.rewind.rule == "fine-tune"
            ):
                states = fit.capture("epoch")["optimizer_states"]
                self.directory.write_checkpoint(
                    END, {"round": round, "optimizer_states": states}
                )
            self.directory.commit(
                {
                    round_file(round, "weights.safetensors"): storage.encode_tensors(
                        weights
                    ),
                    round_file(round, "history.json"): storage.encode_json(
                        self.record.history
                    ),
                    round_file(round, "summary.json"): storage.encode_json(summary),
                }
            )
            self.directory.remove(LAST)
            if self.options.keep == "last" and round > 0:
                self.directory.remove(round_file(round - 1, "weights.safetensors"))
        fit.barrier()
        console.round_finished(self, summary)

    def _end(self) -> None:
        """Leave the module with the trained weights of the last round, also when nothing was left to train."""
        if self.round != self.options.rounds or not self.masks:
            weights = Run(self.directory.path).weights(self.options.rounds)
            self.fit.module.load_state_dict(weights, strict=False)
        console.run_finished(self)

    # what a round starts from

    def _masks_of(self, round: int) -> Masks:
        name = round_file(round, "mask.safetensors")
        if name not in self.directory:
            before = self.directory.read_masks(
                round_file(round - 1, "mask.safetensors")
            )
            trained = self.directory.read_tensors(
                round_file(round - 1, "weights.safetensors")
            )
            scores = {parameter: trained[parameter].abs() for parameter in before}
            masks = self.options.pruning.next_masks(scores, before, round)
            if self.fit.is_writer:
                self.directory.commit({name: storage.encode_masks(masks)})
            self.fit.barrier()
        return self.directory.read_masks(name)

    def _start_of(self, round: int) -> dict[str, Any]:
        """The rewind point, with what the retraining rule takes from the end of the round before."""
        rewind = self.options.rewind
        dense, step = Run(self.directory.path).summary(0), self._rewind_step
        cut_off = dense["epochs"] <= step.epochs or dense["steps"] <= step.iterations
        if cut_off and not (self.directory.path / REWIND).exists():
            raise StorageError(
                f"rewind={str(step)!r} was never reached: round 0 ended after {dense['epochs']} epochs and"
                f" {dense['steps']} steps. Round 0 is stored in {self.directory.path}; give an earlier rewind point and"
                " a new dirpath."
            )
        start = self.directory.read_checkpoint(REWIND)
        if rewind.rule != "weights":
            trained = self.directory.read_tensors(
                round_file(round - 1, "weights.safetensors")
            )
            start["state_dict"] = {**start["state_dict"], **trained}
        if rewind.optimizer == "keep" or rewind.rule == "fine-tune":
            start["optimizer_states"] = self.directory.read_checkpoint(END)[
                "optimizer_states"
            ]
        if rewind.optimizer == "fresh":
            start["optimizer_states"] = [
                {**state, "state": {}} for state in start["optimizer_states"]
            ]
        return start

    def _saved_state(self, round: int) -> dict[str, Any] | None:
        """The state in which this round was left, if it was."""
        if self.resume is not None:
            saved, self.resume = self.resume, None
            if (self._own(saved) or {"round": 0})["round"] == round:
                return saved
        if not (self.directory.path / LAST).exists():
            return None
        saved = self.directory.read_checkpoint(LAST)
        return saved if self._own(saved)["round"] == round else None

    # while a round trains

    def mask_gradients(self) -> None:
        """Set the gradients of pruned weights to zero."""
        if self.enforcement is not None:
            self.enforcement.mask_gradients()

    def at_boundary(self, position: str) -> None:
        """Note metrics, store the rewind point when it comes, and save the state from time to time."""
        fit = self.fit
        if position != "batch":
            self._note_epoch()
        elif self.validated:
            self._note_metrics()
        self.validated = False
        if position == "end":
            return
        rewind, due = self._at_rewind_point(), self._due()
        if (rewind or due) and self.fit.can_capture():
            if rewind:
                self._write(REWIND, position)
                self._rewind_pending = False
            if due:
                self._write(LAST, position)
                self._mark_saved()

    def wants_boundary(self) -> bool:
        """Whether `at_boundary` has anything to do after a batch."""
        return self.validated or self._at_rewind_point() or self._due()

    def _note_epoch(self) -> None:
        self._note_metrics()
        if self.fit.epoch <= self._rewind_step.epochs:
            self._epoch_start = self.fit.global_step
        self._check_monitor()

    def _note_metrics(self) -> None:
        fresh = scalars(self._fresh())
        self._seen = self.fit.metrics()
        best = self.record.add(self.fit.global_step, self.fit.epoch, fresh)
        if best and self.options.test_each_round:
            self.record.best_test = self.fit.evaluate("test")

    def _fresh(self) -> dict[str, Any]:
        """The metrics that were logged since they were last noted."""
        metrics = self.fit.metrics()
        return {k: v for k, v in metrics.items() if self._seen.get(k) is not v}

    def _check_monitor(self) -> None:
        monitor = self.options.monitor
        if monitor is not None and not any(
            monitor in row for row in (self.record.start, *self.record.history)
        ):
            raise ValueError(
                f"monitor={monitor!r} was not logged in the first epoch of round {self.round}. Logged were:"
                f" {sorted(self.fit.metrics())}. Monitor one of these, or log it with self.log({monitor!r}, ...)."
            )

    def _at_rewind_point(self) -> bool:
        if not self._rewind_pending:
            return False
        step = self._rewind_step
        return (
            self.fit.epoch >= step.epochs
            and self.fit.global_step - self._epoch_start >= step.iterations
        )

    def _mark_saved(self) -> None:
        self._saved_at = (time.monotonic(), self.fit.global_step, self.fit.epoch)

    def _due(self) -> bool:
        seconds, step, epoch = self._saved_at
        every = self.options.save_every
        if isinstance(every, Step):
            by_steps = (
                every.iterations and self.fit.global_step - step >= every.iterations
            )
            by_epochs = every.epochs and self.fit.epoch - epoch >= every.epochs
            return bool(by_steps or by_epochs)
        return time.monotonic() - seconds >= every

    def _write(self, name: str, position: Any) -> None:
        self.record.seconds = time.monotonic() - self._clock
        checkpoint = self.fit.capture(position)
        if self.fit.is_writer:
            self.directory.write_checkpoint(name, checkpoint)

    def state(self) -> dict[str, Any]:
        """What checkpoints hold of the callback: plain containers and tensors."""
        return {
            "run": self.run_id,
            "round": self.round,
            "masks": self.masks.pack(),
            "shapes": {name: list(mask.shape) for name, mask in self.masks.items()},
            "record": self.record.state(),
            "epoch_start": self._epoch_start,
            "metrics": self.fit.metrics(),
            "fresh": list(self._fresh()),
            "streams": self.fit.streams_state(),
        }
