"""Scores from data are those of the loss that the module trains on: masks against loops written by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import zoo
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from lottery import LotteryTicket, Masks, Pruning
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.scores import Context, compute
from lottery.training import decision

BATCHES, BLOCK, DAMPING = 3, 8, 1e-3
SCORES = {
    **{name: {} for name in ("snip", "grasp", "taylor", "taylor_channel", "fisher", "wanda")},
    "obd": {},
    "obs": {"block": BLOCK, "damping": DAMPING},
}


def loader() -> DataLoader:
    """Three batches, in their order."""
    x, y = zoo.data(24)
    return DataLoader(TensorDataset(x.double(), y), batch_size=8)


class Small(zoo.Net):
    """In double precision, so that nothing hangs on rounding."""

    outputs = 3

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(zoo.INPUTS, 4), nn.Tanh(), nn.Linear(4, self.outputs)).double()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])


class Weighted(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        weight = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)
        return F.cross_entropy(self(batch[0]), batch[1], weight=weight)


class Smoothed(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1], label_smoothing=0.3)


class Regression(Small):
    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        x, y = batch
        return {"loss": F.mse_loss(self(x), F.one_hot(y, 3).double())}


class OneLogit(Small):
    outputs = 1

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.binary_cross_entropy_with_logits(self(batch[0])[:, 0], (batch[1] > 0).double())


class Probabilities(Small):
    """Its forward gives no logits."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).softmax(1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.nll_loss(self(batch[0]).log(), batch[1])


class TwoTerms(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        hidden = self.net[:2](x)
        return F.cross_entropy(self.net[2](hidden), y) + 0.5 * hidden.abs().mean()


class Contrastive(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        one, other = (F.normalize(self(x), dim=1) for x in (batch[0], batch[0].flip(1)))
        return F.cross_entropy(one @ other.T / 0.5, torch.arange(len(one)))


class Language(Small):
    """The next token of each."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5)).double()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        tokens = batch[0].mul(2).long().clamp(-2, 2) + 2
        return F.cross_entropy(self(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


QUICK = [Small, Weighted, Regression, TwoTerms, Language]
LOSSES = [*QUICK, *(pytest.param(m, marks=pytest.mark.slow) for m in (Smoothed, OneLogit, Probabilities, Contrastive))]


class ByHand:
    """Each score of a module's training step, in loops over batches, samples and weights; one vector."""

    def __init__(self, module: Any, batches: list[Any]) -> None:
        self.module, self.batches = module.eval(), batches
        self.parameters = list(prunable_parameters(module).values())
        self.theta = torch.cat([p.detach().flatten() for p in self.parameters])

    def loss(self, batch: Any) -> Tensor:
        found = self.module.training_step(batch, 0)
        return found["loss"] if isinstance(found, dict) else found

    def cooled(self, batch: Any) -> Tensor:
        if type(self.module) is not Small:
            return self.loss(batch)
        return F.cross_entropy(self.module(batch[0]) / 200, batch[1])

    def gradient(self, loss: Tensor, graph: bool = False) -> Tensor:
        found = torch.autograd.grad(loss, self.parameters, create_graph=graph, materialize_grads=True)
        return torch.cat([g.flatten() for g in found])

    def samples(self) -> Tensor:
        singles = [(x[i : i + 1], y[i : i + 1]) for x, y in self.batches for i in range(len(x))]
        return torch.stack([self.gradient(self.loss(single)) for single in singles])

    def by_parameter(self, vector: Tensor) -> list[Tensor]:
        parts = vector.split([p.numel() for p in self.parameters])
        return [part.reshape(p.shape) for part, p in zip(parts, self.parameters, strict=True)]

    def snip(self) -> Tensor:
        return (self.theta * sum(self.gradient(self.loss(b)) for b in self.batches)).abs()

    def grasp(self) -> Tensor:
        g = sum(self.gradient(self.cooled(b)) for b in self.batches)
        bent = [self.gradient(g @ self.gradient(self.cooled(b), graph=True)) for b in self.batches]
        return self.theta * sum(bent)

    def taylor(self) -> Tensor:
        return sum((self.theta * self.gradient(self.loss(b))).square() for b in self.batches)  # type: ignore[return-value]

    def taylor_channel(self) -> Tensor:
        total = torch.zeros_like(self.theta)
        for batch in self.batches:
            for whole, change in zip(
                self.by_parameter(total), self.by_parameter(self.theta * self.gradient(self.loss(batch))), strict=True
            ):
                whole += change.sum(1, keepdim=True).square()
        return total

    def fisher(self) -> Tensor:
        return self.theta.square() * self.samples().square().mean(0) / 2

    def obd(self) -> Tensor:
        diagonal = torch.zeros_like(self.theta)
        for batch in self.batches:
            g = self.gradient(self.loss(batch), graph=True)
            for i, entry in enumerate(g):
                row = torch.autograd.grad(entry, self.parameters, retain_graph=True, materialize_grads=True)
                diagonal[i] += torch.cat([r.flatten() for r in row])[i]
        return self.theta.square() * diagonal / len(self.batches) / 2

    def obs(self) -> Tensor:
        found, samples, start = torch.empty_like(self.theta), self.samples(), 0
        for parameter in self.parameters:
            for block in torch.arange(start, start + parameter.numel()).split(BLOCK):
                rows = samples[:, block]
                whole = rows.T @ rows / len(rows) + DAMPING * torch.eye(len(block)).double()
                found[block] = self.theta[block].square() / (2 * torch.linalg.inv(whole).diagonal())
            start += parameter.numel()
        return found

    def wanda(self) -> Tensor:
        met = {id(p): torch.zeros(p.shape[1]).double() for p in self.parameters}

        def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if isinstance(layer, nn.Linear):
                met[id(layer.weight)] += inputs[0].detach().square().sum(0)

        handle = register_module_forward_pre_hook(note)
        for batch in self.batches:
            self.loss(batch)
        handle.remove()
        return torch.cat([(p.detach().abs() * met[id(p)].sqrt()).flatten() for p in self.parameters])

    def masks(self, name: str) -> list[Tensor]:
        """Half of the weights go, in each row for Wanda; the first among equals."""
        scores = getattr(self, name)()
        pools = (
            [r for part in self.by_parameter(torch.arange(len(scores))) for r in part]
            if name == "wanda"
            else [torch.arange(len(scores))]
        )
        kept = torch.ones(len(scores), dtype=torch.bool)
        for pool in pools:
            kept[pool[scores[pool].argsort(stable=True)[: round(len(pool) / 2)]]] = False
        return self.by_parameter(kept)


class Compare(pl.Callback):
    """Makes every decision at the end of round 0, beside those by hand."""

    def __init__(self, ticket: LotteryTicket, batches: list[Any]) -> None:
        self.ticket, self.batches = ticket, batches
        self.found: dict[str, tuple[Masks, list[Tensor]]] = {}

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        weights = {k: v.clone() for k, v in module.state_dict().items()}
        masks = Masks.ones(prunable_parameters(module))
        for name, settings in SCORES.items():
            if name == "wanda" and isinstance(module, Language):
                continue  # of linear layers alone
            score = {"name": name, "batches": BATCHES, **settings}
            pruning, fit = Pruning(0.5, score=score, collapse="warn"), self.ticket._fit
            made = decision.next_masks(
                pruning, fit, masks, 1, weights=weights, initial=weights, accumulated=None, seed=0
            )
            self.found[name] = made, ByHand(module, self.batches).masks(name)


@pytest.mark.filterwarnings("ignore:.*is equal for many weights")  # a contrastive loss of one sample is zero
@pytest.mark.parametrize("make", LOSSES)
def test_masks_are_those_of_a_loop_over_the_modules_own_loss(make: Callable[[], Small], tmp_path: Path) -> None:
    ticket = LotteryTicket(0, dirpath=tmp_path)
    compare = Compare(ticket, list(loader()))
    zoo.fit(make, ticket, compare, loader=loader(), max_epochs=1, limit_val_batches=0)
    assert len(compare.found) >= 7
    for name, (masks, expected) in compare.found.items():
        for mask, own in zip(masks.values(), expected, strict=True):
            assert torch.equal(mask, own), name


def leaves_out(module: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1], ignore_index=255)


def weighs(module: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1], weight=torch.tensor([0.2, 1.0, 5.0]).double())


def shows_late(module: nn.Module, batch: Any) -> Tensor:
    penalty = module.net[0].weight.square().sum() * (batch[1] == 0).any()  # type: ignore[union-attr, index]
    return F.cross_entropy(module(batch[0]), batch[1]) + penalty


def changes_its_batch(module: nn.Module, batch: Any) -> Tensor:
    loss = F.cross_entropy(module(batch[0].mul_(0.5)), batch[1], label_smoothing=0.1)
    batch.pop()
    return loss


@pytest.mark.parametrize("loss", [leaves_out, weighs, shows_late, changes_its_batch])
def test_grasp_takes_the_loss_itself_whatever_its_batches_show(loss: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    net, x, y = Small(), torch.randn(9, zoo.INPUTS).double(), torch.arange(9) % 3
    batches = [[x[y == k], y[y == k]] for k in (1, 2, 0)]  # of one class each, on which weights of classes have no say

    def own(module: nn.Module, batch: Any) -> Tensor:
        return loss(module, [part.clone() for part in batch])

    masks = Masks.ones(prunable_parameters(net))
    found, expected = (
        compute({"name": "grasp", "batches": 3, **settings}, Context(net, masks, batches=lambda: batches, loss=taken))
        for taken, settings in ((loss, {}), (own, {"temperature": 1}))
    )
    assert all(len(batch) == 2 for batch in batches)
    assert any(score.any() for score in expected.values())
    torch.testing.assert_close(found, expected)


class Checkpointed(Small):
    """Computes its first part once more in the backward pass."""

    reentrant: ClassVar[bool] = False

    def forward(self, x: Tensor) -> Tensor:
        hidden = checkpoint(self.net[:2], x.clone().requires_grad_(), use_reentrant=self.reentrant)
        return self.net[2](hidden)


class Reentrant(Checkpointed):
    reentrant = True


@pytest.mark.parametrize("name", ["snip", "grasp", "obd", "fisher", "synflow"])
def test_checkpoints_change_no_score_or_are_refused_by_name(name: str) -> None:
    torch.manual_seed(0)
    plain, twin, other = Small(), Checkpointed(), Reentrant()
    x, y = zoo.data(8)

    def scores(module: Small) -> dict[str, Tensor]:
        module.load_state_dict(plain.state_dict())
        masks = Masks.ones(prunable_parameters(module))
        return compute(name, Context(module, masks, batches=lambda: [(x.double(), y)], example_input=x.double()))

    torch.testing.assert_close(scores(twin), scores(plain))
    with pytest.raises(ValueError, match="use_reentrant=True gives gradients to backward"):
        scores(other)


class Attending(Small):
    """Attention of torch, whose fast forms have no second derivative."""

    def __init__(self, own: bool = False) -> None:
        super().__init__()
        self.own = own
        self.q, self.k, self.v = (nn.Linear(3, 4).double() for _ in range(3))
        self.net = nn.Linear(16, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(len(x), 1, 4, 3)
        q, k, v = self.q(x), self.k(x), self.v(x)
        weights = (q @ k.mT / 2).softmax(-1) if self.own else None
        mixed = F.scaled_dot_product_attention(q, k, v) if weights is None else weights @ v
        return self.net(mixed.flatten(1))


@pytest.mark.parametrize("name", ["grasp", "obd"])
def test_second_derivatives_of_attention_are_those_of_its_formula(name: str) -> None:
    x, y = zoo.data(8)
    torch.manual_seed(0)
    fused, formula = Attending(), Attending(own=True)
    formula.load_state_dict(fused.state_dict())
    found, expected = (
        compute(name, Context(m, Masks.ones(prunable_parameters(m)), batches=lambda: [(x.double(), y)]))
        for m in (fused, formula)
    )
    torch.testing.assert_close(found, expected)


class Penalised(Small):
    """Its step takes a gradient of its own, and a head of its own that no loss of evaluation sees."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(4, 3).double()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x = batch[0].clone().requires_grad_()
        hidden = self.net[:2](x)
        out = self.net[2](hidden)
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        loss = F.cross_entropy(out, batch[1]) + slope.square().mean()
        return loss + F.cross_entropy(self.spare(hidden), batch[1]) if self.training else loss


class LeavesOut(Small):
    """Gives no loss for some batches, which Lightning then does not train on."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:  # type: ignore[override]
        return None if len(batch[1]) > 1 and batch[1][0] == 0 else super().training_step(batch, batch_idx)


def test_a_batch_that_the_step_leaves_out_adds_nothing(tmp_path: Path) -> None:
    ticket, batches = LotteryTicket(0, dirpath=tmp_path), list(loader())
    taken = [batch for batch in batches if batch[1][0] != 0]
    assert 0 < len(taken) < len(batches)
    compare = Compare(ticket, taken)
    zoo.fit(LeavesOut, ticket, compare, loader=loader(), max_epochs=1, limit_val_batches=0)
    for name in ("snip", "grasp", "taylor", "taylor_channel"):
        masks, expected = compare.found[name]
        assert all(torch.equal(mask, own) for mask, own in zip(masks.values(), expected, strict=True)), name


@pytest.mark.parametrize("name", ["snip", "obd"])
def test_a_head_of_training_mode_alone_scores_zero_and_is_named(name: str, tmp_path: Path) -> None:
    ticket = LotteryTicket(1, Pruning(densities=[0.5], score=name), dirpath=tmp_path)
    with pytest.warns(UserWarning, match=f"'{name}' is equal for all weights of spare.weight, and the mask of round 1"):
        zoo.fit(Penalised, ticket, loader=loader(), max_epochs=1, limit_val_batches=0, limit_train_batches=1)


class Remembers(Small):
    """Keeps its last outputs, and holds on to the last of them."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs_of: dict[str, list[Tensor]] = {"train": []}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        out = self(batch[0])
        near = (out - self.last[:1]).square().mean() if hasattr(self, "last") else 0
        self.last = out.detach()
        self.outputs_of["train"].append(self.last)
        return F.cross_entropy(out, batch[1]) + near + sum(kept.mean() for kept in self.outputs_of["train"])


@pytest.mark.parametrize("name", ["fisher", "obs"])
def test_scores_of_single_samples_leave_nothing_of_their_passes_in_a_module(name: str) -> None:
    net, (x, y) = Remembers(), zoo.data(8)
    masks = Masks.ones(prunable_parameters(net))
    batches = [(x.double(), y)] * 2
    scored = Context(net, masks, batches=lambda: batches, loss=lambda module, batch: module.training_step(batch, 0))
    plain = Context(Small(), masks, batches=lambda: batches)
    plain.module.load_state_dict(net.state_dict())
    torch.testing.assert_close(compute(name, scored), compute(name, plain))
    assert not hasattr(net, "last")
    assert net.outputs_of == {"train": []}
    net.training_step(batches[0], 0).backward()


def test_wanda_goes_through_a_step_that_takes_gradients() -> None:
    net, (x, y) = Penalised(), zoo.data(8)
    masks = Masks.ones({n: p for n, p in prunable_parameters(net).items() if n != "spare.weight"})
    scored = Context(
        net, masks, batches=lambda: [(x.double(), y)], loss=lambda module, batch: module.training_step(batch, 0)
    )
    expected = net.net[0].weight.detach().abs() * x.double().norm(dim=0)
    torch.testing.assert_close(compute("wanda", scored)["net.0.weight"], expected)
