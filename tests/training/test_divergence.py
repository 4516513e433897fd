"""A round that ends in NaN or infinity is no finished round; the good ones stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import zoo

from lottery import LotteryTicket, Run
from lottery.cli import main
from lottery.training.divergence import DivergedError


class Glitch(pl.Callback):
    """One bad batch, in one round of this process; no state that a round would put back."""

    def __init__(self, path: Path, round: int, times: int = 1, value: float = float("nan")) -> None:
        left = [times]

        def spoil(trainer: Any, module: Any, batch: Any, i: int) -> None:
            begun = len(Run(path).rounds)
            if i == 2 and trainer.current_epoch == 1 and begun == round and left[0]:
                left[0] -= 1
                with torch.no_grad():
                    module.net[0].bias[0] = value

        self.on_train_batch_start = spoil


def fit(path: Path, *callbacks: Any, **ticket: Any) -> None:
    settings = {"keep": "all", "save_every": "1it", "seed": 5, **ticket}
    make = lambda: zoo.Net(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9))
    zoo.fit(make, LotteryTicket(2, 0.3, dirpath=path, **settings), *callbacks, max_epochs=2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("round", [0, 1, 2])
def test_a_round_that_diverged_is_not_stored_and_trained_again(round: int, value: float, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=f"round {round} diverged.*net.0.bias.*lottery retry"):
        fit(tmp_path / "again", Glitch(tmp_path / "again", round, value=value))
    assert Run(tmp_path / "again").rounds == list(range(round))
    assert Run(tmp_path / "again").status == "interrupted"
    fit(tmp_path / "again")
    fit(tmp_path / "whole")
    zoo.assert_equal(zoo.contents(tmp_path / "again"), zoo.contents(tmp_path / "whole"))


@pytest.mark.parametrize("round", [0, 1])
def test_a_round_can_be_tried_again_on_other_draws_at_once(round: int, tmp_path: Path) -> None:
    fit(tmp_path / "again", Glitch(tmp_path / "again", round, times=2), on_divergence="retry")
    run = Run(tmp_path / "again")
    assert [run.summary(n).retried is not None for n in run.rounds] == [n == round for n in range(3)]
    retried = run.summary(round).retried
    assert retried is not None and (retried.attempt, retried.learning_rate) == (2, 1.0)
    fit(tmp_path / "whole")
    different = run.weights(round)["net.0.weight"] != Run(tmp_path / "whole").weights(round)["net.0.weight"]
    assert bool(different.any())


def test_attempts_come_to_an_end(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="round 1 diverged"):
        fit(tmp_path, Glitch(tmp_path, 1, times=9), on_divergence="retry")
    assert Run(tmp_path).rounds == [0]


def test_a_command_has_a_round_tried_again_at_another_learning_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[float] = []  # not an attribute of a callback, which a round would put back
    rates = pl.Callback()
    rates.on_train_batch_start = lambda trainer, *_: seen.append(trainer.optimizers[0].param_groups[0]["lr"])
    with pytest.raises(DivergedError):
        fit(tmp_path, Glitch(tmp_path, 1))
    assert main(["retry", str(tmp_path), "--learning-rate", "0.5", "--seed", "11"]) == 0
    assert "round 1" in capsys.readouterr().out
    with pytest.raises(zoo.Killed):
        fit(tmp_path, rates, zoo.KillAt("on_train_batch_end", 4))
    fit(tmp_path, rates)
    assert set(seen[:17]) == {0.05} and set(seen[17:]) == {0.1}
    retried = Run(tmp_path).summary(1).retried
    assert retried is not None and (retried.seed, retried.learning_rate) == (11, 0.5)
    assert Run(tmp_path).summary(2).retried is None
    assert main(["retry", str(tmp_path)]) == 2
    assert "every round of" in capsys.readouterr().err


class Overflowing(zoo.Net):
    """A loss that overflows at the end, of weights that are finite."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        last = self.trainer.current_epoch == 1
        self.log("late_loss", loss.detach() * (float("inf") if last else 1.0), on_step=False, on_epoch=True)
        return loss


def test_a_loss_that_is_infinite_at_the_end_is_trouble_too(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="late_loss"):
        zoo.fit(Overflowing, LotteryTicket(1, dirpath=tmp_path), max_epochs=2)
    assert Run(tmp_path).rounds == []
