"""Ways to prune LeNet-300-100 on Fashion-MNIST, side by side at 20 %, 5 % and 2 % density.

    python benchmarks/methods.py [--seeds 3] [--dirpath checkpoints/methods] [--plot FILE]
    python benchmarks/methods.py --standardize --dirpath checkpoints/methods_std \\
        --methods SynFlow 'SNIP, one step a density'

Each method is a LotteryTicket of its own: scores before training (three decisions, one for each density, each in 100
steps or in one, so that the third scores what two have left), and iterative magnitude pruning in 17 rounds that passes
through the same densities. Every training is that of
recipes/fashion_lenet_short.yaml: two epochs from the initial weights. Finished runs are not run again. Prints the table
of docs/results.md; test accuracy at the step of best validation accuracy.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lottery import LotteryTicket, Pruning, Run, compare
from lottery.tasks.data import FashionMNIST
from lottery.tasks.data.in_memory import Split, Splits
from lottery.tasks.models import LeNet300

DENSITIES = (0.2, 0.05, 0.02)


def geometric(*waypoints: tuple[float, int]) -> list[float]:
    """Densities that fall from 1 to each waypoint in so many equal ratios."""
    found, start = [], 1.0
    for end, rounds in waypoints:
        found += [start * (end / start) ** (k / rounds) for k in range(1, rounds)]
        found.append(end)
        start = end
    return found


def before_training(score: Any, **settings: Any) -> Pruning:
    settings = {"steps": 100, **settings}
    return Pruning(densities=DENSITIES, score=score, weights="start", **settings)


METHODS = {
    "IMP": Pruning(densities=geometric((0.2, 7), (0.05, 6), (0.02, 4))),
    "SynFlow": before_training("synflow"),
    "SNIP, iterated": before_training({"name": "snip", "batches": 10}),
    "SNIP, one step a density": before_training({"name": "snip", "batches": 10}, steps=1),
    "GraSP, one step a density": before_training({"name": "grasp", "batches": 10}, steps=1),
    "GraSP, iterated": before_training({"name": "grasp", "batches": 10}),
    "magnitude at init": before_training("magnitude", steps=1, collapse="warn"),
    "random, ERK": before_training("random", steps=1, scope="erk"),
    "random, uniform": before_training("random", steps=1, scope="uniform"),
}


class Standardized(FashionMNIST):
    """Pixels of mean 0 and variance 1, in place of 0 to 1."""

    def load(self) -> Splits:
        splits = super().load()
        mean, deviation = splits.train.x.mean(), splits.train.x.std()
        return Splits(*(Split((x - mean) / deviation, y) for x, y in splits))


def train(method: str, seed: int, dirpath: Path, data: type[FashionMNIST]) -> Run:
    """All rounds of a method, or what is missing of them."""
    pruning = METHODS[method]
    rounds = len(pruning.densities or ())
    if dirpath.exists() and Run(dirpath).rounds == list(range(rounds + 1)):
        return Run(dirpath)
    pl.seed_everything(seed, verbose=False)
    module = LeNet300(lambda parameters: torch.optim.Adam(parameters, lr=1.2e-3, fused=True))
    ticket = LotteryTicket(rounds, pruning, dirpath=dirpath, monitor="val_acc", test_each_round=True)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[ticket],
        logger=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data(batch_size=60, seed=seed))
    return Run(dirpath)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dirpath", type=Path, default=Path("checkpoints/methods"))
    parser.add_argument("--plot", type=Path, help="where to save the plot")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--standardize", action="store_true", help="pixels of mean 0 and variance 1 (default: 0 to 1)")
    arguments = parser.parse_args()
    data = Standardized if arguments.standardize else FashionMNIST
    torch.set_num_threads(1)
    runs: dict[str, list[Run]] = {}
    for seed in range(arguments.seeds):  # whole seeds first: an early look is a fair one
        for method in arguments.methods:
            name = f"{method.lower().replace(',', '').replace(' ', '-')}-{seed}"
            run = train(method, seed, arguments.dirpath / name, data)
            runs.setdefault(method, []).append(run)
    print_table(runs)
    if arguments.plot is not None:
        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        compare(runs).plot().figure.savefig(arguments.plot, dpi=110)


def print_table(runs: dict[str, list[Run]]) -> None:
    head = "".join(f" {100 * d:g} % | of them on a path |" for d in DENSITIES)
    print(f"| method |{head}\n|---|{'--:|' * 2 * len(DENSITIES)}")
    dense = [accuracy(run, 0) for members in runs.values() for run in members]
    print(f"| dense | {cell(dense)} |{' |' * (2 * len(DENSITIES) - 1)}")
    for method, members in runs.items():
        cells = ""
        for density in DENSITIES:
            rounds = [round_at(run, density) for run in members]
            pairs = list(zip(members, rounds, strict=True))
            tests = [accuracy(run, number) for run, number in pairs]
            paths = [on_a_path(run, number) for run, number in pairs]
            cells += f" {cell(tests)} | {100 * sum(paths) / len(paths):.0f} % |"
        print(f"| {method} |{cells}")


def round_at(run: Run, density: float) -> int:
    return min(run.rounds, key=lambda n: abs(run.summary(n).density - density))


def accuracy(run: Run, number: int) -> float:
    return 100 * run.summary(number).test_best["test_acc"]


def on_a_path(run: Run, number: int) -> float:
    found = run.summary(number).connectivity
    return found.effective_density / found.density


def cell(values: list[float]) -> str:
    found = torch.tensor(values, dtype=torch.float64)
    spread = f" ± {found.std():.2f}" if len(values) > 1 else ""
    return f"{found.mean():.2f}{spread}"


if __name__ == "__main__":
    main()
