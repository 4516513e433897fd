"""Both of Lightning's namespaces, in any order of import, each in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = [
    pytest.param(
        name,
        first,
        id=f"{name}-{'after' if first else 'before'}",
        marks=pytest.mark.skipif(
            importlib.util.find_spec(name.partition(".")[0]) is None, reason=f"{distribution} is not installed"
        ),
    )
    for name, distribution, first in (
        ("pytorch_lightning", "pytorch-lightning", True),
        ("lightning.pytorch", "lightning", True),
        ("lightning.pytorch", "lightning", False),
    )
]

PREAMBLE = """
import copy, pickle, sys
{imports}
import torch
from lottery import Run
from lottery.tasks import BatchLoader

class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(4, 2)

    def training_step(self, batch, index):
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log("val_loss", self.training_step(batch, index))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

def fit(*callbacks):
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    trainer = Trainer(
        max_epochs=2, callbacks=list(callbacks), logger=False, accelerator="cpu",
        default_root_dir=dirpath, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
    )
    torch.manual_seed(0)
    trainer.fit(Module(), BatchLoader(x, y, batch_size=4), BatchLoader(x, y, batch_size=4))
    return trainer

dirpath = sys.argv[1]
"""


def run(tmp_path: Path, *code: str) -> None:
    """Run code in a fresh process; it ends with an error where an assertion fails."""
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(code), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def preamble(namespace: str, lottery_first: bool) -> str:
    imports = [
        f"from {namespace} import Callback, LightningModule, Trainer",
        f"from {namespace}.callbacks import EarlyStopping, ModelCheckpoint",
    ]
    ours = ["from lottery import LotteryTicket"]
    ordered = ours + imports if lottery_first else imports + ours
    return PREAMBLE.replace("{imports}", "\n".join(ordered))


@pytest.mark.slow
@pytest.mark.parametrize(("namespace", "lottery_first"), CASES)
def test_a_fit_and_copies_of_its_callback_work_in_either_order_of_import(
    namespace: str, lottery_first: bool, tmp_path: Path
) -> None:
    code = """
    copies = []  # a round puts back what is the callback's, or its class's

    class Copies(Callback):
        def on_train_epoch_end(self, trainer, module):
            copies.append(copy.deepcopy(trainer.callbacks)[trainer.callbacks.index(ticket)])
            copies.append(pickle.loads(pickle.dumps(ticket)))

    def contents(path):
        run = Run(path)
        return [(run.ticket(r).masks["net.weight"], run.weights(r)["net.weight"]) for r in run.rounds]

    def settings(ticket):  # less what a Trainer attaches to every callback
        return {k: v for k, v in vars(ticket).items() if k not in ("log", "log_dict")}

    original = LotteryTicket(rounds=2, keep="all", monitor="val_loss", dirpath=f"{dirpath}/run")
    ticket = pickle.loads(pickle.dumps(copy.deepcopy(original)))
    assert settings(ticket) == settings(original)

    checkpoints = ModelCheckpoint(f"{dirpath}/best", monitor="val_loss", mode="min")
    fit(ticket, EarlyStopping("val_loss", patience=1), checkpoints, Copies())
    run = Run(f"{dirpath}/run")
    assert run.rounds == [0, 1, 2] and run.in_progress is None
    assert [run.summary(r).kept for r in run.rounds] == [8, 6, 5]
    assert checkpoints.best_model_path.startswith(f"{dirpath}/best/")

    assert len(copies) >= 6
    for number, made in enumerate(copies[-2:]):  # they start without a fit
        assert type(made) is LotteryTicket and settings(made) == settings(original)
        made.dirpath = f"{dirpath}/{number}"
        fit(made, EarlyStopping("val_loss", patience=1))
        for left, right in zip(contents(run.path), contents(made.dirpath), strict=True):
            assert torch.equal(left[0], right[0]) and torch.equal(left[1], right[1])
    """
    run(tmp_path, preamble(namespace, lottery_first), textwrap.dedent(code))


def test_importing_lottery_loads_nothing_heavy(tmp_path: Path) -> None:
    code = """
    import sys

    def loaded(*names):
        return {*names} & {name.partition(".")[0] for name in sys.modules}

    lightning = "lightning", "pytorch_lightning", "lightning_fabric", "torchmetrics"
    drawing = "pandas", "matplotlib", "sklearn"

    import lottery, lottery.cli
    assert not loaded("torch", *lightning, *drawing)
    lottery.Run, lottery.Ticket, lottery.Masks, lottery.Pruning, lottery.Rewind
    assert not loaded(*lightning, *drawing)
    """
    run(tmp_path, textwrap.dedent(code))
