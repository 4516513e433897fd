"""The error barrier of a training, kept in its run directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lottery import storage
from lottery.runs.layout import BARRIER, run_directory
from lottery.runs.run import Run
from lottery.storage.encoding import decode
from lottery.studies.evaluation import Evaluation
from lottery.studies.stability import Barrier
from lottery.training.recipes import RecipeCLI


def measure_barrier(cli: RecipeCLI, weights: Mapping[str, Tensor], path: Path, metric: str | None = None) -> None:
    """Store in a run directory the error barrier between the weights that its training ended with and others.

    Args:
        cli: the recipe.
        weights: the others.
        path: the run directory.
        metric: of what the error is made; default: the metric that the recipe monitors, on validation data.
    """
    found = Evaluation.of(cli, metric).barrier(weights, Run(path).weights(0))
    directory = run_directory(path)
    with directory.locked():
        directory.commit({BARRIER: storage.encode_json({"alphas": found.alphas, "errors": found.errors})})


def read_barrier(path: Path) -> Barrier | None:
    """The barrier of a run directory, where there is one."""
    directory = run_directory(path)
    if BARRIER not in directory:
        return None
    return directory.read_json(BARRIER, lambda stored: decode(stored, Barrier))
