"""The states of a fit: captured, and stored without loss."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Generator
from typing import TYPE_CHECKING

from torch.optim import Optimizer

from lottery.foundations import streams
from lottery.foundations.names import weights_of
from lottery.runs.layout import STATE
from lottery.training.lightning.data import Data
from lottery.training.lightning.driver import Position
from lottery.training.lightning.kinds import is_a
from lottery.training.lightning.live import Live, look
from lottery.training.lightning.stored_objects import StoredObjects
from lottery.training.state import Objects, Plain, Snapshot, is_plain

if TYPE_CHECKING:
    from lottery.training.lightning.namespaces import Trainer

FORMAT = 3  # of states
# of a state: are plain forms already
WRITTEN = ("now", "iterator", "live", "validation")
LOGGED = ("_progress_bar_metrics", "_logged_metrics", "_callback_metrics", "_first_loop_iter", "_current_fx")


class States:
    """The states of a fit.

    Args:
        trainer: the fit's.
        callback: the LotteryTicket.
        data: the fit's loaders.

    Attributes:
        round: the round in progress, after which folders are named.
        restored_from: the checkpoint from which Lightning is restoring the fit.
        stored_objects: what checkpoints hold that is not plain.
    """

    def __init__(self, trainer: Trainer, callback: object, data: Data) -> None:
        self.trainer = trainer
        self.data = data
        self.round = 0
        self.restored_from: object = None
        self._callback = callback
        self._live: Live | None = None
        self._beforehand: list[tuple[Objects, Objects]] = []
        self.stored_objects = StoredObjects(self._dump)
        self._state: dict[str, Plain] | None = None

    def begin_rounds(self) -> None:
        """The rounds begin: what changes from now on belongs to a state."""
        self._live = Live(self.trainer, self._beforehand)
        self.data.begin(self._live)

    @property
    def live(self) -> Live:
        """The live objects of the fit, once its rounds have begun."""
        assert self._live is not None
        return self._live

    @property
    def is_own(self) -> bool:
        """Whether the fit is one of the LotteryTicket's: tuners take the callbacks away and run the loop for
        themselves.
        """
        return any(callback is self._callback for callback in self.trainer.callbacks)

    @property
    def is_resuming(self) -> bool:
        """Whether Lightning restores a checkpoint that the user has named, rather than one of a tuner's."""
        return self.is_own and self.restored_from is not None

    def is_unasked(self, path: object) -> bool:
        """Whether Lightning has found a checkpoint by itself: SLURM's, or one of OnExceptionCheckpoint. The run itself
        knows more than that, and it may be of another one."""
        found = [c.ckpt_path for c in self.trainer.callbacks if is_a(c, "OnExceptionCheckpoint")]
        return self.is_own and (path in found or path == self.trainer._checkpoint_connector._hpc_resume_path)

    def optimizers(self) -> list[Optimizer]:
        """The Trainer's, and those that the module or a callback holds and steps by itself."""
        own = list(self.trainer.optimizers)
        return [*own, *(held for held in self.live.optimizers() if held not in own)]

    def not_stored(self) -> list[str]:
        """What a state does not hold, since it has no plain form: each with its owner and kind."""
        return [*self.live.opaque(), *self.live.lost(), *self.stored_objects.names]

    def undisturbed(self) -> contextlib.AbstractContextManager[object]:
        """A block after which attributes, metrics, modes and loaders are as they were before it."""
        return self.live.undisturbed()

    @contextlib.contextmanager
    def beforehand(self) -> Generator[None]:
        """A block in which Lightning loads a checkpoint or has loaders made: before the rounds begin, what that changes
        is not taken for how live objects were at first.
        """
        if self._live is not None or not self.is_own:
            yield
            return
        before = look(self.trainer)
        yield
        self._beforehand.append((before, look(self.trainer)))

    def capture(self, position: Position) -> dict[str, Plain]:
        """A Lightning checkpoint of this moment, with what Lightning leaves out under the key "lottery", all plain.

        Raises:
            TypeError: it holds something that cannot be stored safely, and that was not there when the fit began; the
                message names its owner.
        """
        trainer = self.trainer
        loop = trainer.fit_loop
        logger = trainer._logger_connector
        with self.live.undisturbed() as now:
            self._state = self.state(now)
            with streams.isolated():
                checkpoint = self._dump()
        for key in ("hyper_parameters", "datamodule_hyper_parameters"):
            if key in checkpoint:
                checkpoint[key] = {k: v for k, v in checkpoint[key].items() if is_plain(v)}
        state: dict[str, Plain] = {
            "position": position,
            "round": self.round,
            "weights": weights_of(self.trainer.lightning_module),
            "gradients": {
                name: parameter.grad
                for name, parameter in self.trainer.lightning_module.named_parameters()
                if parameter.grad is not None
            },
            **self._state,
            "should_stop": trainer.should_stop,
            "reloaded": loop._last_train_dl_reload_epoch,
            "logged": {name: copy.copy(getattr(logger, name)) for name in LOGGED},
        }
        if position == "batch":
            state["loaders"] = self.data.states_of_loaders()
            state["results"] = loop.epoch_loop._results.partial_values()
        self._state = None
        written = {key: state.pop(key) for key in WRITTEN}
        checkpoint = self.stored_objects.encode({**checkpoint, STATE: state})
        checkpoint[STATE] |= written
        return checkpoint

    @property
    def is_capturing(self) -> bool:
        """Whether a checkpoint is being taken for the run, rather than for the user."""
        return self._state is not None

    def can_capture(self) -> bool:
        """Whether a state captured now could be entered again; not while weights are being averaged by SWA."""
        averaging = any(
            is_a(callback, "StochasticWeightAveraging") and callback._initialized for callback in self.trainer.callbacks
        )
        return not averaging

    def state(self, now: Snapshot | None = None) -> dict[str, Plain]:
        """What Lightning's checkpoints leave out: the random streams now, and those from which the current epoch's
        iterator was made; what training has changed in live objects, `now` or by another look."""
        if self._state is not None:
            return self._state  # asked for by the callback while a checkpoint is captured
        return {
            "format": FORMAT,
            "now": self.data.capture_streams(),
            "iterator": self.data.origin,
            "live": self.live.changes() if now is None else now.changes,
            "validation": self.data.capture_validation(),
        }

    def as_at_first(self) -> None:
        """Have live objects as they were when the fit began, so that the module has the parts that it had then."""
        self.live.restore({})

    def _dump(self) -> dict[str, Plain]:
        return self.trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
