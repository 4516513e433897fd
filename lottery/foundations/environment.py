"""What the bits of a run depend on besides its settings: versions, processor, threads, determinism."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


def versions() -> dict[str, str]:
    """Versions of what a run's results depend on."""
    # torch's own says which build it is, such as 2.13.0+cu130
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for name in ("lottery-tickets", "pytorch-lightning", "lightning", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def environment(device: torch.device) -> dict[str, object]:
    """The machine, and how torch computes on it, as plain data.

    Args:
        device: the one that is trained on.
    """
    found: dict[str, object] = {
        "device": device.type,
        "processor": _processor(),
        "CPU capability": torch.backends.cpu.get_cpu_capability(),
        "BLAS": _blas(),
        "threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
    }
    if device.type == "cuda":
        found |= {
            "device": torch.cuda.get_device_name(device),
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
            "cudnn.benchmark": torch.backends.cudnn.benchmark,
            "cudnn.deterministic": torch.backends.cudnn.deterministic,
        }
    return found


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """One line that says what differs, None where nothing does or nothing is known.

    Args:
        before: what `run.json` holds; its "environment" is missing in runs of earlier versions.
        now: this fit's "versions" and "environment".
    """
    if "environment" not in before:
        return None
    then, here = ({**d["versions"], **d["environment"]} for d in (before, now))
    rows = [
        f"{name} {then.get(name, 'none')} then, {here.get(name, 'none')} now"
        for name in {**then, **here}
        if then.get(name) != here.get(name)
    ]
    if not rows:
        return None
    return f"the bits may differ from those of a run that was never stopped: {'; '.join(rows)}"


def _processor() -> str:
    """The processor's model, as the system names it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
        named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        if named:
            return named[1]
    except OSError:
        pass
    if platform.system() == "Darwin":
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], check=False, capture_output=True, text=True
        )
        if asked.returncode == 0:
            return asked.stdout.strip()
    return platform.processor() or platform.machine()


def _blas() -> str:
    """The library that multiplies matrices, and its version where torch tells it."""
    built = torch.__config__.show()
    library = re.search(r"BLAS_INFO=(\w+)", built)
    version = re.search(r"Math Kernel Library Version (\S+)", built)
    parts = [library[1] if library else "unknown", version[1] if version else ""]
    return " ".join(filter(None, parts))
