"""Recipes: a Trainer, a model, data and a LotteryTicket from one YAML file, on LightningCLI."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import LightningCLI

from lottery.callback import LotteryTicket
from lottery.progress import RunProgressBar


class RecipeCLI(LightningCLI):
    """LightningCLI with a section `lottery`: the arguments of `LotteryTicket`."""

    def add_arguments_to_parser(self, parser: Any) -> None:
        parser.add_lightning_class_args(LotteryTicket, "lottery")

    @property
    def trainer_ticket(self) -> Any:
        """The LotteryTicket of the Trainer."""
        return next(c for c in self.trainer.callbacks if isinstance(c, LotteryTicket))


def load(recipe: str, overrides: list[str]) -> RecipeCLI:
    """Make everything that a recipe names; nothing is trained yet.

    Args:
        recipe: path of a YAML file.
        overrides: command-line settings that go before the recipe's, such as ``["--lottery.rounds", "5"]``.
    """
    return RecipeCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=None,
        auto_configure_optimizers=False,
        seed_everything_default=0,
        trainer_defaults={
            "callbacks": [RunProgressBar()],
            "logger": False,
            "enable_model_summary": False,
        },
        parser_kwargs={"prog": f"lottery run {recipe}"},
        args=["--config", recipe, *overrides],
        run=False,
    )
