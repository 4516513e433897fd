"""Studies on Ray: what a cluster does to them must not show in their results."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zoo
from hypothesis import given
from hypothesis import strategies as st

from lottery.runs.layout import LAST
from lottery.storage.directory import LOCK
from lottery.studies import Study, run_study
from lottery.studies.begin import TrainingsFailed
from lottery.studies.driver import Progress
from lottery.studies.engines.local import LocalEngine
from lottery.studies.engines.ray import RayEngine, cells_on

SMALL = ["--lottery.rounds", "2", "--trainer.max_epochs", "8"]
COMMAND = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]


# quick: without Ray


@given(
    node_cpus=st.integers(0, 256),
    node_gpus=st.integers(0, 16),
    cpus=st.sampled_from([0.1, 0.25, 0.3, 0.5, 1.0, 2.0, 3.0, 16.0]),
    gpus=st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 1.0, 2.0, 4.0]),
)
def test_cells_on_a_node_fit_and_one_more_would_not(node_cpus: int, node_gpus: int, cpus: float, gpus: float) -> None:
    node = {"CPU": float(node_cpus), "GPU": float(node_gpus)}
    cells = cells_on(node, cpus, gpus)
    on_one = max(1, int(1 / gpus + 1e-6))  # cells that share a GPU
    assert cells * cpus <= node_cpus + 1e-6
    assert -(-cells // on_one) * max(1.0, gpus) <= node_gpus
    more = cells + 1
    assert more * cpus > node_cpus + 1e-6 or -(-more // on_one) * max(1.0, gpus) > node_gpus


def test_without_ray_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'lottery-tickets\[ray\]'"):
        RayEngine()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cpus": 0}, "cpus=0 "),
        ({"gpus": -0.5}, "gpus=-0.5"),
        ({"gpus": 1.5}, "gpus=1.5"),
        ({"retries": -1}, "retries=-1"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RayEngine(**options)


# slow: real clusters


@pytest.fixture
def quiet_ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ray, with a token of this test's own, workers that find the tests' modules, and an end in any case."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # Ray reads it when it is imported
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    yield ray
    ray.shutdown()


@pytest.fixture
def nodes(quiet_ray: Any) -> Iterator[tuple[str, list[int]]]:
    """The address of a cluster of two nodes with a core each, and the sessions of their processes."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # names of sockets are short
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"]
    started: list[Any] = []
    try:
        for arguments in head, [f"--address=127.0.0.1:{port}"]:
            node = subprocess.Popen(
                [*COMMAND, "--num-cpus=1", "--object-store-memory=100000000", *arguments],
                start_new_session=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            started.append(node)
            said = iter(node.stdout.readline, "")
            assert any("Ray runtime started" in line for line in said), "no node"
        yield f"127.0.0.1:{port}", [node.pid for node in started]
    finally:
        for node in reversed(started):
            kill_session(node.pid)
            node.communicate()
        shutil.rmtree(folder, ignore_errors=True)


def kill_session(session: int) -> None:
    """What a power cut does to a node: all its processes end at once."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and session_of(int(entry.name)) == session:
            os.kill(int(entry.name), signal.SIGKILL)


def session_of(process: int) -> int | None:
    try:
        return os.getsid(process)
    except ProcessLookupError:
        return None


def trained_on(session: int, study: Path, progress: Progress) -> list[str]:
    """The cells that a node is in the middle of."""
    found = []
    for cell in progress.running:
        lock = study / cell.key / LOCK
        said = lock.read_text() if lock.exists() else ""
        begun = (study / cell.key / LAST).exists()
        if begun and said and session_of(int(said.split()[1])) == session:
            found.append(cell.key)
    return found


def results(study: Study) -> dict[str, Any]:
    """Everything that the runs of a study say about their results."""
    return {cell.key: zoo.contents(study.path / cell.key) for cell in study.plan.cells()}


@pytest.mark.slow
def test_a_study_that_lost_a_node_has_the_bits_of_an_undisturbed_one(
    nodes: tuple[str, list[int]], tmp_path: Path
) -> None:
    address, (_, second) = nodes
    options: dict[str, Any] = {
        "seeds": 2,
        "controls": ["random"],
        "rounds": [2],
        "overrides": [*SMALL, "--lottery.save_every", "5it"],
    }
    path = tmp_path / "disturbed"
    lost: list[str] = []

    def cut_power(progress: Progress) -> None:
        cells = [] if lost else trained_on(second, path, progress)
        if cells:
            kill_session(second)
            lost.extend(cells)

    engine = RayEngine(address)
    assert engine.slots == 2
    disturbed = run_study("recipes/digits.yaml", path, engine=engine, show=cut_power, **options)
    assert lost
    assert not disturbed.progress().failed
    whole = run_study("recipes/digits.yaml", tmp_path / "whole", engine=LocalEngine(2), **options)
    zoo.assert_equal(results(disturbed), results(whole))


@pytest.mark.slow
def test_a_ray_of_this_machine_trains_what_it_can_and_says_what_went_wrong(
    quiet_ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module beside the driver is found by workers, and the text of an exception comes back."""
    (tmp_path / "refusing_of_mine.py").write_text(
        "from lottery.tasks.models import MLP\n"
        "class Refuses(MLP):\n"
        "    def on_train_start(self): raise OSError('no luck today')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TrainingsFailed, match="no luck today"):
        run_study(
            "recipes/digits.yaml",
            tmp_path / "study",
            seeds=1,
            controls=["random"],
            overrides=[*SMALL, "--model", "refusing_of_mine.Refuses"],
            engine=RayEngine(cpus=0.5),
            attempts=1,
        )
    failed = {cell.key: said for cell, said in Study(tmp_path / "study").progress().failed.items()}
    assert failed["ticket/seed-0"] == "OSError: no luck today"
