"""`LotteryTicket`: the Lightning callback that turns one `fit` into many rounds."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lottery.foundations.steps import Step
from lottery.pruning import dynamic as moving_masks
from lottery.pruning.dynamic import Method
from lottery.pruning.pruning import Pruning
from lottery.runs.branch import Branch
from lottery.runs.layout import CALLBACK, run_directory
from lottery.runs.metric import Mode
from lottery.runs.retraining import Rewind
from lottery.runs.schema import RoundState
from lottery.storage.files import local_path
from lottery.tickets.ticket import Ticket
from lottery.training.lightning import Fit
from lottery.training.lightning.namespaces import callback_bases
from lottery.training.options import Options
from lottery.training.round import Round
from lottery.training.rounds import Rounds

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer
    from torch.optim import Optimizer

_Callback: Any = type("_Callback", callback_bases(), {})


class _OwnKey:
    """The state key of a ticket that has not been in a fit; one that has been holds the usual key as an attribute.

    Of several in one Trainer, Lightning would say that keys must be unique; `setup` says what is wrong. Lightning asks
    for the key in every hook, so a property would cost something.
    """

    def __get__(self, ticket: object, kind: type) -> str:
        return f"{CALLBACK} {id(ticket)}"


class LotteryTicket(_Callback):
    """Iterative magnitude pruning with rewinding, whole, inside one `trainer.fit`.

    The Trainer describes one round: `max_epochs`, early stopping, schedulers, logging. This callback repeats that
    training on fewer weights, stores every round under `dirpath`, and goes on from there when the script runs again.

    Args:
        rounds: rounds of pruning after the dense round 0. 0 trains once and changes nothing.
        pruning: what goes each round: a fraction of the surviving weights, a list of densities, or a `Pruning`.
        rewind: what each round starts from: a step of round 0 ("init", "500it", "2ep"), or a `Rewind` for learning-rate
            rewinding, fine-tuning, or another optimizer state.
        dirpath: the run directory; default ``checkpoints/lottery`` under the Trainer's `default_root_dir`.
        seed: seed of the random streams of rounds 1, 2, ...; default: derived from the streams when round 0 begins.
        monitor: metric that chooses the best step of a round; default: that of the first EarlyStopping or
            ModelCheckpoint that has one.
        mode: "min" or "max", which values of `monitor` are better; default: "min" if its name contains "loss",
            "error" or "perplexity", else "max".
        keep: "last" keeps the trained weights of the latest round, "all" those of every round. Masks, initial and
            rewind weights are always kept.
        test_each_round: also run the test data at the best and the last step of each round.
        save_every: how often the round in progress is saved: seconds, or a step such as "100it" or "1ep".
        ticket: a `Ticket` (or its file) to start from, in place of the module's own weights.
        dynamic: masks that move while the network trains, with ``rounds=0``: "gradual", "set" or "rigl", a mapping with
            a name and settings, or an object such as ``RigL(0.1)``; see `lottery.dynamic`. Of `pruning` only `include`,
            `exclude` and `collapse` count then.
        branch: a `Branch` from a round of another run: train the ticket once, with ``rounds=0``, from where that round
            started and on its random draws, so that only the ticket differs. The ticket defaults to the round's own.
        snapshots: steps of round 0 whose states are stored too, such as ["100it", "1ep"], for a `Branch` to start from.
        on_divergence: what to do with a round that ends with weights or a loss that are NaN or infinite: nothing of it
            is stored; "stop" raises a `DivergedError`, "retry" trains it again on other random draws, three times in
            all, and records that in its summary.

    Raises:
        ValueError: an argument is out of range; the message says which and what it may be.

    Example::

        trainer = Trainer(max_epochs=30, callbacks=[LotteryTicket(rounds=12, rewind="500it", dirpath="checkpoints/a")])
        trainer.fit(module, datamodule)
        Run("checkpoints/a").table()

    Source: Frankle & Carbin, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks", ICLR 2019;
    rewinding: Frankle et al., "Stabilizing the Lottery Ticket Hypothesis", 2019.
    """

    state_key = _OwnKey()

    def __init__(
        self,
        rounds: int = 10,
        pruning: float | list[float] | Pruning = 0.2,
        rewind: str | Rewind = "init",
        dirpath: str | os.PathLike[str] | None = None,
        *,
        seed: int | None = None,
        monitor: str | None = None,
        mode: Mode | None = None,
        keep: Literal["last", "all"] = "last",
        test_each_round: bool = False,
        save_every: float | str = 60.0,
        ticket: Ticket | str | os.PathLike[str] | None = None,
        dynamic: str | Mapping[str, Any] | Method | None = None,
        branch: Branch | Mapping[str, Any] | None = None,
        snapshots: Sequence[str] = (),
        on_divergence: Literal["stop", "retry"] = "stop",
    ) -> None:
        super().__init__()
        if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 0:
            raise ValueError(f"rounds={rounds!r} must be a whole number, 0 or more")
        if dirpath is not None and not os.fspath(dirpath):
            raise ValueError("dirpath='' names no directory; leave it out for checkpoints/lottery")
        if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2**64):
            raise ValueError(f"seed={seed!r} must be a whole number from 0 to 2**64 - 1")
        if mode not in (None, "min", "max"):
            raise ValueError(f"mode={mode!r}; choose 'min' or 'max'")
        if on_divergence not in ("stop", "retry"):
            raise ValueError(f"on_divergence={on_divergence!r}; choose 'stop' or 'retry'")
        if keep not in ("last", "all"):
            raise ValueError(f"keep={keep!r}; choose 'last' or 'all'")
        self.rounds = rounds
        self.pruning = Pruning.of(pruning)
        limit = self.pruning.amounts.rounds
        if limit is not None and limit < rounds:
            raise ValueError(f"rounds={rounds}, but there are only {limit} densities")
        self.rewind = Rewind.of(rewind)
        self.dirpath = dirpath if dirpath is None else local_path(dirpath)
        self._made_in = Path.cwd()  # what a relative dirpath is of, wherever the process goes
        self.seed = seed
        self.monitor = monitor
        self.mode = mode or _mode_of(monitor)
        self.keep = keep
        self.test_each_round = test_each_round
        self.save_every = _interval(save_every)
        self.ticket = ticket if ticket is None or isinstance(ticket, Ticket) else Ticket.load(ticket)
        self.dynamic = None if dynamic is None else moving_masks.resolve(dynamic)
        if self.dynamic is not None and rounds:
            raise ValueError(f"rounds={rounds} with dynamic={dynamic!r}: masks that move train once; give rounds=0")
        self.branch = None if branch is None else Branch.of(branch)
        if self.branch is not None and (rounds or self.dynamic is not None):
            raise ValueError(
                f"rounds={rounds}, dynamic={dynamic!r} with branch: one training takes the place of another; give"
                " rounds=0 and fixed masks"
            )
        self.snapshots = tuple(Step.parse(step) for step in snapshots)
        self.on_divergence = on_divergence
        self._rounds: Rounds | None = None
        self._fit: Fit | None = None
        self._kept: dict[str, object] = {}

    # Lightning's hooks

    def setup(self, trainer: Any, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self._kept = {}
        self._leave()
        self.__dict__["state_key"] = CALLBACK
        self._fit = Fit(trainer, self, _Callback)
        self._rounds = Rounds(self._options(trainer), self._fit)
        self._fit.install(self._rounds)
        self._rounds.tracking.install()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._rounds is not None:
            self._rounds.note_settings()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._rounds is None or self._fit is None or not self._fit.states.is_resuming:
            return
        self._rounds.resume = checkpoint
        own = RoundState.within(checkpoint)
        if own is not None:
            self._fit.entering.file_under(own.round)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        if self._fit is not None:
            self._fit.scoring.note_batch(batch)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not pl_module.automatic_optimization and self._round is not None:
            self._round.keep_gradients()
            self._round.mask_gradients()  # before the module clips them

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self._rounds is not None and self._round is not None:
            if trainer.global_step == 0:
                self._rounds.before_first_step()
            self._round.gather(optimizer)
            if self._round.move(optimizer):
                self._rounds.tracking.moved(self._round.masks)
            self._round.before_step()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._check_validation(trainer, batch_idx)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._check_validation(trainer, batch_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._round is not None and not trainer.sanity_checking:
            self._round.validated = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._kept = self.state_dict()  # for callbacks that save a checkpoint now
        self._leave()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._leave()

    def state_dict(self) -> dict[str, object]:
        return self._kept if self._round is None else self._round.state().plain()

    # copies of this object start without a fit

    def __getstate__(self) -> dict[str, object]:
        # the Trainer adds `log` and `log_dict`, methods of the module that would take it along
        left_out = ("_rounds", "_fit", "_kept", "state_key", "log", "log_dict")
        kept = {name: value for name, value in vars(self).items() if name not in left_out}
        return {**kept, "_rounds": None, "_fit": None, "_kept": {}}

    @property
    def _round(self) -> Round | None:
        return None if self._rounds is None else self._rounds.round

    def _check_validation(self, trainer: Trainer, batch_idx: int) -> None:
        """Once for each loader, when all callbacks have put in place the weights that are evaluated."""
        if batch_idx == 0 and self._round is not None and not trainer.sanity_checking:
            self._round.check("in a validation")

    def _leave(self) -> None:
        if self._rounds is not None:
            self._rounds.tracking.uninstall()
        if self._fit is not None:
            self._fit.uninstall()
        self._rounds, self._fit = None, None

    def _options(self, trainer: Any) -> Options:
        dirpath = self.dirpath
        if trainer.fast_dev_run:
            dirpath = local_path(tempfile.mkdtemp(prefix="lottery-fast-dev-run-"))
        elif dirpath is None:
            dirpath = local_path(trainer.default_root_dir) / "checkpoints" / "lottery"
        return Options.of(self, run_directory(self._made_in / dirpath).path)


def _mode_of(monitor: str | None) -> Mode:
    return "min" if monitor and any(word in monitor for word in ("loss", "error", "perplexity")) else "max"


def _interval(value: float | str) -> float | Step:
    if isinstance(value, str):
        step = Step.parse(value)
        if bool(step.epochs) == bool(step.iterations):
            raise ValueError(f"save_every={value!r}; write seconds (60), steps ('100it') or epochs ('1ep')")
        return step
    if not isinstance(value, (int, float)) or not value >= 0:
        raise ValueError(f"save_every={value!r} must be seconds (60), 0 or more, steps ('100it') or epochs ('1ep')")
    return float(value)
