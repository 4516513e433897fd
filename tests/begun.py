"""A tiny run in numbers that every machine computes alike: of what an earlier version began, the rest comes out bit for
bit.

`python tests/begun.py` begins it anew in `tests/fixtures/begun`, and is killed in round 1.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import zoo
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lottery import LotteryTicket

BEGUN = Path(__file__).parent / "fixtures" / "begun"


class Dyadic(pl.LightningModule):
    """Weights, data and steps are small multiples of powers of two, so that no sum is ever rounded."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2))
        self.seen: list[float] = []
        drawn = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                numbers = torch.randint(-4, 5, parameter.shape, generator=drawn)
                parameter.copy_(numbers / 4)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, signs = batch
        loss = (self.net(x) * signs).mean()
        self.seen.append(loss.item())
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.5)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


def fit(dirpath: Path, *callbacks: pl.Callback, seed: int | None = None) -> None:
    """The run, from its beginning or from where it stands."""
    drawn = torch.Generator().manual_seed(1)
    x = torch.randint(-2, 3, (8, 4), generator=drawn).float()
    signs = 2.0 * torch.randint(0, 2, (8, 2), generator=drawn) - 1
    loader = DataLoader(TensorDataset(x, signs), batch_size=4, shuffle=True)
    ticket = LotteryTicket(2, 0.25, "1it", dirpath, keep="all", save_every="1it", seed=seed)
    zoo.fit(Dyadic(), ticket, *callbacks, loader=loader, max_epochs=2)


if __name__ == "__main__":
    shutil.rmtree(BEGUN, ignore_errors=True)
    try:
        fit(BEGUN, zoo.KillAt("on_train_batch_end", 5))
    except zoo.Killed:
        (BEGUN / "run.lock").unlink()
