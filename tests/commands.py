"""What tests of the command line share: a small recipe, and what a command says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lottery import cli
from lottery.tasks.models import MLP

RECIPE: dict[str, Any] = {
    "seed_everything": 0,
    "threads": 1,
    "trainer": {
        "max_epochs": 1,
        "accelerator": "cpu",
        "limit_train_batches": 4,
        "limit_val_batches": 1,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": False,
    },
    "model": {"class_path": "lottery.tasks.MLP", "init_args": {"inputs": 64, "hidden": [20, 12], "classes": 8 + 2}},
    "data": {"class_path": "lottery.tasks.Digits", "init_args": {"batch_size": 32}},
    "lottery": {"rounds": 1, "keep": "all", "pruning": 0.5},
}


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The error of a command that ends with exit code 2."""
    capsys.readouterr()
    try:
        status: Any = cli.main(arguments)
    except SystemExit as ended:
        status = ended.code
    error = capsys.readouterr().err
    assert status == 2 and "Traceback" not in error
    return error


def helped(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit, match="^0$"):
        cli.main(arguments)
    return capsys.readouterr().out


def checkpoint(folder: Path, **changed: Any) -> Path:
    """The weights of a module other than the one that the recipe makes."""
    torch.manual_seed(5)
    path = folder / "weights.pt"
    arguments = {**RECIPE["model"]["init_args"], **changed}
    torch.save(MLP(**arguments).state_dict(), path)
    return path
