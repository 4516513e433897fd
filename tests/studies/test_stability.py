"""Laws of the error barrier: what must hold on the line between any two networks."""

import math

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from zoo import Net, data

from lottery.foundations import streams
from lottery.masks.masks import Masks
from lottery.studies.evaluation import Evaluation
from lottery.studies.stability import Barrier, accumulating, error_barrier, interpolate
from lottery.tasks.models import MLP, ResNet
from lottery.training import recipes

seeds = st.integers(0, 2**32)
alphas = st.floats(0, 1)


def mlp(seed):
    torch.manual_seed(seed)
    return MLP(6, hidden=(8,), classes=3)


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def loss_of(x, y):
    def error_of(module):
        with torch.no_grad():
            return F.cross_entropy(module(x).double(), y).item()

    return error_of


def samples(seed=0, inputs=6, classes=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(50, inputs, generator=generator)
    return x, torch.randint(0, classes, (50,), generator=generator)


def recompute_batchnorm(module, inputs):
    with torch.no_grad(), accumulating(module):
        for batch in inputs:
            module(batch)


# the line


@given(seeds, alphas)
def test_the_ends_of_the_line_are_the_networks_themselves(seed, alpha):
    a, b = state(mlp(seed)), state(mlp(seed + 1))
    for name in a:
        assert torch.equal(interpolate(a, b, 0)[name], a[name])
        assert torch.equal(interpolate(a, b, 1)[name], b[name])
        assert torch.equal(interpolate(a, a, alpha)[name], a[name])


@given(seeds, alphas)
def test_every_network_on_the_line_is_under_the_mask_of_both_ends(seed, alpha):
    first, second = mlp(seed), mlp(seed + 1)
    generator = torch.Generator().manual_seed(seed)
    masks = Masks(
        {
            name: torch.rand(p.shape, generator=generator) < 0.3
            for name, p in first.named_parameters()
            if name.endswith("weight")
        }
    )
    for module in (first, second):
        masks.apply(dict(module.named_parameters()))
    between = interpolate(state(first), state(second), alpha)
    for name, mask in masks.items():
        assert not between[name][~mask].any()


def test_counts_are_not_interpolated():
    a, b = state(nn.BatchNorm1d(2)), state(nn.BatchNorm1d(2))
    a["num_batches_tracked"] += 3
    b["num_batches_tracked"] += 10
    b["running_mean"] += 1
    between = interpolate(a, b, 0.5)
    assert between["num_batches_tracked"] == 3
    assert between["running_mean"].tolist() == [0.5, 0.5]


def test_networks_of_two_architectures_have_no_line_between_them():
    with pytest.raises(ValueError, match=r"hidden.0.weight: \(8, 6\) and \(9, 6\)"):
        interpolate(state(mlp(0)), state(MLP(6, (9,), 3)), 0.5)
    with pytest.raises(ValueError, match=r"extra: only in one"):
        interpolate(state(mlp(0)), {**state(mlp(0)), "extra": torch.ones(1)}, 0.5)


# the barrier


@given(seeds)
def test_between_a_network_and_itself_there_is_no_barrier(seed):
    module = mlp(seed)
    barrier = error_barrier(module, state(module), state(module), loss_of(*samples()), points=5)
    assert len(set(barrier.errors)) == 1
    assert barrier.height == 0
    assert barrier.stable


@given(seeds)
def test_the_barrier_is_the_same_from_either_end(seed):
    a, b = state(mlp(seed)), state(mlp(seed + 1))
    there = error_barrier(mlp(0), a, b, loss_of(*samples()), points=7)
    back = error_barrier(mlp(0), b, a, loss_of(*samples()), points=7)
    assert there.errors == pytest.approx(back.errors[::-1], rel=1e-4)
    assert there.height == pytest.approx(back.height, abs=1e-5)


@given(seeds)
def test_the_barrier_is_never_below_half_the_difference_of_the_ends(seed):
    a, b = state(mlp(seed)), state(mlp(seed + 1))
    barrier = error_barrier(mlp(0), a, b, loss_of(*samples()), points=4)
    half = abs(barrier.errors[0] - barrier.errors[-1]) / 2
    assert barrier.height >= half - 1e-12


@given(seeds, st.integers(2, 30))
def test_a_convex_loss_has_the_lowest_barrier_there_can_be(seed, points):
    def linear(seed):
        torch.manual_seed(seed)
        return MLP(6, hidden=(), classes=3)

    a, b = state(linear(seed)), state(linear(seed + 1))
    barrier = error_barrier(linear(0), a, b, loss_of(*samples()), points=points)
    half = abs(barrier.errors[0] - barrier.errors[-1]) / 2
    assert barrier.height == pytest.approx(half, abs=1e-12)


def test_the_same_function_with_its_hidden_units_permuted_lies_behind_a_barrier():
    torch.manual_seed(0)
    module = MLP(6, hidden=(16,), classes=3)
    x, _ = samples()
    y = module(x).argmax(1)  # what it computes is right
    a, order = state(module), torch.arange(16).roll(1)
    b = {
        "hidden.0.weight": a["hidden.0.weight"][order],
        "hidden.0.bias": a["hidden.0.bias"][order],
        "output.weight": a["output.weight"][:, order],
        "output.bias": a["output.bias"],
    }

    def error_of(module):
        return (module(x).argmax(1) != y).double().mean().item()

    barrier = error_barrier(module, a, b, error_of)
    assert barrier.errors[0] == barrier.errors[-1] == 0
    assert barrier.height > 0.02
    assert not barrier.stable
    assert len(barrier.errors) == 30


@given(st.floats(0, 0.5), st.floats(0, 0.5))
def test_stable_means_below_the_threshold(height, threshold):
    barrier = Barrier((0.0, 0.5, 1.0), (0.0, height, 0.0), threshold)
    assert barrier.stable == (height < threshold)


def test_a_network_whose_error_is_not_a_number_is_not_stable():
    barrier = Barrier((0.0, 0.5, 1.0), (0.1, math.nan, 0.1))
    assert math.isnan(barrier.height)
    assert not barrier.stable


def test_a_line_of_one_point_is_refused():
    with pytest.raises(ValueError, match="points=1"):
        error_barrier(mlp(0), state(mlp(0)), state(mlp(0)), lambda _: 0.0, points=1)


def test_weights_of_another_architecture_are_refused_by_name():
    with pytest.raises(ValueError, match="the state dict b .*\n.*hidden.0.weight"):
        error_barrier(mlp(0), state(mlp(0)), state(MLP(6, (9,), 3)), lambda _: 0.0, points=2)


# what is left behind


@pytest.mark.parametrize("fail_at", [None, 0, 2])
def test_the_module_comes_back_whatever_happens(fail_at):
    torch.manual_seed(0)
    module = ResNet(blocks=1, width=2)
    module.stages[0].eval()
    module.bn.momentum = 0.3
    module(torch.rand(4, 1, 8, 8)).sum().backward()
    weights, tensors = state(module), list(module.state_dict(keep_vars=True).values())
    modes = [part.training for part in module.modules()]
    gradients = [p.grad.clone() for p in module.parameters()]
    random = torch.get_rng_state()
    calls = iter(range(3))

    def error_of(module):
        torch.rand(1)
        assert not any(part.training for part in module.modules())
        if next(calls) == fail_at:
            raise RuntimeError("no error today")
        return 0.0

    def walk():
        error_barrier(
            module,
            state(ResNet(blocks=1, width=2)),
            state(ResNet(blocks=1, width=2)),
            error_of,
            3,
            lambda m: recompute_batchnorm(m, [torch.rand(4, 1, 8, 8)]),
        )

    with streams.isolated():
        random = torch.get_rng_state()
        if fail_at is None:
            walk()
        else:
            with pytest.raises(RuntimeError, match="no error today"):
                walk()
    assert torch.equal(torch.get_rng_state(), random)
    after = module.state_dict(keep_vars=True)
    assert all(one is two for one, two in zip(after.values(), tensors, strict=True))
    assert all(torch.equal(after[name], weights[name]) for name in weights)
    assert [part.training for part in module.modules()] == modes
    assert module.bn.momentum == 0.3
    for p, gradient in zip(module.parameters(), gradients, strict=True):
        assert torch.equal(p.grad, gradient)


# BatchNorm


def test_recomputed_statistics_are_those_of_a_direct_pass():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.9))
    module.eval()
    with torch.no_grad():
        module[1].running_mean += 7
    inputs = torch.rand(6, 4, 1, 5, 5)
    recompute_batchnorm(module, inputs)
    with torch.no_grad():
        features = torch.stack([module[0](batch) for batch in inputs])
    layer = module[1]
    assert torch.allclose(layer.running_mean, features.mean((0, 1, 3, 4)), atol=1e-6)
    variances = torch.stack([f.var((0, 2, 3)) for f in features])
    assert torch.allclose(layer.running_var, variances.mean(0), atol=1e-6)
    assert layer.num_batches_tracked == 6
    assert (layer.momentum, layer.training) == (0.1, False)


def test_statistics_that_are_not_recomputed_overstate_the_barrier():
    """Ten times smaller weights before BatchNorm make the same network, and so do all between; but the variance of
    what enters BatchNorm there is not what lies between its two variances."""
    torch.manual_seed(0)
    x, module = torch.randn(200, 4), nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
    recompute_batchnorm(module, [x])
    outputs = module.eval()(x).detach()
    a = state(module)
    with torch.no_grad():
        module[0].weight *= 0.1
        module[0].bias *= 0.1
    recompute_batchnorm(module, [x])
    b = state(module)

    def error_of(module):
        return F.mse_loss(module(x), outputs).item()

    stale = error_barrier(module, a, b, error_of, 5)
    right = error_barrier(module, a, b, error_of, 5, lambda m: recompute_batchnorm(m, [x]))
    assert right.height < 0.001
    assert stale.height > 0.05


# by a Trainer


def loader(seed=0, **options):
    return DataLoader(TensorDataset(*data(64, seed)), batch_size=16, **options)


class Data(pl.LightningDataModule):
    """Another data set for each stage; notes when it is set up."""

    def __init__(self, shuffle=False):
        super().__init__()
        self.shuffle, self.stages = shuffle, []

    def setup(self, stage):
        self.stages.append(stage)

    def train_dataloader(self):
        return loader(shuffle=self.shuffle)

    def val_dataloader(self):
        return loader(seed=1)

    def test_dataloader(self):
        return loader(seed=2)


def net(seed=0):
    torch.manual_seed(seed)
    return Net()


def evaluation(module, metric, **options):
    return Evaluation(module, Data(**options), metric, batches=3, accelerator="cpu")


@pytest.mark.parametrize("metric, seed", [("val_acc", 1), ("test_acc", 2)])
def test_the_error_is_one_minus_the_accuracy_on_the_data_of_its_name(metric, seed):
    module = net()
    x, y = data(64, seed)
    expected = (module.eval()(x).argmax(1) != y).double().mean().item()
    assert evaluation(module, metric).error() == pytest.approx(expected)


def test_a_loss_is_an_error_as_it_is():
    module = net()
    x, y = data(64, 1)
    expected = F.cross_entropy(module.eval()(x), y).item()
    assert evaluation(module, "val_loss").error() == pytest.approx(expected)


def test_a_metric_that_is_not_logged_is_named_with_those_that_are():
    with pytest.raises(ValueError, match="'val_f1' on validation data; .*'val_loss'"):
        evaluation(net(), "val_f1").error()


@pytest.mark.parametrize("metric, seed", [("val_acc", 1), ("test_acc", 2)])
def test_a_barrier_measured_by_a_trainer_is_that_by_hand(metric, seed):
    module, a, b = net(), state(net(1)), state(net(2))
    x, y = data(64, seed)
    batches = data(64)[0].split(16)[:3]

    def error_of(module):
        return (module(x).argmax(1) != y).double().mean().item()

    by_hand = error_barrier(module, a, b, error_of, 5, lambda m: recompute_batchnorm(m, batches))
    found = evaluation(module, metric).barrier(a, b, points=5)
    assert found.errors == pytest.approx(by_hand.errors, abs=1e-6)
    assert len(set(found.errors)) > 1


def test_data_are_set_up_once_and_every_walk_sees_the_same():
    measure = evaluation(net(), "test_acc", shuffle=True)
    walks = [measure.barrier(state(net(1)), state(net(2)), 3) for _ in range(2)]
    assert walks[0] == walks[1]
    assert measure.data.stages == ["fit", "test"]


def test_measuring_draws_nothing_from_the_random_streams():
    measure, a, b = evaluation(net(), "val_acc", shuffle=True), state(net(1)), net(2)
    with streams.isolated():
        torch.manual_seed(5)
        measure.barrier(a, state(b), 3)
        drawn = torch.rand(3)
        torch.manual_seed(5)
        assert torch.equal(drawn, torch.rand(3))


def test_a_recipe_is_measured_by_the_metric_that_it_monitors():
    recipe = recipes.load("recipes/digits.yaml", ["--trainer.logger", "false"])
    found = Evaluation.of(recipe)
    x, y = recipe.datamodule.splits.val
    expected = (recipe.model(x).argmax(1) != y).double().mean().item()
    assert found.error() == pytest.approx(expected)
    assert Evaluation.of(recipe, "val_loss").mode == "min"


def test_a_recipe_that_monitors_nothing_says_what_to_set():
    recipe = recipes.load("recipes/digits.yaml", ["--lottery.monitor", "null"])
    with pytest.raises(ValueError, match=r"lottery\.monitor"):
        Evaluation.of(recipe)
