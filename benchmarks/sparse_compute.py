"""How long linear layers take with dense, CSR and BSR matrices, on the CPU with one thread.

    python benchmarks/sparse_compute.py [--threads 1] [--skip-large]

The layers of LeNet-300-100, of an MLP 1024-1024-1024 and one of 4096 x 4096, at 50, 10, 3 and 1 % density, for batches
of 1 and 64: dense microseconds, then what CSR and the best BSR take over that, and what `sparsify` chooses. Weights are
pruned at random, single ones, and for one more line in whole blocks of 16 x 16. Then each network as a whole:
`sparsify` over dense, in turns. Times are of the processor, so that other processes count little. It takes two minutes
of processor time. Believe the ratios, and those roughly: they move by a tenth or two from run to run.
"""

from __future__ import annotations

import argparse
import itertools
import time
from statistics import median

import torch
from torch import Tensor, nn

from lottery.deploy.sparse.compute import Sparsified, sparsify

NETWORKS = {"LeNet-300-100": (784, 300, 100, 10), "MLP": (1024, 1024, 1024)}
LARGE = {"4096 x 4096": (4096, 4096)}
DENSITIES = (0.5, 0.1, 0.03, 0.01)
BATCHES = (1, 64)
BLOCK = 16
TURNS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--skip-large", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    heads = ("weight", "pruned", "density", "batch", "dense us", "csr", "bsr", "chosen")
    print("one layer: times over dense")
    print("".join(f"{head:>12}" for head in heads))
    whole = []
    for name, widths in {**NETWORKS, **({} if arguments.skip_large else LARGE)}.items():
        for block, density, batch in itertools.product((1, BLOCK), DENSITIES, BATCHES):
            if block > 1 and name == "LeNet-300-100":
                continue  # 16 divides few of its sides
            net, x = network(widths, density, block), torch.randn(batch, widths[0])
            found = sparsify(net, x)
            print_layers(found, block, density, batch)
            whole.append((name, block, density, batch, overall(net, found, x)))
    print("\nthe network: time over dense")
    for name, block, density, batch, share in whole:
        print(f"{name:>16}{pruned(block):>12}{100 * density:>8g} %{batch:>6}   auto {share:.2f}")


def network(widths: tuple[int, ...], density: float, block: int) -> nn.Module:
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise(widths):
        layer = nn.Linear(into, out)
        with torch.no_grad():
            layer.weight *= live(out, into, density, block)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def live(rows: int, columns: int, density: float, block: int) -> Tensor:
    kept = torch.rand(-(-rows // block), -(-columns // block)) < density
    return kept.repeat_interleave(block, 0).repeat_interleave(block, 1)[:rows, :columns]


def pruned(block: int) -> str:
    return "singly" if block == 1 else f"{block} x {block}"


def print_layers(found: Sparsified, block: int, density: float, batch: int) -> None:
    for layer in found.layers:
        dense = layer.best("dense")
        cells = [" x ".join(map(str, layer.shape)), pruned(block), f"{100 * density:g} %", str(batch)]
        cells += [f"{1e6 * dense:.0f}", f"{layer.best('csr') / dense:.2f}", f"{layer.best('bsr') / dense:.2f}"]
        print("".join(f"{cell:>12}" for cell in [*cells, layer.chosen]))


def overall(dense: nn.Module, found: Sparsified, x: Tensor) -> float:
    """The time of the network that `sparsify` gave over that of the dense one: the median of turns."""
    with torch.inference_mode():
        calls = max(1, int(0.01 / seconds(dense, x, 2)))
        return median(seconds(found.module, x, calls) / seconds(dense, x, calls) for _ in range(TURNS))


def seconds(net: nn.Module, x: Tensor, calls: int) -> float:
    net(x)
    start = time.process_time()
    for _ in range(calls):
        net(x)
    return (time.process_time() - start) / calls


if __name__ == "__main__":
    main()
