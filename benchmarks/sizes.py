"""What masks and tickets take on disk, and how long a large run takes to open.

    python benchmarks/sizes.py [--run checkpoints/fashion_lenet_short_15] [--skip-large]

Prints the size of the mask history of a 15-round LeNet-300-100 run beside its entropy and what the usual ways take, the
sizes of its tickets in each kind of file, and time and memory for opening a run of 30 rounds and 25 million weights.
The run is trained first where it is not there (recipes/fashion_lenet_short.yaml, a few minutes).
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from lottery import Masks, Run
from lottery.masks.history import MaskHistory
from lottery.runs.layout import INITIAL, RUN, encode_masks, masks_file, round_file
from lottery.storage.directory import Directory
from lottery.storage.encoding import encode_json, encode_tensors

RECIPE = "recipes/fashion_lenet_short.yaml"
LARGE = {"stem": (5000, 1000), "body": (4000, 4000), "head": (1000, 4000)}
ROUNDS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("checkpoints/fashion_lenet_short_15"))
    parser.add_argument("--skip-large", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not (arguments.run / RUN).exists():
        settings = ["--lottery.rounds", "15", "--lottery.dirpath", str(arguments.run)]
        command = [sys.executable, "-m", "lottery.cli", "run", RECIPE, *settings]
        subprocess.run(command, check=True)
    run = Run(arguments.run)
    print_history(run)
    print_tickets(run)
    if not arguments.skip_large:
        print_large()


def print_history(run: Run) -> None:
    masks = run.masks
    size = (run.path / masks_file(len(masks) - 1)).stat().st_size
    entropy = masks.entropy()
    bitmaps = sum(-(-m.numel() // 8) for m in masks[0].values()) * len(masks)
    floats = 4 * masks[0].total * len(masks)
    print(f"\nmask history of {run.path}: {len(masks)} rounds, {masks[0].total:,} weights")
    for what, count in (
        ("entropy of the death round", entropy),
        ("file on disk", size),
        ("one bitmap per round", bitmaps),
        ("one float32 mask per round", floats),
    ):
        print(f"  {what:<28} {count:>12,.0f} B   {count / entropy:7.3f} x entropy")
    allowed = 1.05 * entropy + 4096
    print(f"  asked: at most 1.05 x entropy + 4 kB = {allowed:,.0f} B")


def print_tickets(run: Run) -> None:
    print("\nticket files")
    head = ("density", "all", "surviving", "signs", "none", "asked of surviving")
    print("  " + "".join(f"{column:>19}" for column in head))
    with tempfile.TemporaryDirectory() as folder:
        for number in run.rounds:
            ticket = run.ticket(number)
            path = Path(folder) / "a.ticket"
            sizes = []
            for kind in ("all", "surviving", "signs", "none"):
                ticket.save(path, weights=kind)
                sizes.append(path.stat().st_size)
            n, p = ticket.masks.total, ticket.density
            bits = -sum(q * math.log2(q) for q in (p, 1 - p) if q > 0) * n
            asked = 1.1 * (4 * ticket.masks.kept + bits / 8) + 4096
            cells = [f"{100 * p:.1f} %", *(f"{s:,}" for s in sizes), f"{asked:,.0f}"]
            print("  " + "".join(f"{cell:>19}" for cell in cells))


def print_large() -> None:
    total = sum(math.prod(shape) for shape in LARGE.values())
    print(f"\na run of {ROUNDS} rounds and {total:,} weights, masks drawn at random")
    with tempfile.TemporaryDirectory() as folder:
        spent = write_large(Path(folder))
        print(f"  coding the masks of all rounds   {spent:8.3f} s")
        code = (
            "import sys, time, resource, lottery.runs.run, pandas, torch\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "start = time.perf_counter()\n"
            "run = lottery.runs.run.Run(sys.argv[1]); run.rounds; run.table(); run.densities()\n"
            "opened = time.perf_counter() - start\n"
            "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "start = time.perf_counter(); run.masks[20]\n"
            "masks = time.perf_counter() - start\n"
            "end = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "print(f'  Run(), table(), densities()      {opened:8.3f} s   {(after - before) / 1024:8.1f} MB')\n"
            "print(f'  masks[20], which reads them      {masks:8.3f} s   {(end - after) / 1024:8.1f} MB')\n"
        )
        subprocess.run([sys.executable, "-c", code, folder], check=True)


def write_large(path: Path) -> float:
    """A run directory as a LotteryTicket would leave it, with random masks; returns the seconds that coding took."""
    generator = torch.Generator().manual_seed(0)
    deaths = {
        # a weight that lives through each round with probability 0.8 dies in a geometric round
        name: (torch.rand(shape, generator=generator).log_().div_(math.log(0.8)).floor_() + 1)
        .clamp_(max=ROUNDS)
        .to(torch.int16)
        for name, shape in LARGE.items()
    }
    history = MaskHistory(deaths, ROUNDS)
    start = time.perf_counter()
    coded = encode_masks(history)
    spent = time.perf_counter() - start
    directory = Directory(path)
    directory.commit(
        {
            RUN: encode_json({"id": "large", "settings": {}}),
            INITIAL: encode_tensors({n: torch.zeros(s) for n, s in LARGE.items()}),
            masks_file(ROUNDS - 1): coded,
        }
    )
    for number in range(ROUNDS):
        directory.commit({round_file(number, "summary.json"): encode_json(summary(number))})
    return spent


def summary(number: int) -> dict[str, object]:
    kept = Masks({"w": torch.ones(1, dtype=torch.bool)})
    return {
        "round": number,
        "density": 0.8**number,
        "kept": kept.kept,
        "prunable": kept.total,
        "densities": {name: 0.8**number for name in LARGE},
        "steps": 100,
        "epochs": 1,
        "monitor": "val_acc",
        "mode": "max",
        "start": {"val_acc": 0.1},
        "best": {"step": 90, "val_acc": 0.9},
        "last": {"val_acc": 0.9},
        "test_best": {},
        "test_last": {},
        "seconds": 1.0,
    }


if __name__ == "__main__":
    main()
