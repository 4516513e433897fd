"""A progress bar over a whole run that names the round and its density."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from pytorch_lightning.callbacks import ProgressBar
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from lottery.text import terminal
from lottery.text.numbers import percent

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

_INTERVAL = 0.1  # seconds between updates


class RunProgressBar(ProgressBar):
    """One line for the round in progress: round, density, epoch, the metrics of the Trainer's progress bar.

    Shown in terminals only. `lottery run` uses it in place of Lightning's bar per epoch.

    Example::

        trainer = Trainer(callbacks=[LotteryTicket(...), RunProgressBar()])
    """

    def __init__(self) -> None:
        super().__init__()
        self._progress: Progress | None = None
        self._task: Any = None
        self._updated = 0.0
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        console = terminal.console()
        if not self._enabled or not console.is_terminal or not trainer.is_global_zero:
            return
        if self._progress is None:
            columns = (
                TextColumn("{task.description}", table_column=Column(no_wrap=True)),
                BarColumn(),
                TextColumn("{task.fields[metrics]}", table_column=Column(no_wrap=True)),
                TimeElapsedColumn(),
            )
            self._progress = Progress(*columns, console=console, transient=True)
            self._task = self._progress.add_task("", metrics="")
            self._progress.start()
        self._progress.reset(self._task, total=_batches(trainer), metrics="")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if self._progress is None or time.monotonic() - self._updated < _INTERVAL:
            return
        self._updated = time.monotonic()
        metrics: dict[str, Any] = self.get_metrics(trainer, pl_module)
        which = [f"round {metrics.pop('round')}"] if "round" in metrics else []
        if "density" in metrics:
            which.append(f"density {percent(metrics.pop('density'))}")
        metrics.pop("v_num", None)
        shown = [f"{k} {v:.4g}" for k, v in metrics.items() if isinstance(v, (int, float))]
        epochs = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        self._progress.update(
            self._task,
            completed=trainer.fit_loop.total_batch_idx + 1,
            description="  ".join(which),
            metrics="  ".join([f"epoch {trainer.current_epoch + 1}{epochs}", *shown]),
        )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _batches(trainer: Trainer) -> float | None:
    """Batches in a round, where they can be told."""
    limits = [float(trainer.max_steps * trainer.accumulate_grad_batches)] if trainer.max_steps > 0 else []
    if trainer.max_epochs not in (None, -1):
        limits.append(float(trainer.max_epochs * trainer.num_training_batches))
    total = min(limits, default=math.inf)
    return total if math.isfinite(total) else None
