"""What TensorBoard shows of a run: a run per round over the same steps, and a summary over density."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lottery.runs.schema import RoundSummary

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SUMMARY = "summary"
AXIS = "density halves every 100 steps"
LAYERS = f"layers, {AXIS}"
_WRITER_OPTIONS = ("max_queue", "flush_secs", "filename_suffix")


def run_name(number: int, density: float) -> str:
    """The name of a round in TensorBoard's list of runs.

    Example:
        >>> run_name(3, 0.512)
        'round-03 density 51.2%'
    """
    percent = np.format_float_positional(100 * density, precision=3, fractional=False, trim="-")
    return f"round-{number:02d} density {percent}%"


def axis_step(summary: RoundSummary) -> int:
    """Where a round stands on the axis of the summary: 100 log2(prunable / kept), 0 for dense, 100 for a half.

    TensorBoard's axes are linear, of whole numbers, and must not go back; so density becomes a logarithm that grows.
    Rounds of runs with different pruning rates lie at their true distance.
    """
    return round(100 * math.log2(summary.prunable / max(1, summary.kept)))


def points(summary: RoundSummary) -> dict[str, float]:
    """The numbers of a finished round that are drawn over density; the metrics are those of `Run.table`."""
    monitor = summary.monitor
    found: dict[str, float | None] = {}
    if monitor is None:
        found |= {f"last {name}": value for name, value in summary.last.items()}
    else:
        parts = {"start": summary.start, "best": summary.best, "last": summary.last}
        found |= {f"{part} {monitor}": metrics.get(monitor) for part, metrics in parts.items()}
        found["best step"] = summary.best.get("step")
    for moment, tested in (("best", summary.test_best), ("last", summary.test_last)):
        for name, value in tested.items():
            found[f"{moment} {name}"] = value
    paths = summary.connectivity
    found["weights kept"] = summary.kept
    found["weights on a path"] = paths.effective
    found["dead units"] = sum(paths.dead_units.values())
    found["density of the sparsest layer"] = paths.lowest_density
    return {name: value for name, value in found.items() if value is not None}


class Board:
    """The TensorBoard runs below one log directory.

    Args:
        log_dir: the log directory of a TensorBoardLogger.
        root: the logger's own writer; the others get its options.
        settings: hyperparameters of the whole run.

    Attributes:
        writer: that of the round in progress, None before the first.
        settings: may be added to.
        hyperparameters: those of the round in progress, empty before the first.
    """

    def __init__(self, log_dir: str, root: object, settings: Mapping[str, object]) -> None:
        self.log_dir = log_dir
        self.settings = dict(settings)
        self.writer: Any = None
        self._options = {name: getattr(root, name) for name in _WRITER_OPTIONS if hasattr(root, name)}
        self.hyperparameters: dict[str, object] = {}
        self._summary: Any = None

    def start(self, summaries: Iterable[RoundSummary]) -> None:
        """Draw the rounds that are finished already; those that have no curves here get a run without."""
        self._summary = self._open(SUMMARY, 0)
        self._summary.add_text("settings", _table(self.settings), 0)
        for summary in summaries:
            number, density = summary.round, summary.density
            if not (Path(self.log_dir) / run_name(number, density)).exists():
                self.begin(number, density, 0)
                self._conclude(summary)
            self._add_to_summary(summary)
        self._close_round()

    def begin(self, number: int, density: float, step: int, images: Mapping[str, np.ndarray] | None = None) -> None:
        """Open the run of a round.

        Args:
            number: its number.
            density: its density.
            step: the step that comes next; what was logged for it or later, before an interruption, is hidden.
            images: its masks.
        """
        from torch.utils.tensorboard.summary import hparams

        self._close_round()
        self.writer = self._open(run_name(number, density), step)
        own = {"round": number, "density": density}
        self.hyperparameters = {**own, **self.settings}
        _, session_start, _ = hparams(_plain(self.hyperparameters), {})
        self.writer.file_writer.add_summary(session_start)
        for name, image in (images or {}).items():
            self.writer.add_image(f"masks/{name}", image, 0, dataformats="HWC")

    def finish(self, summary: RoundSummary) -> None:
        """Add the round in progress, which is finished, to the summary."""
        self._conclude(summary)
        self._add_to_summary(summary)

    def close(self) -> None:
        """Close the writers."""
        self._close_round()
        if self._summary is not None:
            self._summary.close()
            self._summary = None

    def _open(self, name: str, step: int) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        path = os.path.join(self.log_dir, name)
        _await_next_second(Path(path))
        return SummaryWriter(path, purge_step=step, **self._options)

    def _close_round(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def _conclude(self, summary: RoundSummary) -> None:
        """End a round's run with its point of the summary, which is also what the HPARAMS tab shows."""
        from torch.utils.tensorboard.summary import hparams

        found = points(summary)
        experiment, _, session_end = hparams(_plain(self.hyperparameters), {f"{AXIS}/{name}": 0 for name in found})
        _arrange(experiment)
        self.writer.file_writer.add_summary(experiment)
        self.writer.file_writer.add_summary(session_end)
        _draw(self.writer, AXIS, found, axis_step(summary))

    def _add_to_summary(self, summary: RoundSummary) -> None:
        step = axis_step(summary)
        _draw(self._summary, AXIS, points(summary), step)
        _draw(self._summary, LAYERS, summary.densities, step)


def _await_next_second(directory: Path) -> None:
    """Wait until a new event file comes after those in a directory.

    TensorBoard reads the files of a run by their names, which begin with the time in whole seconds and then count as
    text, 9 after 10: of two within a second the first may hide the second, which it purges.
    """
    files = directory.glob("*tfevents.*")
    newest = max((file.name.split("tfevents.")[1].split(".")[0] for file in files), default="")
    while newest == f"{int(time.time()):010d}":
        time.sleep(0.02)


def _draw(writer: SummaryWriter, group: str, values: Mapping[str, float], step: int) -> None:
    for name, value in values.items():
        writer.add_scalar(f"{group}/{name}", value, step)
    writer.flush()


def _plain(values: Mapping[str, object]) -> dict[str, float | str]:
    """Hyperparameters as TensorBoard takes them."""
    return {
        name: value if isinstance(value, (bool, int, float, str)) else str(value)
        for name, value in values.items()
        if value is not None
    }


def _arrange(experiment: Any) -> None:
    """In the HPARAMS tab, what differs from round to round comes first, and metrics need no group."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import (  # type: ignore[import-untyped]
        HParamsPluginData,
    )

    plugin = experiment.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(plugin.content)
    for parameter in content.experiment.hparam_infos:
        # before TensorBoard 2.15 they are shown as given, in the same order
        if hasattr(parameter, "differs"):
            parameter.differs = parameter.name in ("round", "density")
    for metric in content.experiment.metric_infos:
        metric.display_name = metric.name.tag.removeprefix(f"{AXIS}/")
    plugin.content = content.SerializeToString()


def _table(settings: Mapping[str, object]) -> str:
    rows = [f"| {name} | {value} |" for name, value in _plain(settings).items()]
    return "\n".join(["| setting | value |", "|---|---|", *rows])
