"""Ways to prune before training beside iterative magnitude pruning, at 20 %, 5 % and 2 % density.

    python benchmarks/methods.py [--seeds 3] [--dirpath checkpoints/methods] [--plot FILE]
    python benchmarks/methods.py --task standardized --dirpath checkpoints/methods_std \\
        --methods SynFlow 'SNIP, one step a density'
    python benchmarks/methods.py --task mnist1d --seeds 5 --dirpath checkpoints/grasp_mnist1d --gradients \\
        --controls reinit shuffle --methods 'GraSP, one step a density' 'GraSP, absolute' 'GraSP, inverted'

Each method is a LotteryTicket of its own: scores before training (three decisions, one for each density, each in 100
steps or in one, so that the third scores what two have left), and iterative magnitude pruning in 17 rounds that passes
through the same densities. Every training is that of a task's recipe, from the initial weights: LeNet-300-100 on
Fashion-MNIST as in recipes/fashion_lenet_short.yaml, or recipes/mnist1d.yaml. Controls train the masks of each method.
Finished runs are not run again. Prints the tables of docs/results.md; test accuracy at the step of best validation
accuracy.
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor

from lottery import LotteryTicket, Pruning, Run, Ticket, compare
from lottery.pruning.scores import Context, register, resolve
from lottery.studies import controls
from lottery.tasks.data import MNIST1D, FashionMNIST
from lottery.tasks.data.in_memory import Split, Splits
from lottery.tasks.models import MLP, LeNet300

DENSITIES = (0.2, 0.05, 0.02)
CONTROLS = ("reinit", "shuffle")


class Standardized(FashionMNIST):
    """Pixels of mean 0 and variance 1, in place of 0 to 1."""

    def load(self) -> Splits:
        splits = super().load()
        mean, deviation = splits.train.x.mean(), splits.train.x.std()
        return Splits(*(Split((x - mean) / deviation, y) for x, y in splits))


@dataclass(frozen=True)
class Task:
    """What is trained, and how long."""

    module: Callable[[], LightningModule]
    data: Callable[[int], LightningDataModule]
    epochs: int


def lenet() -> LightningModule:
    return LeNet300(lambda parameters: torch.optim.Adam(parameters, lr=1.2e-3, fused=True))


def mlp() -> LightningModule:
    return MLP(40, (300, 100), 10, lambda parameters: torch.optim.Adam(parameters, lr=3e-3, fused=True))


TASKS = {
    "fashion": Task(lenet, lambda seed: FashionMNIST(batch_size=60, seed=seed), 2),
    "standardized": Task(lenet, lambda seed: Standardized(batch_size=60, seed=seed), 2),
    "mnist1d": Task(mlp, lambda seed: MNIST1D(batch_size=100, seed=seed), 20),
}


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


@register("inverted_grasp", "batches")
def inverted_grasp(context: Context) -> Mapping[str, Tensor]:
    """What GraSP would prune last goes first."""
    return {name: -score for name, score in resolve({"name": "grasp", "batches": 10})(context).items()}


METHODS = {
    "IMP": Pruning(densities=geometric((0.2, 7), (0.05, 6), (0.02, 4))),
    "SynFlow": before_training("synflow"),
    "SNIP, iterated": before_training({"name": "snip", "batches": 10}),
    "SNIP, one step a density": before_training({"name": "snip", "batches": 10}, steps=1),
    "GraSP, one step a density": before_training({"name": "grasp", "batches": 10}, steps=1),
    "GraSP, absolute": before_training({"name": "grasp", "batches": 10, "absolute": True}, steps=1),
    "GraSP, inverted": before_training("inverted_grasp", steps=1),
    "GraSP, iterated": before_training({"name": "grasp", "batches": 10}),
    "magnitude at init": before_training("magnitude", steps=1, collapse="warn"),
    "random, ERK": before_training("random", steps=1, scope="erk"),
    "random, uniform": before_training("random", steps=1, scope="uniform"),
}


def fit(seed: int, task: Task, ticket: LotteryTicket) -> None:
    pl.seed_everything(seed, verbose=False)
    trainer = pl.Trainer(
        max_epochs=task.epochs,
        accelerator="cpu",
        callbacks=[ticket],
        logger=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task.module(), task.data(seed))


def train(method: str, seed: int, dirpath: Path, task: Task) -> Run:
    """All rounds of a method, or what is missing of them."""
    pruning = METHODS[method]
    rounds = len(pruning.densities or ())
    if not (dirpath.exists() and Run(dirpath).rounds == list(range(rounds + 1))):
        fit(seed, task, LotteryTicket(rounds, pruning, dirpath=dirpath, monitor="val_acc", test_each_round=True))
    return Run(dirpath)


def train_control(control: str, run: Run, number: int, seed: int, task: Task) -> Run:
    """The ticket of a round, changed by a control and trained once."""
    dirpath = run.path.with_name(f"{run.path.name}-{number}-{control}")
    if not (dirpath.exists() and Run(dirpath).rounds == [0]):
        pl.seed_everything(seed + 1000, verbose=False)
        made = controls.resolve(control).make(run.ticket(number), seed, {"fresh": task.module().state_dict()})
        fit(seed, task, LotteryTicket(0, ticket=made, dirpath=dirpath, monitor="val_acc", test_each_round=True))
    return Run(dirpath)


@functools.cache
def first_batches(seed: int, task: Task) -> list[tuple[Tensor, Tensor]]:
    data = task.data(seed)
    data.setup("fit")
    return list(itertools.islice(data.train_dataloader(), 10))


def gradient_norm(ticket: Ticket, seed: int, task: Task) -> float:
    """The norm of the loss's gradient by the kept weights, where training starts; over ten batches."""
    module = ticket.apply(task.module())
    for x, y in first_batches(seed, task):
        (F.cross_entropy(module(x), y) / 10).backward()
    parameters = dict(module.named_parameters())
    kept = [parameters[name].grad[mask] for name, mask in ticket.masks.items()]
    return float(torch.cat(kept).norm())


Trained = tuple[Run, int]
"""A run, and the number of one of its rounds."""
Arms = dict[str, list[list[Trained]]]
"""By name, for each seed: the trainings at DENSITIES."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--task", choices=TASKS, default="fashion", help="standardized: pixels of mean 0 and variance 1"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dirpath", type=Path, default=Path("checkpoints/methods"))
    parser.add_argument("--plot", type=Path, help="where to save the plot")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--controls", nargs="+", choices=CONTROLS, default=(), help="to train with each method's masks")
    parser.add_argument("--gradients", action="store_true", help="a table of gradient norms at the start of training")
    arguments = parser.parse_args()
    task = TASKS[arguments.task]
    torch.set_num_threads(1)
    dense: list[Trained] = []
    arms: Arms = {}
    for seed in range(arguments.seeds):  # whole seeds first: an early look is a fair one
        for method in arguments.methods:
            name = f"{method.lower().replace(',', '').replace(' ', '-')}-{seed}"
            run = train(method, seed, arguments.dirpath / name, task)
            rounds = [round_at(run, density) for density in DENSITIES]
            if method == arguments.methods[0]:
                dense.append((run, 0))  # the same in each
            arms.setdefault(method, []).append([(run, number) for number in rounds])
            for control in arguments.controls:
                made = [(train_control(control, run, number, seed, task), 0) for number in rounds]
                arms.setdefault(f"{method}: {control}", []).append(made)
    print_table(dense, arms)
    if arguments.gradients:
        print_gradients(dense, arms, task)
    if arguments.plot is not None:
        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        runs = {method: [trainings[0][0] for trainings in arms[method]] for method in arguments.methods}
        compare(runs).plot().figure.savefig(arguments.plot, dpi=110)


def print_table(dense: list[Trained], arms: Arms) -> None:
    head = "".join(f" {100 * d:g} % | on a path |" for d in DENSITIES)
    print(f"| method |{head}\n|---|{'--:|' * 2 * len(DENSITIES)}")
    print(f"| dense | {cell(map(accuracy, dense))} |{' |' * (2 * len(DENSITIES) - 1)}")
    for name, seeds in arms.items():
        cells = ""
        for trained in zip(*seeds, strict=True):
            paths = [on_a_path(*one) for one in trained]
            cells += f" {cell(map(accuracy, trained))} | {100 * sum(paths) / len(paths):.0f} % |"
        print(f"| {name} |{cells}")


def print_gradients(dense: list[Trained], arms: Arms, task: Task) -> None:
    """Norms of the gradient where training starts, as multiples of the dense network's."""
    head = "".join(f" {100 * d:g} % |" for d in DENSITIES)
    print(f"\n| gradient norm, dense = 1 |{head}\n|---|{'--:|' * len(DENSITIES)}")
    for name, seeds in arms.items():
        ratios = []
        for seed, trained in enumerate(seeds):
            run, number = dense[seed]
            whole = gradient_norm(run.ticket(number), seed, task)
            ratios.append([gradient_norm(run.ticket(number), seed, task) / whole for run, number in trained])
        print(f"| {name} |{''.join(f' {cell(column)} |' for column in zip(*ratios, strict=True))}")


def round_at(run: Run, density: float) -> int:
    return min(run.rounds, key=lambda n: abs(run.summary(n).density - density))


def accuracy(trained: Trained) -> float:
    run, number = trained
    return 100 * run.summary(number).test_best["test_acc"]


def on_a_path(run: Run, number: int) -> float:
    found = run.summary(number).connectivity
    return found.effective_density / found.density


def cell(values: Iterable[float]) -> str:
    found = torch.tensor(list(values), dtype=torch.float64)
    spread = f" ± {found.std():.2f}" if len(found) > 1 else ""
    return f"{found.mean():.2f}{spread}"


if __name__ == "__main__":
    main()
