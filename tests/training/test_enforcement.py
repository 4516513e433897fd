"""Law 5: a pruned weight is zero after every step, in every evaluation and in every file, or the fit stops by name."""

from __future__ import annotations

import collections
import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning import callbacks as lightning
from pytorch_lightning.callbacks import ModelCheckpoint, StochasticWeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from lottery import LotteryTicket, Masks, Pruning, Run
from lottery.training.copies import Copies
from lottery.training.enforcement import Enforcement, RegrowthError, regrown

# optimizers, with masks at work on a small net


class Slow(torch.optim.Optimizer):
    """Lookahead as it is often written: `step` is not hooked, and slow weights are lists beside the groups."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.param_groups, self.state = optimizer.param_groups, optimizer.state
        self.defaults = optimizer.defaults
        self.slow = [[p.detach().clone() for p in g["params"]] for g in self.param_groups]
        self.count = 0

    def step(self, closure: Any = None) -> Any:
        loss = self.optimizer.step(closure)
        self.count += 1
        if self.count % 2 == 0:
            for group, slow in zip(self.param_groups, self.slow, strict=True):
                for p, q in zip(group["params"], slow, strict=True):
                    q.add_(p.detach() - q, alpha=0.5)
                    p.data.copy_(q)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"inner": self.optimizer.state_dict(), "slow": self.slow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["inner"])
        self.slow = state["slow"]


class ScheduleFree(torch.optim.Optimizer):
    """Keeps a copy of the weights in its state, which it moves, and moves the weights towards it."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["z"] = p.detach().clone()

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    z = self.state[p]["z"].add_(p.grad, alpha=-group["lr"])
                    p.lerp_(z, 0.3)
        return loss


class Mixing(torch.optim.Optimizer):
    """Moves every weight by what all weights of its matrix learn, as second-order optimizers do."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad.mean() + p.grad, alpha=-group["lr"])
        return loss


def matrices(parameters: Any) -> list[Tensor]:
    return [p for p in parameters if p.ndim == 2]


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    **{
        kind.__name__: lambda p, kind=kind: kind(p, lr=0.05)
        for kind in (
            *(torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW),
            *(torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.Adadelta),
            *(torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam),
            *(torch.optim.Rprop, torch.optim.ASGD),
        )
    },
    **{
        name: lambda p, name=name: getattr(torch.optim, name)(matrices(p), lr=0.05)
        for name in ("Adafactor", "Muon")
        if hasattr(torch.optim, name)
    },
    "SGD with momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "Adam without eps": lambda p: torch.optim.Adam(p, lr=0.05, eps=0.0),
    "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=3),
    "LBFGS with a search": lambda p: torch.optim.LBFGS(p, max_iter=3, line_search_fn="strong_wolfe"),
    "Lookahead": lambda p: Slow(torch.optim.Adam(p, lr=0.05)),
    "schedule-free": ScheduleFree,
    "mixing": Mixing,
}


def net_and_masks(seed: int = 0, density: float = 0.5) -> tuple[nn.Module, Masks]:
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    masks = Masks(
        {name: torch.rand(p.shape, generator=generator) < density for name, p in net.named_parameters() if p.ndim == 2}
    )
    return net, masks


def assert_zero(net: nn.Module, masks: Masks) -> None:
    parameters = dict(net.named_parameters())
    alive = {n: int((parameters[n][~m] != 0).sum()) for n, m in masks.items()}
    assert not any(alive.values()), alive


def noisy_gradients(net: nn.Module) -> Tensor:
    net.zero_grad()
    loss = net(torch.randn(6, 4)).square().mean()
    loss.backward()
    for p in net.parameters():
        assert p.grad is not None
        p.grad.add_(torch.randn_like(p.grad))
    return loss


@pytest.mark.parametrize("closure", [True, False])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_no_optimizer_moves_a_pruned_weight(kind: str, closure: bool) -> None:
    if kind.startswith("LBFGS") and not closure:
        pytest.skip("LBFGS steps with a closure only")
    net, masks = net_and_masks()
    optimizer = OPTIMIZERS[kind](net.parameters())
    for _ in range(3):  # state in which pruned weights are not zero
        optimizer.step(lambda: noisy_gradients(net))
    before = vars(optimizer).get("step")
    with Enforcement(masks, dict(net.named_parameters()), [optimizer]):
        for _ in range(6):
            if closure:
                optimizer.step(lambda: noisy_gradients(net))
            else:
                noisy_gradients(net)
                optimizer.step()
            assert_zero(net, masks)
    assert vars(optimizer).get("step") is before
    kept = {n: p.detach().clone() for n, p in net.named_parameters()}
    for _ in range(2):
        optimizer.step(lambda: noisy_gradients(net))
    after = dict(net.named_parameters())
    assert any((after[n] != kept[n])[~m].any() for n, m in masks.items())


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["SGD", "Adam", "AdamW"]),
    decay=st.sampled_from([0.0, 0.1]),
    flags=st.sets(st.sampled_from(["nesterov", "amsgrad", "maximize"])),
    how=st.sampled_from(["", "foreach", "fused"]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    density=st.floats(0.0, 1.0),
    seed=st.integers(0, 1000),
)
def test_what_moves_weights_one_by_one_keeps_zeros(
    kind: str, decay: float, flags: set[str], how: str, dtype: torch.dtype, density: float, seed: int
) -> None:
    net, masks = net_and_masks(seed, density)
    net.to(dtype)
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": decay}
    taken = {"SGD": {"nesterov", "maximize"}}.get(kind, {"amsgrad", "maximize"})
    options |= dict.fromkeys(flags & taken, True)
    if kind == "SGD":
        options["momentum"] = 0.9
    if how:
        options[how] = True
    optimizer = getattr(torch.optim, kind)(net.parameters(), **options)
    with Enforcement(masks, dict(net.named_parameters()), [optimizer]):
        for _ in range(3):
            net.zero_grad()
            net(torch.randn(6, 4, dtype=dtype)).float().square().mean().backward()
            optimizer.step()
            assert_zero(net, masks)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_training_that_diverges_leaves_pruned_weights_at_zero(value: float) -> None:
    net, masks = net_and_masks()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    with Enforcement(masks, dict(net.named_parameters()), [optimizer]):
        for p in net.parameters():
            p.grad = torch.full_like(p, value)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    assert_zero(net, masks)
    assert not torch.stack([p.isfinite().all() for p in net.parameters()]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.complex64, torch.complex128])
def test_weights_of_any_width_are_masked(dtype: torch.dtype) -> None:
    weight = nn.Parameter(torch.ones(3, 4, dtype=dtype).t())
    mask = torch.rand(4, 3) < 0.5
    weight.grad = torch.full_like(weight, 2.0)
    with Enforcement(Masks({"w": mask}), {"w": weight}, []) as enforcement:
        enforcement.mask_gradients()
    assert torch.equal(weight.detach(), mask.to(dtype))
    assert torch.equal(weight.grad, mask.to(dtype) * 2)


def test_optimizers_of_other_networks_are_left_alone() -> None:
    net, masks = net_and_masks()
    other = nn.Linear(2, 2)
    optimizer = torch.optim.RMSprop(other.parameters(), lr=0.1)
    with Enforcement(masks, dict(net.named_parameters()), [optimizer]):
        noisy_gradients(net)
        before = {n: p.grad.clone() for n, p in net.named_parameters()}
        other(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    for name, p in net.named_parameters():
        assert torch.equal(p.grad, before[name])


def test_masks_at_work_leave_nothing_behind() -> None:
    from torch.optim import optimizer as hooks

    net, masks = net_and_masks()
    optimizer = Slow(torch.optim.SGD(net.parameters(), lr=0.1))
    before = len(hooks._global_optimizer_pre_hooks)
    with pytest.raises(zoo.Killed), Enforcement(masks, dict(net.named_parameters()), [optimizer]):
        assert len(hooks._global_optimizer_pre_hooks) == before + 1
        raise zoo.Killed
    assert len(hooks._global_optimizer_pre_hooks) == before
    assert "step" not in vars(optimizer)


# copies of the weights


def copies(net: nn.Module, keeper: Any) -> dict[str, str]:
    found = Copies(dict(net.named_parameters())).kept_by(keeper)
    return {copy.path: copy.name for copy in found}


class Keeper:
    def __init__(self, **kept: Any) -> None:
        vars(self).update(kept)


class Host(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3))
        self.head = nn.Linear(3, 2)


MATRICES = {"body.0.weight", "body.1.weight", "head.weight"}
CONTAINERS: dict[str, Callable[[Host], Any]] = {
    "by name": lambda m: {n: p.detach().clone() for n, p in m.named_parameters()},
    "state dict": lambda m: copy.deepcopy(m.state_dict()),
    "nested": lambda m: {"ema": [{"weights": copy.deepcopy(m.state_dict())}, 3]},
    "list": lambda m: [p.detach().clone() for p in m.parameters()],
    "module": copy.deepcopy,
    "average": AveragedModel,
    "compiled": lambda m: {f"_orig_mod.{n}": p.clone() for n, p in m.named_parameters()},
    "object": lambda m: Keeper(shadow_params=[p.clone() for p in m.parameters()]),
    "by parameter": lambda m: {p: p.detach().clone() for p in m.parameters()},
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_copies_of_weights_are_found_however_they_are_kept(kind: str) -> None:
    host = Host()
    names = copies(host, Keeper(shadow=CONTAINERS[kind](host))).values()
    assert set(names) >= MATRICES


def test_a_copy_of_a_part_is_told_by_its_names_or_shapes() -> None:
    host = Host()
    part = copy.deepcopy(host.body)
    expected = {"body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"}
    assert set(copies(host, Keeper(ema=part)).values()) == expected
    as_list = [p.detach().clone() for p in host.body.parameters()]
    assert set(copies(host, Keeper(ema=as_list)).values()) == expected


def test_what_could_be_a_copy_of_two_parts_is_none() -> None:
    net = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    assert not copies(net, Keeper(ema=copy.deepcopy(net["a"])))
    assert not copies(net, Keeper(ema=[p.clone() for p in net["a"].parameters()]))


def test_weights_themselves_are_no_copies() -> None:
    host = Host()
    optimizer = torch.optim.SGD(host.parameters(), lr=0.1)
    keeper = Keeper(host=host, weights=list(host.parameters()), optimizer=optimizer)
    assert not copies(host, keeper)
    assert not copies(host, host)


def test_a_buffer_named_after_a_parameter_is_a_copy_of_it() -> None:
    class Shadow(nn.Module):  # as latent diffusion keeps its average
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.register_buffer("decay", torch.tensor(0.9))
            for name, p in net.named_parameters():
                self.register_buffer(name.replace(".", ""), p.detach().clone())

    host = Host()
    host.shadow = Shadow(host.body)
    assert set(copies(host, host).values()) >= {"body.0.weight", "body.1.weight"}


def test_another_network_of_the_same_shapes_is_left_as_it_is() -> None:
    net, masks = net_and_masks()
    teacher, average = copy.deepcopy(net), copy.deepcopy(net)
    keeper = Keeper(teacher=teacher, average=average)
    before = copy.deepcopy(teacher.state_dict())
    with Enforcement(masks, dict(net.named_parameters()), [], [keeper]) as enforcement:
        enforcement.mask_copies()
        with torch.no_grad():
            for p in average.parameters():
                p.mul_(0.9999)
        enforcement.mask_copies()
    zoo.assert_equal(dict(teacher.state_dict()), dict(before))
    assert_zero(average, masks)


# whole fits


class Watch(pl.Callback):
    """Counts pruned weights that are not zero after each batch and in validations, of all rounds."""

    def __init__(self) -> None:
        counts: collections.Counter[str] = collections.Counter()
        self.counts = lambda: counts  # no state that a round would put back

    def count(self, trainer: Any, module: Any) -> None:
        ticket = next(c for c in trainer.callbacks if isinstance(c, LotteryTicket))
        if ticket._round is not None:
            found = regrown(ticket._round.masks, dict(module.named_parameters()))
            self.counts()["alive"] += sum(alive for alive, _ in found.values())
            self.counts()["batches"] += 1

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.count(trainer, module)

    def on_validation_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.count(trainer, module)


def assert_law_5(make: Any, path: Path, *callbacks: Any, rewind: str = "init", **settings: Any) -> None:
    watch = Watch()
    ticket = LotteryTicket(2, Pruning(0.3, scope="layerwise"), rewind, dirpath=path, keep="all")
    zoo.fit(make, ticket, *callbacks, watch, **{"max_epochs": 2, **settings})
    assert watch.counts()["batches"] > 20
    assert watch.counts()["alive"] == 0
    run = Run(path)
    assert run.rounds == [0, 1, 2]
    for round in run.rounds:
        assert not regrown(run.ticket(round).masks, run.weights(round))


def noise(module: Any) -> None:
    for p in module.parameters():
        if p.grad is not None:
            p.grad.add_(0.05 * torch.randn_like(p.grad))


class NoiseInModule(zoo.Net):
    def on_before_optimizer_step(self, optimizer: Any) -> None:
        noise(self)


class NoiseInClipping(zoo.Net):
    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        noise(self)


class NoiseInCallback(pl.Callback):
    def on_before_optimizer_step(self, trainer: Any, module: Any, _: Any) -> None:
        noise(module)


class NoiseByHand(zoo.TwoOptimizers):
    def on_after_backward(self) -> None:
        noise(self)


class OwnOptimizer(zoo.Net):
    """Steps with an optimizer that Lightning does not know."""

    def __init__(self, kind: Any = torch.optim.Adam) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.kind = kind

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.kind(self.parameters(), lr=0.01)
        optimizer.zero_grad()
        F.cross_entropy(self(batch[0]), batch[1]).backward()
        noise(self)
        optimizer.step()
        self.optimizers().step()  # counts

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)


class SkipsSteps(NoiseInModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if batch_idx % 3 == 1 else super().training_step(batch, batch_idx)


FITS: dict[str, tuple[Any, dict[str, Any]]] = {
    "noise in the module": (NoiseInModule, {}),
    "noise in clipping": (NoiseInClipping, {}),
    "noise, clipped": (NoiseInModule, {"gradient_clip_val": 0.1}),
    "noise, accumulated": (NoiseInModule, {"accumulate_grad_batches": 3}),
    "noise, bf16": (NoiseInModule, {"precision": "bf16-mixed"}),
    "noise, manual": (NoiseByHand, {}),
    "skipped steps": (SkipsSteps, {}),
    "own optimizer": (OwnOptimizer, {}),
    "own optimizer, not proved": (lambda: OwnOptimizer(torch.optim.RMSprop), {}),
}


@pytest.mark.parametrize("kind", FITS)
def test_no_hook_brings_pruned_weights_back(kind: str, tmp_path: Path) -> None:
    make, settings = FITS[kind]
    assert_law_5(make, tmp_path, **settings)


def test_no_later_callback_brings_pruned_weights_back(tmp_path: Path) -> None:
    assert_law_5(zoo.Net, tmp_path, NoiseInCallback())


class ClipsByHand(NoiseByHand):
    def on_after_backward(self) -> None:
        super().on_after_backward()
        for optimizer in self.optimizers():
            self.clip_gradients(optimizer, 0.1, "norm")


@pytest.mark.parametrize(
    "make, callbacks",
    [(NoiseInModule, []), (zoo.Net, [NoiseInCallback()]), (ClipsByHand, [])],
    ids=["module", "callback", "by hand"],
)
def test_gradients_are_clipped_without_those_of_pruned_weights(
    make: Any, callbacks: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, pruned = torch.nn.utils.clip_grad_norm_, []

    def seen(parameters: Any, *args: Any, **kwargs: Any) -> Any:
        parameters = list(parameters)
        for p in parameters:
            if p.ndim > 1 and p.grad is not None:
                pruned.append((int((p == 0).sum()), int(p.grad[p == 0].count_nonzero())))
        return clip(parameters, *args, **kwargs)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", seen)
    settings = {} if make is ClipsByHand else {"gradient_clip_val": 0.1}
    assert_law_5(make, tmp_path, *callbacks, **settings)
    assert any(zeros for zeros, _ in pruned)
    assert not any(alive for _, alive in pruned)


@pytest.mark.parametrize("kind", ["LBFGS", "Lookahead", "schedule-free", "mixing"])
def test_optimizers_that_keep_weights_are_rewound_without_pruned_ones(kind: str, tmp_path: Path) -> None:
    assert_law_5(lambda: NoiseInModule(OPTIMIZERS[kind]), tmp_path, rewind="5it")


class OwnAverage(pl.Callback):
    """An average of the weights, as people write it; evaluated, and kept at the end."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.shadow: Any = None

    def on_train_start(self, trainer: Any, module: Any) -> None:
        if self.shadow is None:
            weights = {n: p.detach().clone() for n, p in module.named_parameters()}
            self.shadow = weights if self.kind == "dict" else list(weights.values())

    def each(self, module: Any) -> list[tuple[Tensor, Tensor]]:
        shadow = self.shadow.values() if self.kind == "dict" else self.shadow
        return list(zip(module.parameters(), shadow, strict=True))

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        for p, average in self.each(module):
            average.mul_(0.99).add_(p, alpha=0.01)

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        if self.shadow is not None and not trainer.sanity_checking:
            self.kept = [p.detach().clone() for p in module.parameters()]
            for p, average in self.each(module):
                p.data.copy_(average)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if self.shadow is not None and not trainer.sanity_checking:
            for p, kept in zip(module.parameters(), self.kept, strict=True):
                p.data.copy_(kept)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        for p, average in self.each(module):
            p.data.copy_(average)


def ema(first_step: int = 0) -> Any:
    class Average(lightning.WeightAveraging):
        def should_update(self, step_idx: Any = None, epoch_idx: Any = None) -> bool:
            return step_idx is not None and step_idx >= first_step

    return Average(avg_fn=get_ema_avg_fn(0.99))


AVERAGES: dict[str, Callable[[], Any]] = {
    "Lightning's": ema,
    "Lightning's, late": lambda: ema(first_step=12),
    "SWA": lambda: StochasticWeightAveraging(0.05, swa_epoch_start=2),
    "own, by name": lambda: OwnAverage("dict"),
    "own, in order": lambda: OwnAverage("list"),
}


@pytest.mark.parametrize(
    ("kind", "rewind", "first"),
    [
        *((kind, "5it", False) for kind in AVERAGES),
        *((kind, "5it", True) for kind in AVERAGES if kind.startswith("own")),
        ("Lightning's", "init", False),
        ("Lightning's", "1ep", False),
        ("own, by name", "init", True),
        ("own, in order", "1ep", True),
    ],
)
def test_averages_hold_no_pruned_weights(kind: str, rewind: str, first: bool, tmp_path: Path) -> None:
    if kind.startswith("Lightning's") and not hasattr(lightning, "WeightAveraging"):
        pytest.skip("Lightning has WeightAveraging from version 2.6 on")
    average, watch = AVERAGES[kind](), Watch()
    ticket = LotteryTicket(2, 0.3, rewind, dirpath=tmp_path, keep="all")
    callbacks = [average, ticket] if first else [ticket, average]
    zoo.fit(zoo.Net, *callbacks, watch, max_epochs=2)
    assert (watch.counts()["alive"], Run(tmp_path).rounds) == (0, [0, 1, 2])
    run = Run(tmp_path)
    for round in run.rounds:
        assert not regrown(run.ticket(round).masks, run.weights(round))


# what cannot be enforced stops by name


class Shake(pl.Callback):
    """Adds noise to the weights in one hook, from round 1 on."""

    def __init__(self, path: Path, hook: str) -> None:
        self.path = path
        setattr(self, hook, self.shake)

    @torch.no_grad()
    def shake(self, trainer: Any, module: Any, *_: Any) -> None:
        if Run(self.path).rounds:
            module.net[0].weight.add_(0.01)


@pytest.mark.parametrize(
    ("hook", "moment", "save_every"),
    [
        ("on_train_batch_end", "in a validation", 60.0),
        ("on_train_batch_end", "after step 1", "1it"),
        ("on_train_epoch_end", "after step 8", 60.0),
        ("on_train_end", "at its end", "1it"),
        ("on_validation_epoch_start", "in a validation", 60.0),
        ("on_validation_batch_start", "in a validation", 60.0),
    ],
)
def test_weights_that_grow_back_stop_the_fit_by_name(hook: str, moment: str, save_every: Any, tmp_path: Path) -> None:
    ticket = LotteryTicket(2, 0.3, dirpath=tmp_path, keep="all", save_every=save_every)
    with pytest.raises(RegrowthError) as caught:
        zoo.fit(zoo.Net, ticket, Shake(tmp_path, hook), max_epochs=2)
    message = str(caught.value)
    assert f"round 1, {moment}" in message
    assert f"Shake.{hook}" in message
    assert "net.0.weight (" in message
    assert "Pruning(exclude=" in message
    run = Run(tmp_path)
    assert run.rounds == [0]
    if (tmp_path / "last.ckpt").exists():
        state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
        assert not regrown(run.ticket(1).masks, state)
    # without what shakes them, the run goes on
    ticket = LotteryTicket(2, 0.3, dirpath=tmp_path, keep="all", save_every=save_every)
    zoo.fit(zoo.Net, ticket, max_epochs=2)
    assert Run(tmp_path).rounds == [0, 1, 2]


class BackToTheFirst(pl.Callback):
    """Goes back to the weights that the fit began with, which it keeps in some form."""

    def __init__(self, keep: Any) -> None:
        self.keep = keep

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        self.kept = self.keep(module)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        for p, kept in zip(module.parameters(), self.weights(), strict=True):
            p.data.copy_(kept)

    def weights(self) -> Any:
        if isinstance(self.kept, torch.nn.Module):
            return self.kept.parameters()
        return self.kept.values() if isinstance(self.kept, dict) else self.kept


@pytest.mark.parametrize(
    "keep",
    [
        lambda m: {n: p.detach().clone() for n, p in m.named_parameters()},
        lambda m: [p.detach().clone() for p in m.parameters()],
        lambda m: copy.deepcopy(m.net),
    ],
    ids=["by name", "in a row", "a module"],
)
def test_the_message_says_where_pruned_weights_live_on(keep: Any, tmp_path: Path) -> None:
    """A callback's copies of the dense weights are its own; written back, they are refused."""
    ticket = LotteryTicket(1, 0.3, rewind="1ep", dirpath=tmp_path)
    with pytest.raises(RegrowthError) as caught:
        zoo.fit(zoo.Net, ticket, BackToTheFirst(keep), max_epochs=2)
    message = str(caught.value)
    assert "BackToTheFirst.on_validation_end" in message
    assert "Pruned weights live on in BackToTheFirst.kept." in message
    assert Run(tmp_path).rounds == [0]


@pytest.mark.parametrize("weights_only", [True, False])
def test_no_checkpoint_is_written_with_pruned_weights_that_grew_back(weights_only: bool, tmp_path: Path) -> None:
    checkpoints = ModelCheckpoint(
        tmp_path / "ckpts", every_n_train_steps=3, save_weights_only=weights_only,
        save_top_k=-1,
    )  # fmt: skip
    shake = Shake(tmp_path / "run", "on_train_batch_end")
    with pytest.raises(RegrowthError, match="a checkpoint are not zero in round 1"):
        ticket = LotteryTicket(1, dirpath=tmp_path / "run")
        zoo.fit(zoo.Net, ticket, shake, checkpoints, max_epochs=1)
    assert not list((tmp_path / "ckpts").glob("round-01/*"))


def test_an_optimizer_that_nobody_sees_is_caught(tmp_path: Path) -> None:
    class ByHand(OwnOptimizer):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.zero_grad()
            F.cross_entropy(self(batch[0]), batch[1]).backward()
            with torch.no_grad():
                for p in self.parameters():
                    p.sub_(p.grad + 1e-3, alpha=0.1)
            self.optimizers().step()

    with pytest.raises(RegrowthError, match=r"ByHand\.training_step"):
        zoo.fit(ByHand, LotteryTicket(1, dirpath=tmp_path), max_epochs=1)
    assert Run(tmp_path).rounds == [0]


def test_not_a_number_is_no_weight_that_grew_back() -> None:
    weights = torch.tensor([1.0, math.nan, 0.0, math.nan])
    masks = Masks({"w": torch.tensor([True, False, False, True])})
    assert regrown(masks, {"w": weights}) == {}
    zoo.assert_equal(weights, torch.tensor([1.0, 0.0, 0.0, math.nan]))


def test_looking_for_copies_in_everything_that_a_fit_holds_is_quick() -> None:
    class Timed(pl.Callback):
        seconds = 0.0

        def on_train_start(self, trainer: Any, module: Any) -> None:
            start = time.process_time()
            found = Copies(dict(module.named_parameters()))
            for keeper in (*trainer.callbacks, module):
                list(found.kept_by(keeper))
            self.seconds = time.process_time() - start

    timed = Timed()
    timed.trainer = zoo.trainer(timed, max_epochs=1)
    timed.trainer.fit(zoo.Net(), zoo.ordered_loader())
    assert timed.seconds < 0.5


def test_a_batch_with_the_shapes_of_a_layer_is_no_copy_of_it(tmp_path: Path) -> None:
    class Remembers(zoo.Net):
        def __init__(self) -> None:
            super().__init__()
            self.net[0], self.net[1] = nn.Linear(zoo.INPUTS, zoo.BATCH), nn.ReLU()
            self.net[4] = nn.Linear(zoo.BATCH, zoo.CLASSES)
            self.seen: Any = None

        def training_step(self, batch: Any, index: int) -> Any:
            x = batch[0].clone()  # (batch, inputs), as the first weight, and (batch,), as its bias
            if self.seen is not None:
                assert torch.equal(self.seen[0], self.kept)
            self.seen, self.kept = (x, x.sum(1)), x.clone()
            return super().training_step(batch, index)

    ticket = LotteryTicket(2, 0.5, "5it", dirpath=tmp_path, save_every="1it")
    zoo.fit(Remembers, ticket, max_epochs=2)
    assert Run(tmp_path).rounds == [0, 1, 2]
