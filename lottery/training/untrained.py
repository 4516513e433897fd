"""A fit of a recipe's Trainer in which something else happens in place of the training."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal

from lottery.training.lightning import Fit, Position
from lottery.training.lightning.namespaces import callback_bases

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule

    from lottery.training.lightning.namespaces import Trainer
    from lottery.training.recipes import RecipeCLI

_Callback: Any = type("_Callback", callback_bases(), {})


class InsteadOfTraining(_Callback):
    """A callback that does one thing in a `trainer.fit` that trains nothing. Module and data are set up as for
    training."""

    def __init__(self) -> None:
        super().__init__()
        self._fit: Fit | None = None

    @abstractmethod
    def instead(self, fit: Fit) -> None:
        """What happens in place of the training."""

    # Lightning's hooks

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._fit = Fit(trainer, self, _Callback)
        self._fit.install(self)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._fit is not None:
            self._fit.uninstall()
        self._fit = None

    # what drives the fit

    def run(self) -> None:
        assert self._fit is not None
        self.instead(self._fit)

    def wants_boundary(self) -> bool:
        return False

    def restored(self) -> None:
        return

    def at_boundary(self, position: Position | Literal["end"]) -> None:
        return


def fit(cli: RecipeCLI, callback: InsteadOfTraining) -> None:
    """Fit the recipe's model with no other callback; nothing is logged or checked.

    Raises:
        KeyboardInterrupt: Ctrl+C was pressed.
    """
    from pytorch_lightning.loggers.logger import DummyLogger

    trainer = cli.trainer
    trainer.callbacks = [callback]
    trainer.loggers = [DummyLogger() for _ in trainer.loggers]
    trainer.num_sanity_val_steps = 0
    try:
        trainer.fit(cli.model, datamodule=cli.datamodule)
    except SystemExit:  # Lightning's way to end after Ctrl+C
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
