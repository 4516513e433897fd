"""Recipes: a Trainer, a model, data and a LotteryTicket from one YAML file, on LightningCLI."""

from __future__ import annotations

import argparse
import difflib
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import DefaultHelpFormatter
from jsonargparse.typing import PositiveInt
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from torch import Tensor

from lottery.foundations import streams
from lottery.foundations.names import weights_of
from lottery.training.callback import LotteryTicket
from lottery.training.progress import RunProgressBar


class RecipeCLI(LightningCLI):
    """LightningCLI with a section `lottery`: the arguments of `LotteryTicket`."""

    trainer: Any

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(LotteryTicket, "lottery")
        parser.add_argument(
            "--threads",
            type=PositiveInt | None,
            default=None,
            help="CPU threads of torch. Small networks train fastest on 1; other numbers may round differently.",
        )

    def before_instantiate_classes(self) -> None:
        if self.config["threads"] is not None:
            torch.set_num_threads(self.config["threads"])

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "LightningCLI's args parameter")
            try:
                super().parse_arguments(parser, args)
            except argparse.ArgumentError as error:
                raise ValueError(_explained(error.message, parser)) from error

    def instantiate_trainer(self, **kwargs: object) -> Trainer:
        trainer = self.config_init["trainer"]
        callbacks = trainer["callbacks"] or []
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        has_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
        if trainer["enable_progress_bar"] is not False and not has_bar:
            self.trainer_defaults["callbacks"] = [RunProgressBar()]
        try:
            return super().instantiate_trainer(**kwargs)
        except ValueError as error:
            raise ValueError(f"trainer: {error}") from error

    @property
    def ticket(self) -> LotteryTicket:
        """The LotteryTicket of the Trainer."""
        return next(c for c in self.trainer.callbacks if isinstance(c, LotteryTicket))

    def fresh_weights(self, seed: int) -> dict[str, Tensor]:
        """The state dict of the model made once more, with random numbers of its own; the process's stay."""
        with streams.isolated():
            streams.seed(seed)
            model = self.parser.instantiate_classes(self.config)["model"]
        return weights_of(model)

    @property
    def seed_settings(self) -> tuple[str, ...]:
        """The settings beside `seed_everything` that a seed goes to, where they are set: those of data and rounds."""
        names = ("data.init_args.seed", "lottery.seed")
        return tuple(name for name in names if self.config.get(name) is not None)

    @property
    def dirpath(self) -> Path:
        """The run directory."""
        default = Path(self.trainer.default_root_dir) / "checkpoints" / "lottery"
        return Path(self.ticket.dirpath or default)


def load(recipe: str, overrides: Sequence[str] = (), **parser: object) -> RecipeCLI:
    """Make everything that a recipe names; nothing is trained yet.

    Args:
        recipe: path of a YAML file.
        overrides: command-line settings that go before the recipe's, such as ``["--lottery.rounds", "5"]``.
        parser: what ``--help`` says beside the settings: `usage`, `description`, `epilog`.

    Raises:
        ValueError: there is no such recipe, or a setting is unknown or of the wrong type.
    """
    if not Path(recipe).is_file():
        found = sorted(str(path) for path in Path("recipes").glob("*.yaml"))
        raise ValueError(f"there is no recipe {recipe!r}" + (f"; recipes/ has {', '.join(found)}" if found else ""))
    return RecipeCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=None,
        auto_configure_optimizers=False,
        seed_everything_default=0,
        trainer_defaults={"logger": False, "enable_model_summary": False},
        parser_kwargs={
            "prog": f"lottery run {recipe}",
            "formatter_class": _Formatter,
            "exit_on_error": False,
            "allow_abbrev": False,
            **parser,
        },
        args=["--config", recipe, *overrides],
        run=False,
    )


def quieten() -> None:
    """Lightning's notices repeat in every round; warnings that matter still come through."""
    names = "pytorch_lightning", "lightning.pytorch", "lightning", "lightning_fabric"
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (".*does not have many workers.*", ".*smaller than the logging interval.*", ".*is deprecated.*"):
        warnings.filterwarnings("ignore", message)


class _Formatter(DefaultHelpFormatter):
    """Leaves the lines of description and epilog as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text


def _explained(message: str, parser: LightningArgumentParser) -> str:
    """A parser's message, with the setting that a misspelt one is closest to."""
    unknown = [word.split("=")[0] for word in message.split() if word.startswith("--")]
    near = [name for word in unknown for name in difflib.get_close_matches(word, parser._option_string_actions, 1)]
    hint = f"did you mean {' '.join(near)}? " if near else ""
    return f"{message}\n{hint}`{parser.prog} --help` lists every setting."
