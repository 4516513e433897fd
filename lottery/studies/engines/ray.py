"""Ray: the cells of a study on the CPUs and GPUs of one machine or of many."""

from __future__ import annotations

import importlib
import os
from typing import Any

from lottery.studies.engines.elsewhere import Surroundings, perform_elsewhere
from lottery.studies.jobs import Ended, Job


class RayEngine:
    """Each cell is a Ray task; the file system that holds the study must be shared by all nodes.

    A task whose worker or node died runs again elsewhere, from what the cell has on disk. Nodes may come and go.
    Workers see the driver's working directory and import path, so a recipe's relative paths and modules of its own
    mean there what they mean here.

    Args:
        address: a cluster's address: "auto", "host:6379" or "ray://host:10001". Default: a Ray of this machine's own,
            which ends with the study.
        cpus: CPUs that a cell takes, its `OMP_NUM_THREADS` too. Less than 1 lets cells share a core.
        gpus: GPUs that a cell takes; 0.25 lets four cells share one. With 0 a cell sees no GPU.
        retries: how often a task is run again after its worker or node died.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: no cluster answers at the address.
        ValueError: an argument is out of range, or no node of the cluster has that many CPUs and GPUs.
        RuntimeError: this process is connected to a Ray already.

    Example::

        study = prepare("recipes/digits.yaml", "checkpoints/digits_study")
        study.run(RayEngine("auto", gpus=0.25))

    Source: Moritz et al., "Ray: A Distributed Framework for Emerging AI Applications", OSDI 2018.
    """

    def __init__(self, address: str | None = None, cpus: float = 1.0, gpus: float = 0.0, retries: int = 3) -> None:
        if not cpus > 0:
            raise ValueError(f"cpus={cpus!r} must be more than 0")
        if not gpus >= 0 or (gpus > 1 and gpus != int(gpus)):
            raise ValueError(f"gpus={gpus!r}; give a fraction up to 1, or a whole number")
        if retries < 0:
            raise ValueError(f"retries={retries!r} must be 0 or more")
        self.cpus, self.gpus = cpus, gpus
        self._ray = _connect(address)
        self._surroundings = Surroundings.here()
        variables = {
            "PYTHONPATH": os.pathsep.join(self._surroundings.path),
            "OMP_NUM_THREADS": str(max(1, int(cpus))),
            **({} if gpus else {"CUDA_VISIBLE_DEVICES": ""}),
        }
        self._perform = self._ray.remote(perform_elsewhere).options(
            num_cpus=cpus, num_gpus=gpus, max_retries=retries, runtime_env={"env_vars": variables}
        )
        self._jobs: dict[object, Job] = {}
        if not self.slots:
            found = [node["Resources"] for node in self._nodes()]
            self.close()
            sizes = ", ".join(f"{n.get('CPU', 0):g} and {n.get('GPU', 0):g}" for n in found)
            raise ValueError(
                f"a cell takes {cpus:g} CPUs and {gpus:g} GPUs, and no node has that many; they have {sizes or 'none'}"
            )

    @property
    def slots(self) -> int:
        """How many cells the nodes that are alive now can train at once."""
        return sum(cells_on(node["Resources"], self.cpus, self.gpus) for node in self._nodes())

    def start(self, job: Job) -> None:
        """Hand a cell to the cluster."""
        self._jobs[self._perform.remote(job, self._surroundings)] = job

    def wait(self, seconds: float) -> list[Ended]:
        """The cells that ended; waits at most so long for the first."""
        if not self._jobs:
            return []
        self._ray.wait(list(self._jobs), timeout=seconds)
        ready, _ = self._ray.wait(list(self._jobs), num_returns=len(self._jobs), timeout=0)
        return [Ended(self._jobs.pop(task), self._error(task)) for task in ready]

    def close(self) -> None:
        """Stop what still runs and leave the cluster, or end the local one."""
        for task in self._jobs:
            self._ray.cancel(task, force=True)
        self._jobs.clear()
        self._ray.shutdown()

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _error(self, task: object) -> str | None:
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            return "\n".join([type(error).__name__, *lines[-4:]])


def _connect(address: str | None) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # its only way to be quiet
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise ImportError("Ray is not installed; get it with: pip install 'lottery-tickets[ray]'") from error
    if ray.is_initialized():
        raise RuntimeError("this process is connected to a Ray already; call ray.shutdown() first")
    own: dict[str, object] = {
        "include_dashboard": False,
        "object_store_memory": 100 << 20,  # cells hand nothing over in memory
    }
    try:
        ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **({} if address else own))
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address!r}: {error}\n"
            "Start one with `ray start --head` (if with RAY_AUTH_MODE=token, set that here too), or give no address for"
            " a Ray of this machine's own."
        ) from error
    return ray


def cells_on(node: dict[str, float], cpus: float, gpus: float) -> int:
    """How many cells a node holds at once. A cell's part of a GPU is of one GPU.

    Args:
        node: what the node has, as Ray names it.
        cpus: CPUs of a cell.
        gpus: GPUs of a cell.

    Example:
        >>> cells_on({"CPU": 16.0, "GPU": 2.0}, cpus=1, gpus=0.4)
        4
    """
    tiny = 1e-9  # 0.3 / 0.1 is 2.9999999999999996
    by_cpu = int(node.get("CPU", 0) / cpus + tiny)
    if not gpus:
        return by_cpu
    whole = int(node.get("GPU", 0))
    by_gpu = whole * int(1 / gpus + tiny) if gpus <= 1 else whole // int(gpus)
    return min(by_cpu, by_gpu)
