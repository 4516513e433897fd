"""What defines a run, written down so that another fit can be compared with it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.masks.masks import Masks
from lottery.runs.differences import Difference, differences
from lottery.runs.schema import Settings
from lottery.storage.directory import StorageError

if TYPE_CHECKING:
    from lottery.training.options import Options


def collect(options: Options, training: Mapping[str, Any], monitor: tuple[str | None, str], masks: Masks) -> Settings:
    """Everything that changes a run's results, as plain data. The number of rounds is not part of it.

    Args:
        options: the callback's.
        training: what defines a round besides them, as `Fit.settings` gives it.
        monitor: metric and mode by which the best step is chosen.
        masks: those of round 0.
    """
    found = {
        **options.described(),
        "monitor": monitor,
        "seed_everything": os.environ.get("PL_GLOBAL_SEED"),
        "parameters": {name: list(mask.shape) for name, mask in masks.items()},
        **training,
    }
    return Settings.of(json.loads(json.dumps(found)))


def compare(stored: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> str | None:
    """Make sure that two settings are the same in all that changes a training.

    Returns:
        One line that says which others differ, None where none does.

    Raises:
        StorageError: they differ; the message lists each difference.
    """
    found = list(differences(stored, now))
    wrong = [difference for difference in found if difference.matters]
    if wrong:
        rows = "".join(f"\n  {difference}" for difference in wrong)
        raise StorageError(
            f"{path} holds a run with other settings:{rows}\nUse the run's settings to go on with it, or another"
            f" dirpath to start anew.{_how_to_leave_out(wrong)} Nothing was changed."
        )
    if not found:
        return None
    return f"not compared, as they change no training: {'; '.join(map(str, found))}"


def _how_to_leave_out(wrong: Iterable[Difference]) -> str:
    """How to go on where a hyperparameter differs that changes nothing."""
    owners = {"hyperparameters": "the module", "data": "the data module"}
    names: dict[str, list[str]] = {}
    for difference in wrong:
        section, _, name = difference.name.partition(".")
        if section in owners and name:
            names.setdefault(owners[section], []).append(re.split(r"[.\[]", name, maxsplit=1)[0])
    said = [
        f" A hyperparameter that changes no training can be left out in {owner}:"
        f" self.save_hyperparameters(ignore={list(dict.fromkeys(left_out))})."
        for owner, left_out in names.items()
    ]
    return "".join(said)
