"""The contract, as equalities: what a fit with LotteryTicket has in common with fits without it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import zoo
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn

from lottery import LotteryTicket, Pruning, Run, Ticket
from lottery.foundations import streams
from lottery.masks.masks import Masks


def end_state(trainer: pl.Trainer) -> dict[str, Any]:
    module = trainer.lightning_module
    return {
        "weights": module.state_dict(),
        "optimizers": [o.state_dict() for o in trainer.optimizers],
        "schedulers": [c.scheduler.state_dict()["last_epoch"] for c in trainer.lr_scheduler_configs],
        "metrics": dict(trainer.callback_metrics),
        "steps": trainer.global_step,
        "epochs": trainer.current_epoch,
        "streams": streams.capture(),
    }


class Masked(pl.Callback):
    """An independent enforcement for reference fits: starts from given weights, on given streams."""

    def __init__(self, weights: dict[str, Tensor], masks: Masks, seed: int | None = None) -> None:
        self.weights, self.masks, self.seed = weights, masks, seed

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        module.load_state_dict(self.weights)
        self.apply(module)
        for optimizer in trainer.optimizers:
            optimizer.register_step_post_hook(lambda *_: self.apply(module))

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.seed is not None:
            streams.seed(self.seed)

    def apply(self, module: nn.Module) -> None:
        parameters = dict(module.named_parameters())
        with torch.no_grad():
            for name, mask in self.masks.items():
                parameters[name][~mask] = 0.0

    def on_after_backward(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        for name, parameter in module.named_parameters():
            if name in self.masks and parameter.grad is not None:
                gradient = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
                mask = self.masks[name]
                parameter.grad = (gradient * mask).to_sparse(1) if parameter.grad.is_sparse else gradient * mask


def assert_rounds_equal_plain_fits(
    dirpath: Any,
    make: Callable[[], Any],
    callbacks: Callable[[], list[Any]],
    loader: Callable[[], Any],
    **settings: Any,
) -> None:
    """Law 2: every round equals a plain fit from the rewind point with that round's mask."""
    run = Run(dirpath)
    assert run.rounds == [0, 1, 2]
    for round in run.rounds:
        data = loader()
        if hasattr(data, "set_round"):
            data.set_round(round)
        seed = streams.derive(run.info.seed, "round", round) if round else None
        ticket = run.ticket(round)
        plain = zoo.fit(make, Masked(dict(ticket.weights), ticket.masks, seed), *callbacks(), loader=data, **settings)
        zoo.assert_equal(plain.lightning_module.state_dict(), run.weights(round), f"round {round}")


@pytest.mark.parametrize("feature", zoo.FEATURES)
def test_rounds_0_changes_nothing(feature: str, tmp_path: Any) -> None:
    settings, callbacks = zoo.FEATURES[feature]
    plain = end_state(zoo.fit(zoo.Net, *callbacks(), loader=zoo.shuffled_loader(), **settings))
    ticket = LotteryTicket(rounds=0, dirpath=tmp_path)
    zoo.assert_equal(end_state(zoo.fit(zoo.Net, ticket, *callbacks(), loader=zoo.shuffled_loader(), **settings)), plain)


@pytest.mark.parametrize("kind", zoo.ANY_MODULE)
def test_rounds_0_changes_nothing_for_any_module(kind: str, tmp_path: Any) -> None:
    make = zoo.ANY_MODULE[kind]
    plain = end_state(zoo.fit(make, loader=zoo.shuffled_loader(), max_epochs=2))
    found = end_state(
        zoo.fit(make, LotteryTicket(rounds=0, dirpath=tmp_path), loader=zoo.shuffled_loader(), max_epochs=2)
    )
    zoo.assert_equal(found, plain)


@pytest.mark.parametrize("feature", zoo.FEATURES)
def test_a_round_equals_a_plain_fit_from_the_rewind_point(feature: str, tmp_path: Any) -> None:
    settings, callbacks = zoo.FEATURES[feature]
    zoo.fit(zoo.Net, LotteryTicket(rounds=2, pruning=0.3, dirpath=tmp_path, keep="all"), *callbacks(), **settings)
    assert_rounds_equal_plain_fits(tmp_path, zoo.Net, callbacks, zoo.ordered_loader, **settings)


@pytest.mark.parametrize("scheduler", zoo.SCHEDULERS)
@pytest.mark.parametrize("optimizer", zoo.OPTIMIZERS)
def test_a_round_equals_a_plain_fit_with_any_schedule(optimizer: str, scheduler: str, tmp_path: Any) -> None:
    def make() -> zoo.Net:
        return zoo.Net(zoo.OPTIMIZERS[optimizer], zoo.SCHEDULERS[scheduler])

    zoo.fit(make, LotteryTicket(rounds=2, pruning=0.3, dirpath=tmp_path, keep="all"), max_epochs=3)
    assert_rounds_equal_plain_fits(tmp_path, make, list, zoo.ordered_loader, max_epochs=3)


@pytest.mark.parametrize("kind", zoo.ANY_MODULE)
def test_a_round_equals_a_plain_fit_for_any_module(kind: str, tmp_path: Any) -> None:
    make = zoo.ANY_MODULE[kind]
    pruning = Pruning(0.3, scope="layerwise")
    ticket = LotteryTicket(2, pruning, dirpath=tmp_path, keep="all")
    zoo.fit(make, ticket, max_epochs=2)
    assert_rounds_equal_plain_fits(tmp_path, make, list, zoo.ordered_loader, max_epochs=2)


def test_a_round_on_endless_data_equals_a_plain_fit(tmp_path: Any) -> None:
    settings = {"max_epochs": -1, "max_steps": 15, "val_check_interval": 5}
    ticket = LotteryTicket(rounds=2, pruning=0.3, dirpath=tmp_path, keep="all")
    make = functools.partial(zoo.Net, dropout=0.0)  # DataLoaders move the global streams
    zoo.fit(make, ticket, loader=zoo.endless_loader(), **settings)
    assert_rounds_equal_plain_fits(tmp_path, make, list, zoo.endless_loader, **settings)


class Notes(pl.Callback):
    """Notes, over all rounds, an epoch's training losses and the metrics that Lightning knows at its end."""

    def __init__(self, notes: list[tuple[list[float], dict[str, float]]]) -> None:
        self.losses: list[float] = []

        def note(trainer: Any, module: Any) -> None:
            metrics = {n: float(v) for n, v in trainer.callback_metrics.items()}
            notes.append((self.losses, metrics))

        self.on_train_epoch_end = note  # type: ignore[method-assign]

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.losses = []

    def on_train_batch_end(self, trainer: Any, module: Any, out: Any, *_: Any) -> None:
        self.losses = [*self.losses, float(out["loss"])]


@pytest.mark.parametrize("rewind", ["5it", "11it"])
def test_an_epoch_that_a_round_enters_counts_whole(rewind: str, tmp_path: Any) -> None:
    """As in a plain fit, what comes before the rewind point has a part in the epoch's mean."""
    notes: list[Any] = []
    ticket = LotteryTicket(rounds=2, dirpath=tmp_path, rewind=rewind)
    zoo.fit(zoo.Net, ticket, Notes(notes), max_epochs=2)
    assert len(notes) == (6 if rewind == "5it" else 4)
    for losses, metrics in notes:
        assert len(losses) == 8
        mean = sum(losses) / len(losses)
        assert metrics["train_loss_epoch"] == pytest.approx(mean, rel=1e-5)


def test_a_round_knows_the_metrics_that_were_there_at_the_rewind_point(tmp_path: Any) -> None:
    """As schedules and callbacks do in a plain fit that validates every other epoch."""
    notes: list[Any] = []
    ticket = LotteryTicket(rounds=1, dirpath=tmp_path, rewind="2ep")
    settings = {"max_epochs": 4, "check_val_every_n_epoch": 2}
    zoo.fit(zoo.Net, ticket, Notes(notes), **settings)
    losses = [metrics.get("val_loss") for _, metrics in notes]
    assert losses[0] is None and len(losses) == 6
    assert losses[1] == losses[2] == losses[4] and losses[5] != losses[4]
    # what a round has not logged itself is no record of it
    assert [row for row in Run(tmp_path).records(1) if row.get("val_loss") == losses[1]] == []


def bare_rounds(
    net: nn.Module, optimizer_of: Callable[..., Any], rounds: int, epochs: int, rewind: int, amount: float, seed: int
) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Iterative magnitude pruning in bare PyTorch: masks and trained weights of every round."""
    optimizer = optimizer_of(net.parameters())
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97)
    names = [n for n, p in net.named_parameters() if p.ndim == 2]
    parameters = dict(net.named_parameters())
    masks = {n: torch.ones_like(parameters[n], dtype=torch.bool) for n in names}
    start: Any = None
    results = []
    for round in range(rounds + 1):
        if round:
            ranked = sorted(
                (abs(float(w)), i, n, j)
                for i, n in enumerate(names)
                for j, w in enumerate(parameters[n].detach().flatten())
                if masks[n].flatten()[j]
            )
            for _, _, name, position in ranked[: builtins_round(amount * len(ranked))]:
                masks[name].view(-1)[position] = False
            net.load_state_dict(start[0])
            optimizer.load_state_dict(copy.deepcopy(start[1]))
            scheduler.load_state_dict(start[2])
            streams.seed(streams.derive(seed, "round", round))
            with torch.no_grad():
                for name, mask in masks.items():
                    parameters[name].mul_(mask)
        step = 0
        for epoch in range(epochs):
            loader = zoo.ordered_loader()
            # the epoch that the rewind point cuts is finished in the order of round 0
            cut = rewind > 0 and epoch == rewind // len(loader) and rewind % len(loader)
            loader.set_round(0 if cut else round)
            loader.sampler.set_epoch(epoch)
            for x, y in loader:
                if round == 0 and step == rewind:
                    start = copy.deepcopy([net.state_dict(), optimizer.state_dict(), scheduler.state_dict()])
                if round == 0 or step >= rewind:
                    optimizer.zero_grad()
                    F.cross_entropy(net(x), y).backward()
                    for name, mask in masks.items():
                        parameters[name].grad.mul_(mask)
                    nn.utils.clip_grad_norm_(net.parameters(), 0.5)
                    optimizer.step()
                    with torch.no_grad():
                        for name, mask in masks.items():
                            parameters[name].mul_(mask)
                    scheduler.step()
                step += 1
        results.append(copy.deepcopy((masks, net.state_dict())))
    return results


builtins_round = round


@pytest.mark.parametrize("rewind", ["init", "3it", "1ep", "11it", "1ep5it"])
@pytest.mark.parametrize("optimizer", zoo.OPTIMIZERS)
def test_rounds_equal_a_bare_pytorch_loop(optimizer: str, rewind: str, tmp_path: Any) -> None:
    steps = {"init": 0, "3it": 3, "1ep": 8, "11it": 11, "1ep5it": 13}[rewind]

    def make() -> zoo.Net:
        return zoo.Net(zoo.OPTIMIZERS[optimizer], zoo.per_step)

    ticket = LotteryTicket(rounds=3, pruning=0.2, rewind=rewind, dirpath=tmp_path, keep="all")
    zoo.fit(make, ticket, max_epochs=3, gradient_clip_val=0.5)
    run = Run(tmp_path)
    pl.seed_everything(1, verbose=False)
    expected = bare_rounds(make().net, zoo.OPTIMIZERS[optimizer], 3, 3, steps, 0.2, run.info.seed)
    for round, (masks, weights) in enumerate(expected):
        zoo.assert_equal({f"net.{n}": m for n, m in masks.items()}, dict(run.ticket(round).masks), f"masks {round}")
        zoo.assert_equal({f"net.{n}": w for n, w in weights.items()}, run.weights(round), f"weights {round}")


def test_a_module_is_never_touched(tmp_path: Any) -> None:
    module = zoo.Net()
    keys, kind, names = (list(module.state_dict()), type(module), [n for n, _ in module.named_parameters()])
    identities = [id(p) for p in module.parameters()]
    checkpoints = ModelCheckpoint(dirpath=tmp_path / "ckpts", save_top_k=-1)
    zoo.fit(module, LotteryTicket(rounds=2, dirpath=tmp_path / "run"), checkpoints, max_epochs=2)
    assert (list(module.state_dict()), type(module)) == (keys, kind)
    assert [n for n, _ in module.named_parameters()] == names
    assert [id(p) for p in module.parameters()] == identities
    written = [*(tmp_path / "ckpts").rglob("*.ckpt"), tmp_path / "run" / "rewind.ckpt"]
    assert len(written) == 7
    for path in written:
        zoo.Net().load_state_dict(torch.load(path, weights_only=True)["state_dict"])


def test_checkpoint_files_of_different_rounds_never_mix(tmp_path: Any) -> None:
    checkpoints = ModelCheckpoint(dirpath=tmp_path / "ckpts", monitor="val_loss", save_top_k=1, filename="{epoch}")
    zoo.fit(zoo.Net, LotteryTicket(rounds=2, dirpath=tmp_path / "run", keep="all"), checkpoints, max_epochs=2)
    files = sorted(str(p.relative_to(tmp_path / "ckpts")) for p in (tmp_path / "ckpts").rglob("*.ckpt"))
    assert [f.rpartition("/")[0] for f in files] == ["", "round-01", "round-02"]
    ticket = Run(tmp_path / "run").ticket(2)
    best = torch.load(checkpoints.best_model_path, weights_only=True)["state_dict"]
    assert all((best[name][~mask] == 0).all() for name, mask in ticket.masks.items())


def test_early_stopping_starts_every_round_anew(tmp_path: Any) -> None:
    stopper = EarlyStopping("val_loss", patience=0, min_delta=0.05)
    zoo.fit(zoo.Net, LotteryTicket(rounds=3, dirpath=tmp_path), stopper, max_epochs=8)
    epochs = [Run(tmp_path).summary(r).epochs for r in Run(tmp_path).rounds]
    assert len(epochs) == 4 and all(1 < e < 8 for e in epochs)


def test_a_given_ticket_is_trained_as_it_is(tmp_path: Any) -> None:
    zoo.fit(zoo.Net, LotteryTicket(rounds=2, pruning=0.4, dirpath=tmp_path / "a", keep="all"), max_epochs=2)
    Run(tmp_path / "a").ticket(2).save(tmp_path / "two.ticket")
    ticket = Ticket.load(tmp_path / "two.ticket")
    zoo.fit(zoo.Net, LotteryTicket(rounds=2, pruning=0.5, ticket=ticket, dirpath=tmp_path / "b"), seed=7, max_epochs=2)
    run = Run(tmp_path / "b")
    assert run.ticket(0).masks == ticket.masks
    assert [run.ticket(r).masks.kept for r in run.rounds] == [86, 43, 21]
    assert run.ticket(2).masks.nested_in(ticket.masks)
    masked = {n: t * ticket.masks[n] if n in ticket.masks else t for n, t in ticket.weights.items()}
    zoo.assert_equal(run.weights("initial"), masked)
