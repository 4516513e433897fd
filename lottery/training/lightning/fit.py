"""One fit of a Trainer, as the driver of its rounds sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lottery.training.lightning.aside import Aside
from lottery.training.lightning.data import Data
from lottery.training.lightning.driver import Driver
from lottery.training.lightning.entering import Entering
from lottery.training.lightning.kinds import is_a
from lottery.training.lightning.loops import Checkpoints, EpochLoop, FitLoop, Results, ValidationLoop
from lottery.training.lightning.reading import Reading
from lottery.training.lightning.scoring import Scoring
from lottery.training.lightning.states import States

if TYPE_CHECKING:
    from lottery.training.lightning.namespaces import Trainer

_UNSUPPORTED = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")


class Fit(Reading):
    """One `trainer.fit`, as the driver of the rounds sees it.

    Args:
        trainer: a Trainer in `setup(stage="fit")`.
        callback: the LotteryTicket.
        own_type: base class of callbacks that this Trainer accepts.

    Attributes:
        data: its loaders.
        states: what is captured.
        entering: how a state is entered again.
        scoring: batches and losses for scores.
        aside: evaluations beside the training.
    """

    driver: Driver

    def __init__(self, trainer: Trainer, callback: object, own_type: type) -> None:
        name = type(trainer.strategy).__name__
        if name in _UNSUPPORTED:
            raise ValueError(f"LotteryTicket needs whole parameters on every device; {name} shards them. Use 'ddp'.")
        several = [c for c in trainer.callbacks if is_a(c, "LotteryTicket")]
        if len(several) > 1:
            raise ValueError(
                f"a Trainer takes one LotteryTicket; this one has {len(several)}. Give each run its own Trainer."
            )
        if any(is_a(c, "ModelPruning") for c in trainer.callbacks):
            raise ValueError(
                "Lightning's ModelPruning replaces the module's parameters by masked ones, which LotteryTicket prunes"
                " itself. Leave one of the two callbacks out."
            )
        super().__init__(trainer)
        self.data = Data(trainer)
        self.states = States(trainer, callback, self.data)
        self.entering = Entering(trainer, self.data, self.states)
        self.scoring = Scoring(trainer, self.data)
        self.aside = Aside(trainer, own_type, self.data, self.states)
        self._extended: list[tuple[Any, type]] = []
        self._named: set[str] = set()

    def install(self, driver: Driver) -> None:
        """Extend the Trainer's loops, so that `driver` runs in place of the training, until `uninstall`."""
        self.driver = self.entering.driver = driver
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
        self.scoring.stop_watching()
        for target, original in self._extended:
            target.__class__ = original
            del target.lottery
        self._extended.clear()

    def run(self) -> None:
        if self.states.is_own:
            self.states.begin_rounds()
            self.driver.run()
        else:
            self.train()

    def train(self) -> None:
        """Run the Trainer's own training once: one round, from wherever `begin` put it."""
        self.trainer.fit_loop.run_once()

    def show(self, **values: float | str) -> None:
        """Put values beside the metrics of whatever progress bar the Trainer has."""
        self.trainer._logger_connector._progress_bar_metrics.update(values)

    def barrier(self) -> None:
        self.trainer.strategy.barrier("lottery")

    def not_stored(self) -> list[str]:
        """What a state does not hold, since it has no plain form: each with its owner and kind, and only once."""
        return self._not_yet_named(self.states.not_stored())

    def lost_orders(self) -> list[str]:
        """Data sets that are iterated and draw from torch's global stream as they go: in an epoch that is made again,
        they do not know what training has drawn in between. Only once.
        """
        return self._not_yet_named(self.data.lost_orders)

    def _not_yet_named(self, found: list[str]) -> list[str]:
        new = [name for name in dict.fromkeys(found) if name not in self._named]
        self._named.update(new)
        return new
