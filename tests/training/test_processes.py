"""Fits of several processes: they prune alike, or they stop before anything is stored."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lottery import Run

SCRIPT = """
import sys
import torch
import zoo
from lottery import LotteryTicket, Pruning

def by_rank(context):
    noise = torch.Generator().manual_seed(torch.distributed.get_rank())
    return {n: torch.rand(m.shape, generator=noise) for n, m in context.masks.items()}

score = by_rank if sys.argv[2] == "by rank" else sys.argv[2]
ticket = LotteryTicket(2, Pruning(0.3, score=score), dirpath=sys.argv[1])
zoo.fit(zoo.Net, ticket, max_epochs=2, devices=2, strategy="ddp", use_distributed_sampler=False)
"""


def two_processes(tmp_path: Path, score: str) -> tuple[int, str]:
    """The exit status of a fit in two processes, and what both have said."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "run"), score],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_two_processes_prune_by_magnitude_alike(tmp_path: Path) -> None:
    status, said = two_processes(tmp_path, "magnitude")
    assert status == 0, said
    assert Run(tmp_path / "run").rounds == [0, 1, 2]


@pytest.mark.slow
def test_masks_that_differ_between_processes_are_not_stored(tmp_path: Path) -> None:
    status, said = two_processes(tmp_path, "by rank")
    assert status != 0
    assert "different masks for round 1" in said and "by_rank" in said
    run = Run(tmp_path / "run")
    assert run.rounds == [0]
    assert len(run.masks) == 1
