"""What the user's loggers see of a fit with several rounds.

Every logger of the Trainer is extended for the time of the fit: TensorBoard gets a run per round, all over the same
steps; every other logger gets one axis of steps that never goes back, with `round` and `density` in each row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from lottery.foundations.names import owner_of
from lottery.masks.masks import Masks
from lottery.runs.run import Run
from lottery.runs.schema import RoundSummary
from lottery.training.lightning import Fit
from lottery.training.options import Options
from lottery.training.tracking.board import Board
from lottery.training.tracking.images import mask_image


class Tracking:
    """The loggers of one fit, extended from `install` to `uninstall`. With `rounds=0` they are left alone.

    Args:
        fit: the fit.
        options: what it is to do; the loggers get it as hyperparameters.

    Attributes:
        columns: what rows are extended by: `round` and `density`, nothing before the first round.
        offset: steps of the rounds before.
    """

    def __init__(self, fit: Fit, options: Options) -> None:
        self.columns: dict[str, float] = {}
        self.offset = 0
        self._fit = fit
        self._options = options
        self._extended: list[tuple[object, type]] = []
        self._boards: list[Board] = []

    def install(self) -> None:
        """Extend the loggers, and tell them the settings of the run."""
        if not self._options.rounds and self._options.dynamic is None:
            return
        settings = _settings(self._options)
        loggers = {id(logger): logger for logger in self._fit.trainer.loggers}
        for logger in loggers.values():
            self._extend(logger, settings)
            logger.log_hyperparams(dict(settings))

    def uninstall(self) -> None:
        """Make the loggers what they were."""
        for logger, original in self._extended:
            logger.__class__ = original
        self._extended.clear()
        for board in self._boards:
            board.close()
        self._boards.clear()

    def start(self) -> None:
        """The run is open: show the rounds that are finished already."""
        if self._boards:
            run = Run(self._options.dirpath)
            summaries = [run.summary(number) for number in run.rounds]
            for board in self._boards:
                board.start(summaries)

    def begin(self, number: int, masks: Masks) -> None:
        """A round begins, or goes on, from the step at which the fit stands."""
        if not self._extended:
            return
        run = Run(self._options.dirpath)
        earlier = [run.summary(each).logged_steps for each in range(number)]
        self.columns = {"round": number, "density": masks.density}
        self.offset = sum(earlier)
        if self._boards:
            images = _images(masks, self._fit.module)
            for board in self._boards:
                board.begin(number, masks.density, self._fit.logged_steps, images)

    def moved(self, masks: Masks) -> None:
        """The masks have moved within the round."""
        if self._extended:
            self.columns["density"] = masks.density

    def finish(self, summary: RoundSummary) -> None:
        """A round is finished and stored."""
        for board in self._boards:
            board.finish(summary)

    def _extend(self, logger: Any, settings: Mapping[str, object]) -> None:
        kind = type(logger)
        on_a_board = any(base.__name__ == "TensorBoardLogger" for base in kind.__mro__)
        if not on_a_board or not self._options.rounds:  # one training needs no runs
            extended = _with_rows(kind, self)
        elif self._fit.is_writer:
            board = Board(logger.log_dir, logger.experiment, settings)
            self._boards.append(board)
            extended = _with_runs(kind, board)
        else:
            return
        extended.__name__, extended.__qualname__ = kind.__name__, kind.__qualname__
        self._extended.append((logger, kind))
        logger.__class__ = extended


def _with_rows(kind: Any, tracking: Tracking) -> type:
    """A logger class whose rows lie on one axis of steps for all rounds, with `round` and `density` in each."""

    class WithRows(kind):
        __slots__ = ()  # the layout of an object cannot change with its class

        def log_metrics(self, metrics: Mapping[str, object], step: int | None = None, **more: object) -> None:
            along = step if step is None else step + tracking.offset
            row = {**tracking.columns, **metrics}
            super().log_metrics(metrics=row, step=along, **more)

    return WithRows


def _with_runs(kind: Any, board: Board) -> type:
    """A TensorBoardLogger class that writes to the run of the round."""

    class WithRuns(kind):
        __slots__ = ()

        @property
        def experiment(self) -> object:
            return board.writer or super().experiment

        def log_hyperparams(self, params: object, metrics: object = None, *more: object, **named: object) -> None:
            params = {} if params is None else params
            flat = dict(_flat(params if isinstance(params, Mapping) else vars(params)))
            shown = {k: v for k, v in flat.items() if not k.startswith("_")}
            board.settings.update(shown)
            if metrics is None:
                # rounds show them; a run of their own, without metrics, would stand beside them
                super().log_hyperparams(params, {}, *more, **named)
            else:
                own = {**flat, **board.hyperparameters}
                super().log_hyperparams(own, metrics, *more, **named)

    return WithRuns


def _settings(options: Options) -> dict[str, object]:
    """The settings that were given, flat."""
    given = {"rounds": options.rounds, **options.described()}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in _flat({"lottery": given})
        if value is not None and value != () and value != []
    }


def _flat(tree: Mapping[Any, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _images(masks: Masks, module: nn.Module) -> dict[str, Any]:
    first = next(iter(masks), "")
    reads_images = isinstance(owner_of(module, first), nn.Linear)
    return {name: mask_image(mask, of_input=reads_images and name == first) for name, mask in masks.items()}
