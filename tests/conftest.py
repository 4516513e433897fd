"""What every test file shares."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# one thread for each worker and each process that a test starts: on a shared machine, threads wait for each other
os.environ["OMP_NUM_THREADS"] = "1"

# a shell without job control starts background jobs with Ctrl+C ignored, which their children inherit; not ours
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as nohup does to that of a terminal that closes

# machines are shared: no deadline
settings.register_profile("shared machine", deadline=None, max_examples=60)
settings.load_profile("shared machine")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files survive the tests' own process without it; `test_kill` has processes of its own, which do wait."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """A command makes Lightning quiet, for its own process."""
    names = "pytorch_lightning", "lightning.pytorch", "lightning", "lightning_fabric"
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
