"""Time of a forward pass after half of the units went, as a ratio to what Torch-Pruning leaves of the same network.

    python -m benchmarks.networks.latency [--repeats 30]

One thread, CPU time, the networks in turn; the ratio is that of the medians. Needs what `benchmarks.networks` needs.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import torch
from architectures.halved import count, half
from torch import nn

from lottery.deploy import bake, compact

from .beside import shrink
from .made import make

NETWORKS = {
    "torchvision/resnet18": (4, 3, 128, 128),
    "torchvision/mobilenet_v2": (4, 3, 128, 128),
    "own/unet": (4, 1, 256, 256),
}
"""Name to the shape of the input that is timed."""


def seconds(module: nn.Module, x: torch.Tensor) -> float:
    start = time.process_time()
    with torch.no_grad():
        module(x)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print("| network | parameters | Torch-Pruning's | time / dense | time / Torch-Pruning's |\n|---|---|---|---|---|")
    for name, shape in NETWORKS.items():
        dense, inputs = make(name)
        masked, other = make(name)[0], make(name)[0]
        small = compact(bake(masked, half(masked, inputs(2, 0))), inputs(2, 0)).module
        shrink(other, inputs(2, 0))
        modules = [module.float().eval() for module in (dense, small, other)]
        x = torch.randn(*shape)
        times = [[seconds(module, x) for module in modules] for _ in range(repeats + 2)][2:]
        whole, ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        print(
            f"| {name} | {count(small):,} | {count(other):,} | {ours / whole:.2f} | {ours / theirs:.2f} |", flush=True
        )


if __name__ == "__main__":
    main()
