"""`lottery retry`: a round that diverged, on other random draws or at another learning rate."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from lottery import storage
from lottery.runs.layout import LAST, RETRIED, round_file, run_directory
from lottery.runs.run import Run
from lottery.text import terminal
from lottery.training import divergence

DESCRIPTION = """\
Has the unfinished round of a run trained again from its start, on other random
draws or at another learning rate, when what began the run is run again. The
rounds before it stay as they are. What is otherwise is recorded in the round's
summary."""

EPILOG = """\
examples:
  lottery retry checkpoints/digits                        other random draws
  lottery retry checkpoints/digits --learning-rate 0.5    and half of all learning rates
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a run directory")
    parser.add_argument("--seed", type=int, help="of the round's random draws (default: follows from the run's)")
    parser.add_argument("--learning-rate", type=float, metavar="FACTOR", help="what learning rates are multiplied by")


def run(known: argparse.Namespace) -> None:
    if known.learning_rate is not None and not 0 < known.learning_rate < float("inf"):
        raise ValueError(f"--learning-rate {known.learning_rate:g} must be a factor above 0, such as 0.5")
    if known.seed is not None and not 0 <= known.seed < 2**64:
        raise ValueError(f"--seed {known.seed} must be from 0 to 2**64 - 1")
    found, directory = Run(known.path), run_directory(known.path)
    with directory.locked():
        number = len(found.rounds)
        if found.in_progress is None and (found.goal is None or number > found.goal):
            raise ValueError(f"every round of {known.path} is finished; only a round that is not can be tried again")
        attempt = divergence.again(
            divergence.retried(directory, number), seed=known.seed, learning_rate=known.learning_rate
        )
        directory.commit({round_file(number, RETRIED): storage.encode_json(asdict(attempt))}, drop=[LAST])
    draws = "draws of its own" if attempt.seed is None else f"the draws of seed {attempt.seed}"
    terminal.show(
        f"round {number} will be trained from its start, on {draws}, with learning rates times"
        f" {attempt.learning_rate:g}, when what began the run is run again"
    )
