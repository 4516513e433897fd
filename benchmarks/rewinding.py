"""A ResNet whose tickets fail from step 0 and not from a later step, and the error barrier that says which step.

    python benchmarks/rewinding.py [--seeds 3] [--dirpath checkpoints/rewinding] [--plot docs/images/rewinding.png]

Runs recipes/fashion_resnet.yaml once per seed and rewind point, searches for the rewind point as `lottery find-rewind
--every` does, and prints two tables: test accuracy against density, and the error barrier between two dense trainings
against the step at which they part. What is finished is not run again.

Source: Frankle, Dziugaite, Roy & Carbin, "Linear Mode Connectivity and the Lottery Ticket Hypothesis", ICML 2020,
figures 3 and 5.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from lottery import Run
from lottery.foundations.steps import Step
from lottery.studies.rewinding import find_rewind
from lottery.studies.stability import THRESHOLD
from lottery.training import recipes

RECIPE = "recipes/fashion_resnet.yaml"
STEPS = ("init", "10it", "20it", "40it", "1ep")


def load(seed: int, dirpath: Path, *settings: str) -> Any:
    return recipes.load(
        RECIPE,
        [
            *("--seed_everything", str(seed), "--data.init_args.seed", str(seed)),
            *("--lottery.dirpath", str(dirpath)),
            *("--trainer.enable_progress_bar", "false"),
            *settings,
        ],
    )


def ticket_run(seed: int, rewind: str, dirpath: Path) -> Run:
    """All rounds of a seed, rewound to a step."""
    cli = load(seed, dirpath, "--lottery.rewind", rewind)
    if not dirpath.exists() or Run(dirpath).rounds[-1:] != [cli.ticket.rounds]:
        cli.trainer.fit(cli.model, cli.datamodule)
    return Run(dirpath)


def accuracy(run: Run, round: int) -> float:
    """Test accuracy in % at the step of best validation accuracy."""
    return 100 * run.summary(round).test_best["test_acc"]


def cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dirpath", default="checkpoints/rewinding", help="prefix of the run directories")
    parser.add_argument("--plot", type=Path, help="where to save the plot")
    arguments = parser.parse_args()
    recipes.quieten()

    late = load(0, Path(arguments.dirpath)).ticket.rewind.to
    seeds = range(arguments.seeds)
    runs = {
        rewind: [ticket_run(seed, rewind, Path(f"{arguments.dirpath}-{rewind}-{seed}")) for seed in seeds]
        for rewind in ("init", late)
    }
    print(f"\n| density | rewound to step 0 | to {late} | difference, each seed |\n|--:|--:|--:|--:|")
    rows = []
    for round in runs[late][0].rounds:
        found = {name: [accuracy(run, round) for run in members] for name, members in runs.items()}
        density = 100 * runs[late][0].summary(round).density
        rows.append((density, found))
        gains = [b - a for a, b in zip(found["init"], found[late], strict=True)]
        each = ", ".join(f"{gain:+.2f}" for gain in gains)
        print(f"| {density:.1f} % | {cell(found['init'])} | {cell(found[late])} | {each} |")

    search = find_rewind(RECIPE, f"{arguments.dirpath}-search", steps=STEPS, seeds=seeds, every=True)
    curve = {
        "0" if step == Step() else str(step): [100 * height for height in heights]
        for step, heights in search.heights.items()
    }
    print("\n| parting at step | error barrier, each seed |\n|--:|--:|")
    for step, heights in curve.items():
        print(f"| {step} | {', '.join(f'{height:.1f} %' for height in heights)} |")
    if arguments.plot is not None:
        plot(rows, curve, late, arguments.plot)


def plot(
    rows: list[tuple[float, dict[str, list[float]]]], curve: dict[str, list[float]], late: str, path: Path
) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter

    _, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.6), layout="constrained")
    places = range(len(curve))
    for seed, heights in enumerate(zip(*curve.values(), strict=True)):
        label = "one seed each" if seed == 0 else None
        left.plot(places, heights, color="#009E73", marker=".", alpha=0.7, label=label)
    left.axhline(100 * THRESHOLD, color="0.6", lw=1, ls="--", label="2 %")
    left.set_xticks(places, list(curve))
    left.set_xlabel("step at which the two trainings part")
    left.set_ylabel("error barrier [%]")
    left.set_title("dense network", fontsize=10)
    left.legend(frameon=False)

    dense = rows[0][1][late]
    right.axhspan(min(dense), max(dense), color="0.88", label="dense, range of seeds")
    densities = [density for density, _ in rows]
    for name, label, color, marker in (
        (late, f"rewound to {late}", "#0072B2", "o"),
        ("init", "rewound to step 0", "#D55E00", "s"),
    ):
        found = [values[name] for _, values in rows]
        means = [statistics.mean(values) for values in found]
        low = [m - min(values) for m, values in zip(means, found, strict=True)]
        high = [max(values) - m for m, values in zip(means, found, strict=True)]
        style = {"color": color, "marker": marker, "ms": 5, "capsize": 3}
        right.errorbar(densities, means, (low, high), label=label, **style)
    right.set_xscale("log")
    right.invert_xaxis()
    right.set_xticks(densities)
    right.minorticks_off()
    right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    right.set_xlabel("weights kept [%]")
    right.set_ylabel("test accuracy [%]")
    right.set_title("tickets", fontsize=10)
    right.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    plt.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
