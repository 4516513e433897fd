"""The loop of the lottery ticket: train, prune, rewind, again, with every round on disk."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any, Literal

from lottery import storage
from lottery.foundations import streams
from lottery.foundations.environment import changes, environment, versions
from lottery.foundations.names import load_weights, shape_buffers
from lottery.foundations.steps import Step
from lottery.masks.masks import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.pruning import dynamic
from lottery.pruning.maskable import check_maskable, check_norms, norms_of
from lottery.pruning.scores import name_of, resolve
from lottery.runs.branch import Branch
from lottery.runs.layout import (
    FOLDERS,
    GATHERED,
    INITIAL,
    LAST,
    RETRIED,
    REWIND,
    RUN,
    START,
    STATE,
    SUMMARY,
    TRAINED,
    encode_masks,
    lost_its_manifest,
    masks_file,
    round_file,
    run_directory,
)
from lottery.runs.metric import Mode
from lottery.runs.run import Run, weights_in
from lottery.runs.schema import RoundState, RunInfo, Settings
from lottery.runs.starting_point import check_reached, starting_state, with_weights
from lottery.runs.states import read_state, state_of
from lottery.storage.directory import StorageError
from lottery.text import terminal
from lottery.training import decision, divergence, messages, settings
from lottery.training.lightning import Fit, Position
from lottery.training.limits import check_round
from lottery.training.options import Options
from lottery.training.round import ActiveRun, Round
from lottery.training.run_directory import open_again, resumed_state, write_beginning, write_round
from lottery.training.stopping import Stopping
from lottery.training.tracking import Tracking


class Rounds:
    """All rounds of one fit.

    Args:
        options: what to do.
        fit: the fit to do it in.

    Attributes:
        resume: the Lightning checkpoint that the user passed to `trainer.fit(ckpt_path=...)`, or None.
        begun: whether `run` was called.
        round: the round in progress, once there is one.
        tracking: what the loggers see.
        training: the settings that define a round besides the options.
    """

    active: ActiveRun
    training: dict[str, Any]

    def __init__(self, options: Options, fit: Fit) -> None:
        self.options = options
        self.fit = fit
        self.directory = run_directory(options.dirpath)
        self.resume: dict[str, Any] | None = None
        self.begun = False
        self.round: Round | None = None
        self._is_new = False  # whether this fit has begun the run, and nothing of it is learned
        self._stopping = Stopping()
        self._seconds: dict[int, float] = {}
        self._rewind_step = options.rewind.resolve(fit.max_epochs, fit.trainer.max_steps)
        self.tracking = Tracking(fit, options)

    def note_settings(self) -> None:
        """Note what the fit will do, before optimizers and schedulers take up a state of `ckpt_path`."""
        self.training = self.fit.settings()

    def run(self) -> None:
        """Every round that is not finished yet, in order."""
        self.begun = True
        self._stopping = Stopping(self.fit.requeue_signal, self.fit.handlers_before)
        with self._stopping.heeding(), self.directory.locked(self.fit.is_writer), terminal.logs_above_bars():
            self._open()
            self.tracking.start()
            for number in range(self.options.rounds + 1):
                while not self._finished(number):
                    if self._out_of_time(number):
                        return
                    self._heed_signals(number)
                    self.round = current = self._begin(number)
                    self.tracking.begin(number, current.masks)
                    current.train()
                    if not self._complete(current):
                        return
                    if not self._diverged(current):
                        self._finish(current)
            self._end()

    # the steps of the loop

    def _open(self) -> None:
        """Start a run in an empty directory, or make sure that this fit belongs to the run that is there."""
        options, fit = self.options, self.fit
        seed = options.seed
        if seed is None:  # before checks that may make the data, which draws
            seed = streams.fingerprint(streams.capture())
        parameters = prunable_parameters(fit.module, options.pruning.include, options.pruning.exclude)
        check_maskable(fit.module, parameters)
        masks = Masks.ones(parameters)
        if options.ticket is not None:
            masks = masks.with_masks(options.ticket.masks)
        self._before = masks
        if options.test_each_round:
            fit.aside.check_testing()
        plan = decision.check(options.pruning, fit, masks, options.rounds) if options.rounds else {}
        if options.branch is not None:
            options.branch.check(self.training)
        now = settings.collect(options, self.training, self._monitor(), masks)
        messages.prunable(masks, parameters, options, self._rewind_step)
        messages.units(plan)
        if options.rounds:
            check_round(fit, options, self._rewind_step, new=RUN not in self.directory)
        if RUN in self.directory:
            stored = Run(self.directory.path).info
            for line in (
                settings.compare(stored.settings.stored, now.stored, self.directory.path),
                changes((stored.versions, stored.environment), self._environment()),
            ):
                if line is not None:
                    terminal.show(line)
            self._activate(stored.id, stored.seed)
            if fit.is_writer:
                open_again(self.active)
            fit.barrier()
            self._check_resume()
        else:
            self._start_run(now, masks, seed)

    def _begin(self, number: int) -> Round:
        """Put the module, the optimizers and the random streams where a round starts or was left."""
        branch = self.options.branch
        self.fit.states.round = number
        self.fit.data.round = number if branch is None else branch.data_round
        if number > 0:
            self.fit.states.as_at_first()
        current = Round(self.active, number, self._masks_of(number))
        if number > 0:
            check_norms(current.masks, norms_of(self.fit.module, current.masks))
            self._check_paths(current)
        saved, attempt = self._saved_state(number), divergence.retried(self.directory, number)
        if saved is None:
            start = self._start_of(number) if branch is None else self._start_of_branch(branch)
            seed = (
                branch.seed
                if branch is not None and attempt is None
                else divergence.seed_of(self.active.seed, number, attempt)
            )
            reorder = branch is not None and branch.order > 0
            seconds = self._spent() if branch is None else 0.0
            self.fit.entering.begin(start, seed=seed, seconds=seconds, reorder=reorder)
            divergence.scale_rates(self.fit, 1.0 if attempt is None else attempt.learning_rate)
            current.see_all_but(())
        elif STATE in saved:
            current.go_on(saved)
            messages.round_goes_on(number, self.fit.global_step)
        else:
            current.adopt(RoundState.within(saved))
        later = number > 0 or branch is not None
        if later and self.options.rewind.rule == "fine-tune":
            self.fit.entering.rest_schedulers()
        messages.lost_orders(self.fit.lost_orders())
        return current

    def _complete(self, current: Round) -> bool:
        """Whether the round ended by itself; otherwise the Trainer's time ran out in it."""
        if self.fit.time_is_up() and not self.fit.reached_its_end():
            messages.out_of_time(current.number, self.directory.path)
            return False
        return True

    def _heed_signals(self, number: int) -> None:
        if self._stopping.is_asked:
            messages.stopped_between(number, self.directory.path)
            self._stopping.stop()

    def _diverged(self, current: Round) -> bool:
        """Whether a round has ended in NaN or infinity, and is to be trained again.

        Raises:
            DivergedError: it is not; nothing of it is stored.
        """
        found, number = divergence.trouble(self.fit, current.record), current.number
        if not found:
            return False
        if self.fit.is_writer:
            self.directory.delete([LAST])  # the trouble may be in it already
        attempt = divergence.again(divergence.retried(self.directory, number))
        if self.options.on_divergence == "stop" or attempt.attempt >= divergence.ATTEMPTS:
            raise divergence.error(number, found, self.directory)
        messages.trained_again(number, found, attempt.attempt)
        if self.fit.is_writer:
            self.directory.commit({round_file(number, RETRIED): storage.encode_json(asdict(attempt))})
        self.fit.barrier()
        return True

    def _finish(self, current: Round) -> None:
        """Store a round. From here on it is never trained again."""
        fit, number = self.fit, current.number
        test = fit.aside.evaluate("test") if self.options.test_each_round else {}
        summary = current.record.summary(
            number,
            current.masks,
            steps=fit.global_step,
            epochs=fit.epoch,
            test_last=test,
            logged_steps=fit.logged_steps,
            connectivity=self.active.follow(current.masks).summary(),
            moves=() if current.mover is None else current.mover.moves,
            metric=Run(self.directory.path).summary(0).metric if number else None,
            retried=divergence.retried(self.directory, number),
        )
        if fit.is_writer:
            write_round(current, summary)
        fit.barrier()
        self.tracking.finish(summary)
        messages.round_finished(summary, self.options.rounds)

    def _end(self) -> None:
        """Leave the module with the trained weights of the last round, also when nothing was left to train."""
        run, fit = Run(self.directory.path), self.fit
        if self.round is None:
            try:
                weights = run.weights(self.options.rounds)
                shape_buffers(fit.module, weights)
                load_weights(fit.module, weights)
            except StorageError as error:
                raise StorageError(
                    f"all rounds are finished, but the module cannot be given what it trained: {error}"
                ) from error
            messages.nothing_trained(self.options.rounds, f"the weights of round {self.options.rounds}")
        if fit.is_writer:
            self.directory.sweep(FOLDERS, loose=True)
        terminal.show(messages.run_table(run))

    # the directory

    def _start_run(self, now: Settings, masks: Masks, seed: int) -> None:
        fit, options, path = self.fit, self.options, self.directory.path
        if lost_its_manifest(path):
            raise StorageError(
                f"{path / storage.MANIFEST} is missing, though the directory holds what was trained. Restore it from a"
                f" copy, have `lottery verify {path} --repair` make it again, or use another dirpath. Nothing was"
                " changed."
            )
        if options.ticket is not None:
            options.ticket.apply(fit.module)
        self._activate(f"{streams.derive(os.urandom(16)):016x}", seed)
        if self.resume is not None:
            resumed_state(self.active, self.resume, new=True)
        if options.dynamic is not None:
            masks = dynamic.begin(options.dynamic, masks, seed, dynamic.Training.of(fit.trainer))
            if fit.module.example_input_array is not None:  # else the first step shows what forward takes
                self._check_moving(masks)
        self.round = Round(self.active, 0, masks)
        start = fit.states.capture("start")
        self.round = None
        messages.not_stored(fit.not_stored())
        if fit.is_writer:
            of, machine = self._environment()
            self._is_new = True
            write_beginning(self.active, RunInfo(self.active.id, seed, of, now, machine), masks, start)
        fit.barrier()
        if not fit.is_writer:  # its own streams may give another seed
            stored = Run(self.directory.path).info
            self._activate(stored.id, stored.seed)

    def _activate(self, run: str, seed: int) -> None:
        self.active = ActiveRun(
            run, seed, self.options, self.fit, self.directory, self._monitor(), self._rewind_step, self._stopping
        )

    def _environment(self) -> tuple[dict[str, str], dict[str, object]]:
        return versions(), environment(self.fit.module.device)

    def _check_resume(self) -> None:
        if self.resume is None:
            return
        own = resumed_state(self.active, self.resume, new=False)
        if self._finished(own.round):
            terminal.show(f"round {own.round} of ckpt_path is finished already: going on with the run where it stands")
            self.resume = None

    def _finished(self, number: int) -> bool:
        return round_file(number, SUMMARY) in self.directory

    def _monitor(self) -> tuple[str | None, Mode]:
        if self.options.monitor is not None:
            return self.options.monitor, self.options.mode
        return self.fit.monitored() or (None, self.options.mode)

    def _spent(self) -> float:
        """Seconds that the finished rounds took."""
        run = Run(self.directory.path)
        for number in run.rounds:
            if number not in self._seconds:  # read once: a run may have a thousand rounds
                self._seconds[number] = run.summary(number).seconds
        return sum(self._seconds.values())

    def _out_of_time(self, number: int) -> bool:
        if self.fit.time_limit() > self._spent():
            return False
        messages.out_of_time(number, self.directory.path)
        return True

    # what a round starts from

    def _masks_of(self, number: int) -> Masks:
        """The masks of a round; made from the round before where it was not begun yet."""
        history = Run(self.directory.path).masks
        self.fit.barrier()  # every process has read before one writes
        if number == len(history):
            history = history.followed_by(self._decide(number, history[-1]))
            if not self.fit.agrees(lambda: history.pack().numpy().tobytes()):
                raise ValueError(
                    f"the processes of this fit decided on different masks for round {number}: what the score"
                    f" {name_of(resolve(self.options.pruning.score))} sees differs from process to process. Use a score"
                    " without data, such as 'magnitude', or train on one device. The rounds so far are stored."
                )
            if self.fit.is_writer:
                self.directory.commit({masks_file(number): encode_masks(history)}, drop=[masks_file(number - 1)])
        self.fit.barrier()
        return history[number]

    def _check_paths(self, current: Round) -> None:
        """Stop, or warn, where no path is left from input to output."""
        try:
            self.active.follow(current.masks).check()
        except ValueError as error:
            found = f"the masks of round {current.number}: {error}"
            if self.options.pruning.collapse == "stop":
                raise ValueError(f"{found} The rounds so far are stored.") from None
            terminal.show(f"warning: {found}")

    def _decide(self, number: int, masks: Masks) -> Masks:
        """The masks of a round, from what the pruning says is to be scored."""
        if self.options.pruning.weights == "start":
            weights = weights_in(self._start_of(number))
        else:
            weights = self.directory.read_tensors(round_file(number - 1, TRAINED))
        gathered = round_file(number - 1, GATHERED)
        try:
            return decision.next_masks(
                self.options.pruning,
                self.fit,
                masks,
                number,
                weights=weights,
                initial=self.directory.read_tensors(INITIAL),
                accumulated=self.directory.read_tensors(gathered) if gathered in self.directory else None,
                seed=streams.derive(self.active.seed, "score", number),
            )
        except ValueError as error:
            scored = (
                f"the weights at the end of round {number - 1}"
                if self.options.pruning.weights == "trained"
                else f"the weights that round {number} starts from"
            )
            raise ValueError(
                f"{error}\nThis stopped the pruning of {scored}. What is finished is stored; with other settings, or a"
                " module that trains otherwise, take a new dirpath."
            ) from error

    def _start_of(self, number: int) -> dict[str, Any]:
        if number == 0:
            return self._first_state()
        check_reached(Run(self.directory.path), self._rewind_step)
        return starting_state(self.directory, self.options.rewind, number, self.active.id)

    def _start_of_branch(self, branch: Branch) -> dict[str, Any]:
        """Where the round that this one is trained instead of started, with this run's weights."""
        weights, start = self.directory.read_tensors(INITIAL), branch.state()
        if start is None:
            load_weights(self.fit.module, weights)
            return self.fit.states.capture("start")
        return with_weights(start, weights)

    def _saved_state(self, number: int) -> dict[str, Any] | None:
        """The state in which a round was left, if it was."""
        if self.resume is not None:
            saved, self.resume = self.resume, None
            own = RoundState.within(saved)
            if number == (0 if own is None else own.round):
                return saved
        if self.directory.holds(LAST):
            saved = self.directory.read_checkpoint(LAST)
            own = state_of(self.directory, LAST, saved, self.active.id)
            if own.round == number:
                return saved
            if self.fit.is_writer and self._finished(own.round):  # a kill came before it was deleted
                self.directory.delete([LAST])
        own_draws = number == 0 and self.options.branch is None and divergence.retried(self.directory, 0) is None
        return self._first_state() if own_draws else None

    def _first_state(self) -> dict[str, Any]:
        """The state that round 0 began from.

        Raises:
            StorageError: it is not there.
        """
        name = START if START in self.directory or self._rewind_step != Step() else REWIND
        if not self.directory.holds(name):
            raise StorageError(
                f"{self.directory.path} has lost {LAST}, and an earlier version of lottery kept nothing else of where"
                " round 0 began. Restore it from a copy, or start the run again in a new dirpath."
            )
        return read_state(self.directory, name, self.active.id)

    # while a round trains

    def before_first_step(self) -> None:
        """What can be refused once there is a batch is refused before anything is learned from it.

        A run that this fit has begun is then taken back: with other settings another can begin in its place.
        """
        if self.round is None or self.round.number > 0:
            return
        options, masks = self.options, self.round.masks
        try:
            self._check_moving(masks)
            if options.rounds:
                seed = streams.derive(self.active.seed, "score", 0)
                messages.units(decision.try_out(options.pruning, self.fit, masks, options.rounds, seed))
        except ValueError:
            if self._is_new and self.fit.is_writer:
                self.directory.commit({}, drop=[*self.directory.files(), LAST])
            raise
        self._is_new = False

    def _check_moving(self, masks: Masks) -> None:
        """Make sure that the masks which are going to move leave a path to begin with."""
        options = self.options
        if options.dynamic is not None and options.pruning.collapse == "stop":
            dynamic.check_begin(options.dynamic, self._before, masks, self.active.follow)

    def after_batch(self) -> None:
        if self.round is not None:
            self.round.after_batch()

    def wants_boundary(self) -> bool:
        return self.round is not None and self.round.wants_boundary()

    def restored(self) -> None:
        if self.round is not None:
            self.round.restored()

    def at_boundary(self, position: Position | Literal["end"]) -> None:
        if self.round is not None:
            self.round.at_boundary(position)
