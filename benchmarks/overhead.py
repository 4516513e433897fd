"""What LotteryTicket costs per step: plain Lightning against the same with masks at work, side by side.

    python benchmarks/overhead.py [--steps 150] [--repeats 15]

CPU time, one thread, the two interleaved so that a drifting machine moves both. Printed: the median, over the repeats,
of the ratio of each pair, and its range. Also: what `import lottery` adds to `import pytorch_lightning`.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lottery import LotteryTicket, Masks, Ticket
from lottery.data import BatchLoader
from lottery.models import LeNet300
from lottery.prunable import prunable_parameters


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


class Clock(pl.Callback):
    """CPU time from the first to the last batch of a fit."""

    def on_train_epoch_start(self, *_: Any) -> None:
        self.start = time.process_time()

    def on_train_epoch_end(self, *_: Any) -> None:
        self.seconds = time.process_time() - self.start


def seconds(make: Any, loader: Any, steps: int, masked: bool) -> float:
    torch.manual_seed(0)
    module = make()
    clock = Clock()
    callbacks: list[Any] = [clock]
    if masked:
        generator = torch.Generator().manual_seed(0)
        masks = {n: torch.rand(p.shape, generator=generator) < 0.2 for n, p in prunable_parameters(module).items()}
        ticket = Ticket(Masks(masks), module.state_dict())
        callbacks.append(LotteryTicket(rounds=0, ticket=ticket, dirpath=tempfile.mkdtemp()))
    trainer = pl.Trainer(
        max_steps=steps, max_epochs=1, accelerator="cpu", callbacks=callbacks, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    return clock.seconds


def import_seconds(statement: str) -> float:
    code = f"import time; t = time.process_time(); {statement}; print(time.process_time() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def report(name: str, limit: float, pairs: list[tuple[float, float]]) -> None:
    ratios = sorted(second / first for first, second in pairs)
    middle = statistics.median(ratios)
    print(
        f"{name:<48} {middle:6.3f}  ({ratios[0]:.3f} to {ratios[-1]:.3f}, {len(ratios)} pairs)"
        + (f"   asked: at most {limit}" if math.isfinite(limit) else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150, help="steps per measurement of LeNet (ResNet: a tenth)")
    parser.add_argument("--repeats", type=int, default=15, help="pairs of measurements")
    arguments = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    lenet = BatchLoader(torch.rand(60 * arguments.steps, 784), torch.randint(10, (60 * arguments.steps,)), batch_size=60)
    few = max(arguments.steps // 10, 5)
    resnet = BatchLoader(torch.rand(128 * few, 3, 32, 32), torch.randint(10, (128 * few,)), batch_size=128)
    print("ratio of CPU time per step, with LotteryTicket (density 20 %) / without, one thread")
    for name, limit, make, loader, steps in (
        ("LeNet-300-100, batch 60, fused Adam", 1.06, partial(LeNet300, FUSED_ADAM), lenet, arguments.steps),
        ("LeNet-300-100, batch 60, SGD", 1.06, partial(LeNet300, SGD), lenet, arguments.steps),
        ("ResNet-20, batch 128, SGD", 1.02, ResNet20, resnet, few),
        # not the masks' doing: MKL takes 7 times as long for the square root of a zero on some processors, and the
        # second moments of pruned weights are zeros; fused Adam does not call MKL
        ("LeNet-300-100, batch 60, Adam that calls MKL", math.inf, LeNet300, lenet, arguments.steps),
    ):
        seconds(make, loader, steps, False)  # warm-up
        pairs = []
        for repeat in range(arguments.repeats):
            order = (False, True) if repeat % 2 else (True, False)
            taken = {masked: seconds(make, loader, steps, masked) for masked in order}
            pairs.append((taken[False], taken[True]))
        report(name, limit, pairs)
    print("ratio of CPU time to import")
    plain, more = "import pytorch_lightning", "import pytorch_lightning, lottery; lottery.LotteryTicket"
    pairs = [(import_seconds(plain), import_seconds(more)) for _ in range(arguments.repeats)]
    report("pytorch_lightning and LotteryTicket / the former", 1.10, pairs)


if __name__ == "__main__":
    main()
