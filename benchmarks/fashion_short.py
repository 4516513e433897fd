"""The short LeNet recipe over several seeds, with the control that matters most: the same masks, other weights.

    python benchmarks/fashion_short.py [--seeds 3] [--dirpath checkpoints/fashion_lenet_short]

Runs recipes/fashion_lenet_short.yaml once per seed (finished runs are not run again), trains some of its tickets once
more from fresh weights, and prints the table and draws the plot of docs/results.md.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch

from lottery import LotteryTicket, Run, Ticket
from lottery.data import FashionMNIST
from lottery.models import LeNet300

RECIPE = "recipes/fashion_lenet_short.yaml"
REINITIALISED = (1, 4, 7, 10, 12)


def ticket_run(seed: int, dirpath: Path) -> Run:
    command = [
        "run",
        RECIPE,
        "--seed_everything",
        str(seed),
        "--data.init_args.seed",
        str(seed),
    ]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "lottery.cli",
            *command,
            "--lottery.dirpath",
            str(dirpath),
        ],
        check=True,
    )
    return Run(dirpath)


def reinitialised(run: Run, round: int, seed: int) -> Run:
    """One training of a round's mask from weights that are drawn anew."""
    dirpath = run.path.with_name(f"{run.path.name}-reinit-{round:02d}")
    pl.seed_everything(1000 + seed, verbose=False)
    module = LeNet300(
        lambda parameters: torch.optim.Adam(parameters, lr=1.2e-3, fused=True)
    )
    ticket = Ticket(run.ticket(round).masks, module.state_dict())
    control = LotteryTicket(
        0, ticket=ticket, dirpath=dirpath, monitor="val_acc", test_each_round=True
    )
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[control],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, FashionMNIST(batch_size=60, seed=seed))
    return Run(dirpath)


def accuracy(run: Run, round: int) -> float:
    """Test accuracy in % at the step of best validation accuracy."""
    return 100 * run.summary(round)["test_best"]["test_acc"]


def cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}" if values else "-"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--dirpath",
        default="checkpoints/fashion_lenet_short",
        help="prefix of the run directories",
    )
    parser.add_argument("--plot", type=Path, help="where to save the plot")
    arguments = parser.parse_args()

    runs = [
        ticket_run(seed, Path(f"{arguments.dirpath}-{seed}"))
        for seed in range(arguments.seeds)
    ]
    controls = {
        r: [reinitialised(run, r, seed) for seed, run in enumerate(runs)]
        for r in REINITIALISED
    }
    rows = []
    for round in runs[0].rounds:
        tickets = [accuracy(run, round) for run in runs]
        gains = [accuracy(run, round) - accuracy(run, 0) for run in runs]
        fresh = [accuracy(control, 0) for control in controls.get(round, [])]
        rows.append((100 * runs[0].summary(round)["density"], tickets, gains, fresh))
    print(
        "| density | ticket | minus dense, each seed | reinitialised |\n|--:|--:|--:|--:|"
    )
    for density, tickets, gains, fresh in rows:
        each = ", ".join(f"{gain:+.2f}" for gain in gains)
        print(f"| {density:.1f} % | {cell(tickets)} | {each} | {cell(fresh)} |")
    if arguments.plot is not None:
        plot(rows, arguments.plot)


def plot(
    rows: list[tuple[float, list[float], list[float], list[float]]], path: Path
) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter

    _, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
    dense = rows[0][1]
    ax.axhspan(min(dense), max(dense), color="0.88", label="dense, range of seeds")
    for label, color, marker, column in (
        ("ticket", "#0072B2", "o", 1),
        ("same mask, reinitialised", "#D55E00", "s", 3),
    ):
        shown = [(row[0], row[column]) for row in rows if row[column]]
        means = [statistics.mean(values) for _, values in shown]
        low = [m - min(values) for m, (_, values) in zip(means, shown, strict=True)]
        high = [max(values) - m for m, (_, values) in zip(means, shown, strict=True)]
        densities = [density for density, _ in shown]
        ax.errorbar(
            densities,
            means,
            (low, high),
            color=color,
            marker=marker,
            ms=5,
            capsize=3,
            label=label,
        )
    ax.set_xscale("log")
    ax.invert_xaxis()
    ax.set_xticks([100, 50, 25, 10, 7], minor=False)
    ax.minorticks_off()
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xlabel("weights kept [%]")
    ax.set_ylabel("test accuracy [%]")
    ax.set_title("LeNet-300-100 on Fashion-MNIST, 2 epochs a round", fontsize=10)
    ax.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    plt.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
