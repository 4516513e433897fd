"""At which compression does a layer of 784-100x5-10 first lose all its weights, and what remains on a path?

    python benchmarks/collapse.py [--seeds 3]

Prints, per score and seed, log10 of the first compression (prunable / kept, in steps of 0.25 and at last the largest
possible, 10^4.30) at which a layer is empty, and the steps before it at which no path leads from input to output though
each layer still has weights. Weights and biases start as PyTorch's Linear makes them; SNIP and GraSP see a batch of
Fashion-MNIST, ten samples of each class. They are then run again on normal noise with biases at zero, because where
they collapse depends on both. The last table is the effective compression of masks of LeNet-300-100: that of the mean
effective density over seeds, because at the highest some masks leave no path at all. Five minutes of one core.

Source: Tanaka et al., NeurIPS 2020, figure 1 and section 3; Vysogorets & Kempe, JMLR 2023, section 3.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lottery import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.masks.selection import smallest
from lottery.pruning.graph.paths import Connectivity, effective
from lottery.pruning.scopes import erdos_renyi
from lottery.pruning.scores import Context, compute
from lottery.tasks.data import FashionMNIST

WIDTHS = (784, 100, 100, 100, 100, 100, 10)
LENET = (784, 300, 100, 10)
BIASED = {"name": "synflow", "zero_biases": False}
METHODS: dict[str, tuple[Any, int, str]] = {
    # score, iterations, expected log10 of the first compression with an empty layer
    "magnitude at initialisation": ("magnitude", 1, "0.75"),
    "SynFlow, one-shot": ("synflow", 1, "0.75"),
    "GraSP": ("grasp", 1, "1.50"),
    "SNIP x 100": ("snip", 100, "1.75"),
    "SNIP": ("snip", 1, "2.25"),
    "random": ("random", 1, "3.00"),
    "SynFlow x 100, with biases": (BIASED, 100, "2.75"),
    "SynFlow x 100, zero biases": ("synflow", 100, "none"),
}
SAMPLES_PER_CLASS = 10
EFFECTIVE = (
    # masks, compression, expected effective compression, seeds
    ("uniform", 96, 993, 60),
    ("uniform", 276, 14011, 150),
    ("erk", 102, 116, 40),
    ("erk", 327, 909, 40),
    ("synflow", 300, 301, 2),
)


def network(widths: tuple[int, ...], seed: int) -> nn.Sequential:
    """A ReLU network with PyTorch's own initialisation."""
    torch.manual_seed(seed)
    parts: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(widths):
        parts += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def without_biases(module: nn.Sequential) -> nn.Sequential:
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    return module


def noise(seed: int) -> tuple[Tensor, Tensor]:
    """Normal noise with labels that mean nothing, as many of each class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(10).repeat(SAMPLES_PER_CLASS)
    return torch.randn(len(labels), WIDTHS[0], generator=generator), labels


def balanced_batch(seed: int) -> tuple[Tensor, Tensor]:
    """Samples of Fashion-MNIST, as many of each class; other ones for another seed."""
    x, y = FashionMNIST().splits.train
    mine = slice(seed * SAMPLES_PER_CLASS, (seed + 1) * SAMPLES_PER_CLASS)
    rows = torch.cat([(y == label).nonzero().flatten()[mine] for label in range(10)])
    return x[rows], y[rows]


def context(module: nn.Module, seed: int, batch: Any = None) -> Context:
    return Context(
        module,
        Masks.ones(prunable_parameters(module)),
        batches=None if batch is None else lambda: [batch],
        example_input=torch.zeros(1, 784),
        generator=torch.Generator().manual_seed(seed),
    )


def pruned(score: Any, start: Context, kept: int, iterations: int) -> Masks:
    """`kept` weights after so many steps of equal ratio, each with scores of what the step before left."""
    dense = {name: weight.clone() for name, weight in start.weights.items()}
    masks = start.masks
    for step in range(1, iterations + 1):
        count = round(masks.total * (kept / masks.total) ** (step / iterations))
        masks.apply(start.parameters)
        masks = keep(compute(score, replace(start, masks=masks)), masks, count)
    start.module.load_state_dict(dense, strict=False)
    return masks


def keep(scores: dict[str, Tensor], masks: Masks, count: int) -> Masks:
    """The `count` highest scores among the weights that `masks` keeps."""
    cut = smallest(list(scores.values()), masks.kept - count, list(masks.values()))
    return Masks({name: masks[name] & ~gone for name, gone in zip(masks, cut, strict=True)})


def first_collapse(score: Any, iterations: int, start: Context) -> tuple[str, str]:
    """log10 of the first compression with an empty layer; and of those before it without a path."""
    total = start.masks.total
    largest = math.log10(Connectivity(start.masks).largest_compression)
    torn: list[str] = []
    scores = None if iterations > 1 else compute(score, start)
    for power in [*(0.25 * i for i in range(1, int(largest / 0.25) + 1)), largest]:
        kept = round(total / 10**power)
        if scores is None:
            masks = pruned(score, start, kept, iterations)
        else:
            masks = keep(scores, start.masks, kept)
        found = Connectivity(masks, effective(start.module, masks, start.example_input))
        if found.empty:
            return f"{power:.2f}", " ".join(torn)
        if not found.connected:
            torn.append(f"{power:.2f}")
    return "none", " ".join(torn)


def effective_compression(kind: str, compression: float, seeds: int) -> float:
    """Of the mean effective density of LeNet-300-100, with masks "uniform" or "erk" at random, or "synflow"."""
    on_path = []
    for seed in range(seeds):
        start = context(network(LENET, seed), seed)
        kept = round(start.masks.total / compression)
        if kind == "synflow":
            masks = pruned("synflow", start, kept, iterations=100)
        else:
            masks = drawn(start, kind, 1 / compression)
        on_path.append(effective(start.module, masks, start.example_input).density)
    return 1 / statistics.mean(on_path)


def drawn(start: Context, kind: str, density: float) -> Masks:
    """Random weights of each layer, at one density or at those of Erdős–Rényi."""
    shapes = {name: tuple(mask.shape) for name, mask in start.masks.items()}
    uniform = dict.fromkeys(shapes, density)
    densities = uniform if kind == "uniform" else erdos_renyi(shapes, density)
    masks = {}
    for name, score in compute("random", start).items():
        one = Masks({name: start.masks[name]})
        count = round(score.numel() * densities[name])
        masks[name] = keep({name: score}, one, count)[name]
    return Masks(masks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(arguments.seeds)

    print("first log10 compression with an empty layer, 784-100x5-10")
    print(f"  {'score':<28} {'expected':>9}   per seed (no path before that)")
    for method in METHODS:
        row(method, [context(network(WIDTHS, s), s, balanced_batch(s)) for s in seeds])
    print("on noise, biases at zero")
    for method in ("GraSP", "SNIP x 100", "SNIP"):
        nets = [without_biases(network(WIDTHS, s)) for s in seeds]
        row(method, [context(nets[s], s, noise(s)) for s in seeds])

    print("\neffective compression, LeNet-300-100")
    print(f"  {'masks':<10} {'direct':>7} {'expected':>9} {'found':>9}   seeds")
    for kind, direct, expected, count in EFFECTIVE:
        found = effective_compression(kind, direct, count)
        print(f"  {kind:<10} {direct:>7} {expected:>9} {found:>9.0f}   {count}")


def row(method: str, starts: list[Context]) -> None:
    """One score's first collapse in each of several networks."""
    score, iterations, expected = METHODS[method]
    cells = []
    for start in starts:
        first, torn = first_collapse(score, iterations, start)
        cells.append(f"{first} ({torn})" if torn else first)
    print(f"  {method:<28} {expected:>9}   {', '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
