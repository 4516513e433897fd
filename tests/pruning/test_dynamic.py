"""Masks that move while one training goes on: gradual pruning, SET, RigL."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import pandas
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn

from lottery import LotteryTicket, Masks, Pruning, Run, StorageError
from lottery.pruning.dynamic import (
    SET,
    Gradual,
    Method,
    MoveContext,
    RigL,
    Training,
    available,
    begin,
    drop_and_grow,
    resolve,
)
from lottery.pruning.scopes import erdos_renyi

LAYERS = {"0.weight": (6, 8), "2.weight": (4, 6), "4.weight": (3, 4)}
seeds = st.integers(0, 2**32 - 1)
densities = st.floats(0.15, 0.9)
# few values, so that ties are common
values = st.integers(0, 3).map(float)
few = settings(max_examples=12)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moment(masks: Masks, step: int, training: Training, seed: int = 0) -> MoveContext:
    """Random weights under the masks, and random dense gradients."""
    net = network(seed)
    masks.apply(dict(net.named_parameters()))
    draw = generator(seed + 1)
    gradients = {n: torch.randn(m.shape, generator=draw) for n, m in masks.items()}
    return MoveContext(net, masks, gradients, step, training, generator(seed + 2))


def dense() -> Masks:
    return Masks.ones({name: torch.empty(shape) for name, shape in LAYERS.items()})


def counts(masks: Masks) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks.items()}


# the pure moves


@st.composite
def layers(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    size = draw(st.integers(1, 40))
    several = st.lists(values, min_size=size, max_size=size).map(torch.tensor)
    mask = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return torch.tensor(mask), draw(several), draw(several)


@given(layers(), st.floats(0, 1))
def test_a_move_drops_the_smallest_and_grows_the_worthiest_ties_by_position(
    layer: tuple[Tensor, Tensor, Tensor], fraction: float
) -> None:
    mask, weights, worth = layer
    kept = [i for i in range(len(mask)) if mask[i]]
    count = round(fraction * len(kept))
    by_size = sorted(kept, key=lambda i: (abs(float(weights[i])), i))
    remaining = set(by_size[count:])
    free = [i for i in range(len(mask)) if i not in remaining]
    grown = sorted(free, key=lambda i: (-float(worth[i]), i))[:count]
    found = drop_and_grow(mask, weights, worth, fraction)
    assert found.nonzero().flatten().tolist() == sorted(remaining | set(grown))
    assert int(found.sum()) == len(kept)


@few
@given(densities, st.sampled_from(["erk", "erdos-renyi", "uniform"]), seeds)
def test_a_sparse_network_starts_at_random_with_exactly_the_densities_of_its_scope(
    density: float, scope: Any, seed: int
) -> None:
    method, share = RigL(density, scope), round(density * 84) / 84
    found = method.begin(dense(), generator(seed))
    shares = dict.fromkeys(LAYERS, share) if scope == "uniform" else erdos_renyi(LAYERS, share, kernel=scope == "erk")
    assert counts(found) == {n: round(shares[n] * m.numel()) for n, m in dense().items()}
    assert found == method.begin(dense(), generator(seed))
    other = SET(density, scope).begin(dense(), generator(seed + 1))
    assert other != found or found == dense()


@few
@given(densities, st.floats(0.05, 0.95), st.sampled_from([SET, RigL]), seeds)
def test_the_number_of_weights_in_each_layer_never_changes(density: float, drop: float, kind: Any, seed: int) -> None:
    method, training = kind(density, drop=drop, every="1it"), Training(50, 5)
    masks = method.begin(dense(), generator(seed))
    started = counts(masks)
    for step in range(1, 6):
        now = moment(masks, step, training, seed + step)
        masks = method.move(now)
        assert counts(masks) == started


@few
@given(st.integers(1, 74), st.floats(0.05, 0.95), seeds)
def test_rigl_drops_a_fraction_on_a_cosine_and_grows_at_the_largest_gradients(
    step: int, drop: float, seed: int
) -> None:
    method, training = RigL(0.4, drop=drop), Training(100)
    fraction = drop / 2 * (1 + math.cos(step * math.pi / 75))
    assert method.fraction_after(step, training) == pytest.approx(fraction)
    before = method.begin(dense(), generator(seed))
    now = moment(before, step, training, seed)
    after = method.move(now)
    for name, mask in before.items():
        worth = now.gradients[name].abs()
        count = round(method.fraction_after(step, training) * int(mask.sum()))
        falling = now.weights[name].abs()[mask].sort(descending=True).values
        remaining = falling[: int(mask.sum()) - count]  # none where all are dropped
        least = remaining[-1] if len(remaining) else torch.inf
        stayed = mask & (now.weights[name].abs() >= least)
        grown = after[name] & ~stayed
        assert int(grown.sum()) == count
        if count:
            assert worth[grown].min() >= worth[~after[name] & ~stayed].max()


def test_rigl_leaves_a_layer_alone_whose_gradient_is_missing_or_not_finite() -> None:
    method, training = RigL(0.4, every="1it"), Training(100)
    before = method.begin(dense(), generator(0))
    now = moment(before, 1, training)
    gradients = {n: g.clone() for n, g in now.gradients.items()}
    del gradients["0.weight"]
    gradients["2.weight"][0, 0] = torch.inf
    now = MoveContext(now.module, before, gradients, 1, training, now.generator)
    after = method.move(now)
    assert [n for n in LAYERS if not torch.equal(after[n], before[n])] == ["4.weight"]


@few
@given(
    densities, st.floats(0, 0.4), st.floats(0.5, 1), st.floats(0.5, 4), st.sampled_from(["layerwise", "global"]), seeds
)
def test_gradual_pruning_follows_its_polynomial_and_is_nested(
    density: float, start: float, end: float, power: float, scope: Any, seed: int
) -> None:
    method = Gradual(density, start, end, "7it", power, scope=scope)
    training = Training(100)
    first, last = round(start * 100), min(round(end * 100), 99)
    masks = dense()
    for step in filter(lambda step: method.due(step, training), range(100)):
        assert first < step <= last
        left = (1 - (step - first) / (last - first)) ** power
        wanted = density + (1 - density) * left
        following = method.move(moment(masks, step, training, seed))
        assert following.nested_in(masks)
        sizes = {n: m.numel() for n, m in dense().items()}
        if scope == "layerwise":
            assert counts(following) == {n: round(wanted * sizes[n]) for n in sizes}
        else:
            assert following.kept == round(wanted * masks.total)
        masks = following
    assert step == last  # the target is reached


def test_gradual_pruning_takes_the_scores_of_weights_and_a_function_of_ones_own() -> None:
    def positive(context: Any) -> dict[str, Tensor]:
        return context.weights

    now = moment(dense(), 50, Training(100))
    after = Gradual(0.5, end=0.5, score=positive).move(now)
    for name, weights in now.weights.items():
        assert weights[after[name]].min() > weights[~after[name]].max()
    for score in ("lamp", "random"):
        assert Gradual(0.5, end=0.5, score=score).move(now).density == 0.5


@pytest.mark.parametrize(
    ("method", "training", "expected"),
    [
        (RigL(every="10it", until=0.5), Training(70), [10, 20, 30]),
        (SET(), Training(40, 10), [10, 20, 30]),
        (SET(every="1ep5it"), Training(40, 10), [15, 30]),
        (Gradual(start=0.1, every="20it", end=0.7), Training(100), [30, 50, 70]),
        (Gradual(every="30it", end=1), Training(100), [30, 60, 90, 99]),
    ],
)
def test_moves_come_at_their_time(method: Method, training: Training, expected: list[int]) -> None:
    due = [s for s in range(training.steps) if method.due(s, training)]
    assert due == expected


# whole fits


class Convolutional(zoo.Net):
    def __init__(self) -> None:
        super().__init__(zoo.ADAM)
        self.net = nn.Sequential(
            nn.Unflatten(1, (1, 3, 4)),
            nn.Conv2d(1, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3, padding=1),
            nn.Flatten(),
            nn.Linear(48, zoo.CLASSES),
        )


class Watch(pl.Callback):
    """Notes the masks after each batch, and that nothing lives outside of them."""

    def __init__(self, ticket: LotteryTicket) -> None:
        self.ticket, self.seen = ticket, []

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        state = self.ticket.state_dict()
        masks = Masks.unpack(state["masks"], state["shapes"])
        parameters = dict(module.named_parameters())
        for name, mask in masks.items():
            assert not parameters[name][~mask].any()
            for optimizer in trainer.optimizers:
                for value in optimizer.state.get(parameters[name], {}).values():
                    if isinstance(value, Tensor) and value.shape == mask.shape:
                        assert not value[~mask].any()
        if self.seen:
            new = [(n, m & ~self.seen[-1][n]) for n, m in masks.items()]
            # what has just grown starts from zero
            assert not any(parameters[n][grown].any() for n, grown in new)
        self.seen.append(masks)


DYNAMIC = {"gradual": Gradual(0.3, every="3it", end=0.8), "set": SET(0.3, every="1ep"), "rigl": RigL(0.3, every="3it")}
MODULES = {
    "sgd": zoo.Net,
    "adamw": functools.partial(zoo.Net, zoo.ADAMW),
    "convolutions": Convolutional,
    "several optimizers": zoo.TwoOptimizers,
    "sparse gradients": zoo.SparseEmbedding,
}


@pytest.mark.parametrize(
    ("name", "kind"), [*[("rigl", kind) for kind in MODULES], ("set", "adamw"), ("gradual", "sgd")]
)
def test_no_weight_lives_outside_the_mask_of_the_moment(name: str, kind: str, tmp_path: Path) -> None:
    ticket = LotteryTicket(rounds=0, dynamic=DYNAMIC[name], dirpath=tmp_path, monitor="val_acc")
    watch = Watch(ticket)
    zoo.fit(MODULES[kind], ticket, watch, max_epochs=3)
    run = Run(tmp_path)
    summary, found = run.summary(0), run.ticket(0)
    assert found.masks == watch.seen[-1] and found.masks != run.masks[0]
    assert summary.densities == found.masks.densities()
    assert sum(m.dropped + m.grown for m in summary.moves) > 0
    kept = {0: run.masks[0].kept}
    for move in summary.moves:
        kept[0] += move.grown - move.dropped
        assert move.density == kept[0] / found.masks.total
    if name != "gradual":
        assert {m.kept for m in watch.seen} == {found.masks.kept}
    zoo.assert_equal(dict(found.weights), run.weights("initial"))
    assert found.provenance["dynamic"]["name"] == name


# one life after the other; the second ends between a move and the step of the optimizer
KILLS = [
    ("on_train_batch_start", 7),
    ("on_before_optimizer_step", 2),
    ("on_train_epoch_end", 0),
    ("on_train_batch_end", 2),
]


@pytest.mark.parametrize(
    ("name", "kind"), [*[(name, "adamw") for name in DYNAMIC], ("rigl", "several optimizers"), ("set", "convolutions")]
)
def test_a_killed_run_goes_on_with_the_masks_of_the_moment_and_the_same_moves(
    name: str, kind: str, tmp_path: Path
) -> None:
    def fit(path: str, *callbacks: Any) -> None:
        ticket = LotteryTicket(
            rounds=0, dynamic=DYNAMIC[name], dirpath=tmp_path / path, save_every="1it", monitor="val_acc"
        )
        loader = zoo.shuffled_loader()
        zoo.fit(MODULES[kind], ticket, *callbacks, loader=loader, max_epochs=3)

    fit("whole")
    for hook, n in KILLS:
        with pytest.raises(zoo.Killed):
            fit("again", zoo.KillAt(hook, n))
    noted = Run(tmp_path / "again").history(0)  # while it is interrupted
    fit("again")
    assert noted.equals(Run(tmp_path / "whole").history(0)[: len(noted)])
    zoo.assert_equal(zoo.contents(tmp_path / "again"), zoo.contents(tmp_path / "whole"))


@pytest.mark.parametrize("namespace", ["pytorch_lightning", "lightning.pytorch"])
def test_masks_move_in_both_namespaces(namespace: str, tmp_path: Path) -> None:
    lightning = pytest.importorskip(namespace)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(zoo.INPUTS, zoo.CLASSES)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters())

    trainer = lightning.Trainer(
        max_epochs=2,
        callbacks=[LotteryTicket(rounds=0, dynamic=DYNAMIC["rigl"], dirpath=tmp_path)],
        logger=False,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), zoo.ordered_loader())
    moves = Run(tmp_path).summary(0).moves
    assert [move.step for move in moves] == [3, 6, 9]


def test_the_steps_of_accumulated_batches_are_what_counts(tmp_path: Path) -> None:
    ticket = LotteryTicket(rounds=0, dynamic=RigL(0.3, every="1ep", until=1), dirpath=tmp_path)
    settings = {"max_epochs": 3, "accumulate_grad_batches": 3, "gradient_clip_val": 0.1}
    zoo.fit(zoo.Net, ticket, **settings)
    assert [m.step for m in Run(tmp_path).summary(0).moves] == [3, 6]


@pytest.mark.parametrize("kind", ["automatic", "manual"])
def test_rigl_sees_the_gradient_that_pruned_weights_would_have(kind: str, tmp_path: Path) -> None:
    """The gradients of the last batch before the move, computed again by hand."""
    seen: list[Any] = []

    class Spy:
        def begin(self, masks: Masks, draw: torch.Generator) -> Masks:
            return RigL(0.3).begin(masks, draw)

        def due(self, step: int, training: Training) -> bool:
            return step == 5

        def move(self, now: MoveContext) -> Masks:
            weights = {n: p.detach().clone() for n, p in now.module.named_parameters()}
            seen.append((weights, {n: g.clone() for n, g in now.gradients.items()}))
            return now.masks

    class Net(zoo.Net):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(zoo.INPUTS, zoo.CLASSES)
            self.automatic_optimization = kind == "automatic"

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.batch = batch
            loss = F.cross_entropy(self(batch[0]), batch[1])
            if kind == "automatic":
                return loss
            self.optimizers().zero_grad()
            self.manual_backward(loss)
            self.clip_gradients(self.optimizers(), gradient_clip_val=100, gradient_clip_algorithm="norm")
            self.optimizers().step()
            return None

    net = Net()
    ticket = LotteryTicket(rounds=0, dynamic=Spy(), dirpath=tmp_path)
    with pytest.raises(zoo.Killed):
        zoo.fit(net, ticket, zoo.KillAt("on_train_batch_end", 5), max_epochs=1)
    (weights, gradients), *_ = seen
    again = nn.Linear(zoo.INPUTS, zoo.CLASSES)
    again.load_state_dict({n.removeprefix("net."): w for n, w in weights.items()})
    F.cross_entropy(again(net.batch[0]), net.batch[1]).backward()
    torch.testing.assert_close(gradients["net.weight"], again.weight.grad)


def test_the_best_step_is_one_of_the_final_density(tmp_path: Path) -> None:
    method = Gradual(0.05, every="1it", end=0.6)
    ticket = LotteryTicket(rounds=0, dynamic=method, dirpath=tmp_path, monitor="val_acc")
    zoo.fit(functools.partial(zoo.Net, zoo.ADAM), ticket, max_epochs=5)
    run = Run(tmp_path)
    history, best = run.history(), run.summary(0).best
    final = history[history["density"] == run.ticket(0).density]
    assert 0 < len(final) < len(history)
    assert best["step"] in set(final["step"])
    assert best["val_acc"] == final["val_acc"].max() < history["val_acc"].max()


def test_loggers_and_progress_bar_show_the_density_of_the_moment(tmp_path: Path) -> None:
    shown: list[float] = []

    class Bar(pl.callbacks.ProgressBar):
        def disable(self) -> None: ...

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            shown.append(self.get_metrics(trainer, module)["density"])

    logger = CSVLogger(tmp_path, "logs")
    ticket = LotteryTicket(rounds=0, dynamic=DYNAMIC["gradual"], dirpath=tmp_path / "r")
    zoo.fit(zoo.Net, ticket, Bar(), logger=logger, log_every_n_steps=1, max_epochs=3, enable_progress_bar=True)
    moves = Run(tmp_path / "r").summary(0).moves
    left = {m.step: m.density for m in moves}
    expected, density = [], 1.0
    for step in range(24):
        density = left.get(step, density)
        expected.append(density)
    assert shown == expected
    rows = pandas.read_csv(Path(logger.log_dir) / "metrics.csv")
    rows = rows[rows["train_loss_step"].notna()]
    assert list(rows["density"]) == pytest.approx(expected)


def test_a_ticket_is_where_moves_begin_and_what_they_end_in(tmp_path: Path) -> None:
    zoo.fit(zoo.Net, LotteryTicket(1, 0.5, dirpath=tmp_path / "a"), max_epochs=1)
    found = Run(tmp_path / "a").ticket(1)
    method = Gradual(0.3, every="2it")
    ticket = LotteryTicket(rounds=0, dynamic=method, ticket=found, dirpath=tmp_path / "b")
    zoo.fit(zoo.Net, ticket, max_epochs=1)
    moved = Run(tmp_path / "b").ticket(0)
    assert moved.masks.nested_in(found.masks) and moved.density < found.density
    again = LotteryTicket(rounds=0, ticket=moved, dirpath=tmp_path / "c")
    zoo.fit(zoo.Net, again, max_epochs=1)
    assert Run(tmp_path / "c").ticket(0).masks == moved.masks
    copied = Run(tmp_path / "b").copy(tmp_path / "d")
    assert copied.last_masks(0) == moved.masks


def test_plots_of_a_run_with_moving_masks_are_drawn_or_say_why_not(tmp_path: Path) -> None:
    ticket = LotteryTicket(rounds=0, dynamic=DYNAMIC["rigl"], dirpath=tmp_path)
    zoo.fit(zoo.Net, ticket, max_epochs=2)
    run = Run(tmp_path)
    for kind in ("metric", "curves", "densities"):
        assert run.plot(kind) is not None
    assert run.ticket(0).plot("masks") is not None
    with pytest.raises(ValueError, match="moved within one training.*densities"):
        run.plot("deaths")


def test_another_method_is_refused_in_a_directory_that_holds_a_run(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"rounds": 0, "dirpath": tmp_path}
    zoo.fit(zoo.Net, LotteryTicket(dynamic=DYNAMIC["set"], **arguments), max_epochs=2)
    for other in (DYNAMIC["rigl"], SET(0.3, every="2it"), None):
        with pytest.raises(StorageError, match="dynamic"):
            zoo.fit(zoo.Net, LotteryTicket(dynamic=other, **arguments), max_epochs=2)


# bad input


@pytest.mark.parametrize(
    ("dynamic", "message"),
    [
        ({"name": "rigl", "density": 0}, "density=0 must be a fraction"),
        ({"name": "set", "density": 1.0}, "density=1.0 must be a fraction"),
        ({"name": "gradual", "density": 1.5}, "density=1.5 must be a fraction"),
        ("rig", "no dynamic method 'rig'. Did you mean rigl"),
        ({"density": 0.1}, "no dynamic method None"),
        ({"name": "rigl", "densty": 0.1}, "no setting densty; it has density"),
        ({"name": "rigl", "drop": 1}, "drop=1 must be"),
        ({"name": "set", "every": "often"}, "'often' is not a step"),
        ({"name": "set", "every": "0it"}, "every='0it' is no time"),
        ({"name": "rigl", "until": 1.2}, "until=1.2 is a share"),
        ({"name": "rigl", "scope": "ekr"}, "scope='ekr'; choose from"),
        ({"name": "gradual", "start": 0.5, "end": 0.4}, "end=0.4.*above 0.5"),
        ({"name": "gradual", "power": 0}, "power=0"),
        ({"name": "gradual", "score": "snip"}, "'snip' needs data.*'magnitude'"),
    ],
)
def test_a_wrong_method_is_refused_when_it_is_given(dynamic: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LotteryTicket(rounds=0, dynamic=dynamic)


def test_masks_that_move_train_once() -> None:
    with pytest.raises(ValueError, match="rounds=3 .*train once; give rounds=0"):
        LotteryTicket(rounds=3, dynamic="rigl")
    with pytest.raises(TypeError, match="dynamic=7.*gradual, rigl, set"):
        LotteryTicket(rounds=0, dynamic=7)  # type: ignore[arg-type]


class Known(zoo.Net):
    """What its forward takes is known before the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.example_input_array = torch.zeros(1, zoo.INPUTS)


class Around(zoo.Net):
    """A layer that a sum leads around."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(zoo.INPUTS, zoo.INPUTS)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + self.inner(x).relu())


@pytest.mark.parametrize(
    ("dynamic", "settings", "message"),
    [
        (RigL(every="1000it"), {"max_epochs": 2}, "never moves in a training of 16"),
        (SET(every="2ep"), {"max_epochs": 2}, "never moves"),
        (RigL(0.001), {"max_epochs": 20, "make": Known}, "no weight of net.0.weight, net.4.weight"),
    ],
)
def test_a_training_that_cannot_be_is_refused_before_anything_is_stored(
    dynamic: Method, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    ticket = LotteryTicket(rounds=0, dynamic=dynamic, dirpath=tmp_path / "run")
    make = settings.pop("make", zoo.Net)
    with pytest.raises(ValueError, match=message):
        zoo.fit(make, ticket, **settings)
    with pytest.raises(StorageError, match="holds no run"):
        Run(tmp_path / "run")


class Without(SET):
    """Starts with an empty layer."""

    empty = ""

    def begin(self, masks: Masks, draw: torch.Generator) -> Masks:
        return Masks({**masks, self.empty: torch.zeros_like(masks[self.empty])})


def test_masks_begin_with_an_empty_layer_only_where_paths_lead_around(tmp_path: Path) -> None:
    """Found in the first step, which shows what forward takes."""
    around, through = (type(name, (Without,), {"empty": f"{name}.weight"})(every="2it") for name in ("inner", "net.0"))
    zoo.fit(Around, LotteryTicket(0, dynamic=around, dirpath=tmp_path / "around"), max_epochs=1)
    assert Run(tmp_path / "around").summary(0).connectivity.empty == ("inner.weight",)
    with pytest.raises(ValueError, match=r"would leave no weight of net.0.weight, which cuts the network there"):
        zoo.fit(Around, LotteryTicket(0, dynamic=through, dirpath=tmp_path / "through"), max_epochs=1)
    assert not (tmp_path / "through" / "run.json").exists()


def test_a_training_without_an_end_is_refused(tmp_path: Path) -> None:
    ticket = LotteryTicket(rounds=0, dynamic="rigl", dirpath=tmp_path)
    with pytest.raises(ValueError, match="no end that can be told"):
        zoo.fit(zoo.Net, ticket, loader=zoo.endless_loader(), max_epochs=-1)
    with pytest.raises(ValueError, match="every='1ep' counts epochs"):
        method = LotteryTicket(rounds=0, dynamic="set", dirpath=tmp_path)
        zoo.fit(zoo.Net, method, loader=zoo.endless_loader(), max_epochs=-1, max_steps=9)


def test_a_method_that_empties_a_layer_is_stopped_unless_that_was_allowed(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"rounds": 0, "dynamic": Gradual(0.005, every="2it", scope="global")}
    with pytest.raises(ValueError, match="leave no weight of net.*collapse='warn'"):
        ticket = LotteryTicket(dirpath=tmp_path / "a", **arguments)
        zoo.fit(zoo.Net, ticket, max_epochs=2)
    ticket = LotteryTicket(dirpath=tmp_path / "b", pruning=Pruning(collapse="warn"), **arguments)
    zoo.fit(zoo.Net, ticket, max_epochs=2)
    assert 0 in Run(tmp_path / "b").summary(0).densities.values()


def test_every_method_has_a_name_and_one_line() -> None:
    assert list(available()) == ["gradual", "rigl", "set"]
    assert all(len(line) > 20 for line in available().values())
    for name in available():
        assert resolve({"name": name, "density": 0.2}) == type(resolve(name))(0.2)  # type: ignore[call-arg]


@given(seeds)
@few
def test_masks_begin_from_the_seed_of_the_run_alone(seed: int) -> None:
    torch.manual_seed(seed)
    before = torch.get_rng_state()
    found = begin(RigL(0.4, every="1it"), dense(), seed, Training(9))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(seed + 1)
    assert begin(RigL(0.4, every="1it"), dense(), seed, Training(9)) == found


class Seldom(zoo.Net):
    """Manual optimization that steps at some batches only, or often in each."""

    def __init__(self, every: int = 2, times: int = 1, first: int | None = None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.every, self.times = every, times
        self.first = every - 1 if first is None else first

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.manual_backward(nn.functional.cross_entropy(self(x), y))
        if batch_idx % self.every == self.first:
            for _ in range(self.times):
                self.optimizers().step()
            self.optimizers().zero_grad()


@pytest.mark.parametrize(
    ("method", "steps"),
    [
        (Gradual(0.1, every="3it"), (3, 1)),
        (Gradual(0.1, every="7it", end=0.5), (2, 1)),
        (Gradual(0.1, every="7it", end=0.5), (1, 2)),
        (Gradual(0.1, every="1ep", end=1.0), (2, 1, 0)),  # no step after the last that is due
        (Gradual(0.1, every="1ep", end=1.0), (3, 1)),
    ],
)
def test_gradual_pruning_ends_at_its_density_however_often_an_optimizer_steps(
    method: Gradual, steps: tuple[int, ...], tmp_path: Path
) -> None:
    zoo.fit(lambda: Seldom(*steps), LotteryTicket(0, dynamic=method, dirpath=tmp_path), max_epochs=4)
    assert Run(tmp_path).ticket(0).masks.kept == 19 + 5  # a tenth of 192 and of 48
