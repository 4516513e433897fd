"""What defines a run, written down so that another fit can be compared with it."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery import moving
from lottery.masks import Masks
from lottery.storage import Directory, StorageError

if TYPE_CHECKING:
    from lottery.lightning import Fit
    from lottery.options import Options


def collect(
    options: Options, fit: Fit, monitor: tuple[str | None, str], masks: Masks
) -> dict[str, Any]:
    """Everything that changes a run's results, as plain data. The number of rounds is not part of it."""
    found = {
        "pruning": options.pruning.described(),
        "rewind": dataclasses.asdict(options.rewind),
        "seed": options.seed,
        "monitor": list(monitor),
        "keep": options.keep,
        "test_each_round": options.test_each_round,
        "ticket": None if options.ticket is None else options.ticket.fingerprint,
        "seed_everything": os.environ.get("PL_GLOBAL_SEED"),
        "parameters": {name: list(mask.shape) for name, mask in masks.items()},
        **fit.settings(),
    }
    if options.moving is not None:
        found["moving"] = moving.described(options.moving)
    if options.instead_of is not None:
        found["instead_of"] = options.instead_of.described()
    return json.loads(json.dumps(found))


def compare(stored: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Make sure that two settings are the same.

    Raises:
        StorageError: they differ; the message lists each difference.
    """
    before, after = dict(_leaves(stored)), dict(_leaves(now))
    names = [
        name
        for name in {**before, **after}
        if before.get(name, "none") != after.get(name, "none")
    ]
    if names:
        rows = [
            f"  {name}: {before.get(name, 'none')!r} in the run, {after.get(name, 'none')!r} now"
            for name in names
        ]
        raise StorageError(
            f"{path} holds a run with other settings:\n"
            + "\n".join(rows)
            + "\nUse the run's settings to go on with it, or another dirpath to start anew. Nothing was changed."
        )


def check_loads(directory: Directory, name: str) -> None:
    """Make sure that a checkpoint which was just written can be read back safely.

    Raises:
        TypeError: something in it is neither a tensor nor a plain container; the message says what.
    """
    try:
        directory.read_checkpoint(name)
    except pickle.UnpicklingError as error:
        raise TypeError(
            "the Trainer's state holds objects that cannot be stored safely (tensors and plain containers can). Look at"
            " what callbacks return from `state_dict` and what the module's `on_save_checkpoint` adds, or allow the"
            f" class with torch.serialization.add_safe_globals. torch says: {error}"
        ) from error


def versions() -> dict[str, str]:
    """Versions of what a run's results depend on."""
    found = {"python": platform.python_version()}
    for name in ("lottery-tickets", "torch", "pytorch-lightning", "lightning", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list) and any(
        isinstance(value, (Mapping, list)) for value in tree
    ):
        for index, value in enumerate(tree):
            yield from _leaves(value, f"{prefix}[{index}]")
    else:
        yield prefix, tree
