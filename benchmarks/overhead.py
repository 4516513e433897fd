"""What LotteryTicket costs per step: plain Lightning against the same with masks at work, side by side.

    python benchmarks/overhead.py [--turns 400]

CPU time, one thread each. The two fits train in turns, a few steps each, so that a drifting machine moves both.
Printed: the median, over the pairs of turns, of their ratio, and its quartiles. Also: what `import lottery` adds to
`import pytorch_lightning`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from lottery import LotteryTicket, Masks, Ticket
from lottery.masks.prunable import prunable_parameters
from lottery.tasks.data import BatchLoader
from lottery.tasks.models import LeNet300

FUSED_ADAM = partial(torch.optim.Adam, lr=1.2e-3, fused=True)
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


class ResNet20(pl.LightningModule):
    """The CIFAR network of He et al. (2016), section 4.2, with 20 layers, for images of 32 x 32."""

    def __init__(self) -> None:
        super().__init__()
        widths = [16] * 3 + [32] * 3 + [64] * 3
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        blocks, before = [], 16
        for width in widths:
            blocks.append(Block(before, width, stride=1 if width == before else 2))
            before = width
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.blocks(self.stem(x)).mean((2, 3)))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.two = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)])
        self.short = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norms[0](self.one(x)))
        return F.relu(self.norms[1](self.two(y)) + self.short(x))


class Baton(pl.Callback):
    """Lets two fits in two threads train in turns, a few steps each, and notes the CPU time of every turn."""

    def __init__(self, turns: threading.Barrier, first: bool, steps: int) -> None:
        self.turns, self.first, self.steps = turns, first, steps
        self.seconds: list[float] = []

    def on_train_start(self, *_: Any) -> None:
        if not self.first:
            self.turns.wait()
        self.start = time.thread_time()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % self.steps == 0:
            self.seconds.append(time.thread_time() - self.start)
            self.turns.wait()  # hand over
            self.turns.wait()  # until it comes back
            self.start = time.thread_time()


def fit(make: Any, loader: Any, contender: str, baton: Baton) -> None:
    """One epoch: "plain", with "lottery" masks of density 20 %, or with those of "torch.nn.utils.prune"."""
    module = make()
    callbacks: list[Any] = [baton]
    parameters = prunable_parameters(module)
    if contender == "lottery":
        masks = Masks({name: torch.rand(p.shape) < 0.2 for name, p in parameters.items()})
        ticket = Ticket(masks, module.state_dict())
        callbacks.append(LotteryTicket(rounds=0, ticket=ticket, dirpath=tempfile.mkdtemp()))
    elif contender == "torch.nn.utils.prune":
        for name in parameters:
            owner, _, attribute = name.rpartition(".")
            prune.random_unstructured(module.get_submodule(owner), attribute, amount=0.8)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=callbacks, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    baton.turns.abort()


def turns(
    make: Any, shape: tuple[int, ...], steps: int, count: int, contender: str = "lottery"
) -> list[tuple[float, float]]:
    """CPU seconds of `count` turns of `steps` steps each: plain and the contender, either of them first."""
    pairs = []
    for first in ("plain", contender):
        barrier = threading.Barrier(2)
        batons = {name: Baton(barrier, name == first, steps) for name in ("plain", contender)}
        threads = []
        for name, baton in batons.items():
            samples = shape[0] * steps * (count // 2 + 1)
            data = torch.rand(samples, *shape[1:]), torch.randint(10, (samples,))
            loader = BatchLoader(*data, batch_size=shape[0], shuffle=False)
            threads.append(threading.Thread(target=quietly, args=(make, loader, name, baton)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pairs += list(zip(batons["plain"].seconds, batons[contender].seconds))[1:]  # the first turn warms up
    return pairs


def quietly(*arguments: Any) -> None:
    with contextlib.suppress(threading.BrokenBarrierError):
        fit(*arguments)


def import_seconds(statement: str) -> float:
    code = f"import time; t = time.process_time(); {statement}; print(time.process_time() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def report(name: str, limit: float | None, pairs: list[tuple[float, float]]) -> None:
    ratios = sorted(second / first for first, second in pairs)
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"{name:<48} {middle:6.3f}  ({low:.3f} to {high:.3f}, {len(ratios)} pairs)"
        + (f"   asked: at most {limit}" if limit is not None else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=400, help="pairs of turns (ResNet: a fifth of it)")
    arguments = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # both fits on one core, with the same caches
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    lenet, resnet = (60, 784), (32, 3, 32, 32)
    print("ratio of CPU time per step, with masks of density 20 % / without, one thread")
    for name, limit, make, shape, steps, contender in (
        ("LeNet-300-100, batch 60, fused Adam", 1.06, partial(LeNet300, FUSED_ADAM), lenet, 5, "lottery"),
        ("LeNet-300-100, batch 60, SGD", 1.06, partial(LeNet300, SGD), lenet, 5, "lottery"),
        ("  the same with torch.nn.utils.prune", None, partial(LeNet300, SGD), lenet, 5, "torch.nn.utils.prune"),
        ("ResNet-20, batch 32, SGD", 1.02, ResNet20, resnet, 1, "lottery"),
        # not the masks' doing: MKL takes 7 times as long for the square root of a zero on some processors, and the
        # second moments of pruned weights are zeros; fused Adam does not call MKL
        ("LeNet-300-100, batch 60, Adam that calls MKL", None, LeNet300, lenet, 5, "lottery"),
    ):
        count = max(10, arguments.turns if steps > 1 else arguments.turns // 5)
        with contextlib.redirect_stdout(io.StringIO()):
            pairs = turns(make, shape, steps, count, contender)
        report(name, limit, pairs)
    print("ratio of CPU time to import")
    plain, more = ("import pytorch_lightning", "import pytorch_lightning, lottery; lottery.LotteryTicket")
    pairs = [(import_seconds(plain), import_seconds(more)) for _ in range(9)]
    report("pytorch_lightning and LotteryTicket / the former", 1.10, pairs)


if __name__ == "__main__":
    main()
