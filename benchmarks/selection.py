"""Time and memory for choosing the smallest 20 % of 100 million weights, beside torch's two ways.

    python benchmarks/selection.py [--turns 3] [--weights 100_000_000] [--billion]

The weights are normal float32 in 10 tensors. In turns, in one process, each finds the mask of the same weights:

- lottery: magnitudes, then `lottery.masks.selection.smallest`;
- global_unstructured: `torch.nn.utils.prune` with L1Unstructured, as users call it, on 10 modules;
- kthvalue: magnitudes in one vector, `torch.kthvalue`, and a comparison.

CPU and wall time stand side by side, with one thread and with two: on a shared machine believe the CPU time, and the
ratios, which are taken within a turn, more than the seconds. Memory is the highest resident size (VmHWM) of a fresh
process less that before the call and less the masks (1 byte per weight), so it counts all else that the call took;
Linux only. It takes about 4 minutes and 6 GB; --billion instead chooses from 1e9 weights: 1 minute and 6 GB.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from lottery.masks.selection import smallest

TENSORS = 10
AMOUNT = 0.2


def normal(n: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.empty(n // TENSORS).normal_(generator=generator) for _ in range(TENSORS)]


def amount_of(weights: list[Tensor]) -> int:
    return round(AMOUNT * sum(w.numel() for w in weights))


def lottery(weights: list[Tensor]) -> None:
    smallest([w.abs() for w in weights], amount_of(weights))


def lottery_given_scores(weights: list[Tensor]) -> None:
    smallest(weights, amount_of(weights))


def global_unstructured(weights: list[Tensor]) -> None:
    modules = []
    for weight in weights:
        modules.append(nn.Module())
        modules[-1].weight = nn.Parameter(weight)
    prune.global_unstructured(
        [(module, "weight") for module in modules], pruning_method=prune.L1Unstructured, amount=AMOUNT
    )


def kthvalue(weights: list[Tensor]) -> None:
    magnitudes = torch.cat([w.abs() for w in weights])
    magnitudes.le(magnitudes.kthvalue(amount_of(weights)).values)


CONTENDERS = [lottery, global_unstructured, kthvalue]


def seconds(select: Callable[[list[Tensor]], None], weights: list[Tensor]) -> Tensor:
    """CPU and wall seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    select(weights)
    return torch.tensor([time.process_time() - cpu, time.perf_counter() - wall])


def print_times(weights: list[Tensor], turns: int) -> None:
    for threads in (1, 2):
        torch.set_num_threads(threads)
        rows = [torch.stack([seconds(select, weights) for select in CONTENDERS]) for _ in range(turns)]
        print(f"\n{threads} thread(s), {turns} turns: median (lowest to highest)")
        for i, select in enumerate(CONTENDERS):
            for j, clock in enumerate(("CPU", "wall")):
                times = [float(row[i, j]) for row in rows]
                ratios = [float(row[i, j] / row[0, j]) for row in rows]
                print(
                    f"{select.__name__:20} {clock:4} {median(times):6.2f} s ({min(times):.2f} to {max(times):.2f}),"
                    f" {median(ratios):5.1f} x lottery ({min(ratios):.1f} to {max(ratios):.1f})"
                )


def resident(line: str) -> int:
    """Bytes, from a line of /proc/self/status."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"^{line}:\s+(\d+) kB", status, re.MULTILINE)
    assert found, f"no {line} in /proc/self/status: is this Linux?"
    return 1024 * int(found[1])


def extra_bytes(select: Callable[[list[Tensor]], None], n: int) -> float:
    """Memory per weight that a call takes beside 1 byte of mask, in a process that has done nothing else."""
    torch.set_num_threads(1)
    select(normal(1000))  # what is loaded at the first call
    weights = normal(n)
    before = resident("VmRSS")
    select(weights)
    return (resident("VmHWM") - before) / n - 1


def print_memory(n: int) -> None:
    print("\nmemory beside weights and masks, bytes per weight")
    for select in [lottery_given_scores, *CONTENDERS]:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as fresh:
            print(f"{select.__name__:20} {fresh.submit(extra_bytes, select, n).result():6.3f}")


def print_billion() -> None:
    torch.set_num_threads(1)
    smallest(normal(1000), 10)
    n = 1_000_000_000
    weights = [w.abs_() for w in normal(n)]
    before = resident("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    chosen = smallest(weights, amount_of(weights))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    extra = (resident("VmHWM") - before) / n - 1
    count = sum(int(marks.count_nonzero()) for marks in chosen)
    print(
        f"{count:,} of {n:,} chosen in {cpu:.1f} s CPU, {wall:.1f} s wall, one thread;"
        f" {extra:.3f} bytes per weight beside {resident('VmHWM') / 1e9:.1f} GB in all"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--weights", type=int, default=100_000_000)
    parser.add_argument("--billion", action="store_true")
    arguments = parser.parse_args()
    if arguments.billion:
        print_billion()
        return
    print(f"the smallest {AMOUNT:.0%} of {arguments.weights:,} weights")
    print_memory(arguments.weights)
    print_times(normal(arguments.weights), arguments.turns)


if __name__ == "__main__":
    main()
