"""Other people's architectures: half of the units pruned, the network made smaller, beside Torch-Pruning.

    python -m benchmarks.networks [--only 'timm/res*'] [--seconds 300] [--jobs 2] [--kept results.jsonl] > table.md

Each network, with random weights and a small input, is pruned to half of the units of each layer (where its structure
allows), compacted, compared in float64 at the example's size and at others, and trained one step further. Torch-Pruning
makes the same network smaller at the same share, where it can; it does not compare. "fully" is as many parameters as
the masks keep, to 2 %. Beside those of torchvision, timm and transformers stand the small networks of
`tests/architectures` ("own"). Needs torchvision (of which the Python part alone will do), timm, transformers and
torch-pruning: `pip install --no-deps torchvision timm torch-pruning`.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import subprocess
import sys
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from architectures.halved import halved

from .beside import theirs
from .made import make, names

Found = dict[str, Any]
COLUMNS = ("name", "outcome", "before", "promised", "after", "torch-pruning", "FLOPs", "its FLOPs", "trains", "why")


def one(name: str) -> None:
    """Prints what is found of a network; first without what Torch-Pruning makes of it, which may never end."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = {"name": name, **halved(*make(name))}
    print(json.dumps(found), flush=True)
    print(json.dumps({**found, **theirs(name)}))


def in_a_process(name: str, seconds: float) -> Found:
    command = [sys.executable, "-m", "benchmarks.networks", "--one", name]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        return json.loads(ended.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired as late:
        if lines := (late.stdout or b"").splitlines():
            return {**json.loads(lines[-1]), "torch-pruning": f"over {seconds:g} s"}
        return {"name": name, "outcome": "too slow", "why": f"over {seconds:g} s"}
    except (ValueError, IndexError):
        why = ended.stderr.strip().splitlines()[-1][:160] if ended.stderr else f"exit status {ended.returncode}"
        return {"name": name, "outcome": "error", "why": why}


def cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.0%}" if isinstance(value, float) else str(value)


def table(found: list[Found]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for row in found:
        lines.append(f"| {' | '.join(cell(row.get(column, '-')).replace('|', '/') for column in COLUMNS)} |")
    counted = Counter(row["outcome"] for row in found)
    summary = ", ".join(f"{kind}: {number}" for kind, number in sorted(counted.items()))
    return "\n".join([f"{len(found)} networks. {summary}.", "", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="a pattern of names, such as 'timm/res*'")
    parser.add_argument("--seconds", type=float, default=300.0, help="the most that a network may take")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kept", type=Path, help="a file of results, which is added to; what it has is not done again")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one)
        return
    chosen = [name for name in names() if fnmatch.fnmatch(name, arguments.only)]
    kept = arguments.kept.read_text().splitlines() if arguments.kept and arguments.kept.exists() else []
    results: dict[str, Found] = {row["name"]: row for row in map(json.loads, kept)}
    missing = [name for name in chosen if name not in results]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for row in pool.map(lambda name: in_a_process(name, arguments.seconds), missing):
            results[row["name"]] = row
            print(f"{row['name']}: {row['outcome']} {row.get('why', '')}", file=sys.stderr, flush=True)
            if arguments.kept:
                with arguments.kept.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print(table([results[name] for name in chosen]))


if __name__ == "__main__":
    main()
