"""Each score against its formula, written out the long way."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from scored import assert_close, context, few, mlp, seeds
from torch import nn

from lottery import Masks, Pruning
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.scores import Context, compute
from lottery.pruning.scores.movement import MovementAccumulator


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=12))
def test_lamp_divides_by_all_squares_from_its_own_on_in_order_of_magnitude_and_position(values):
    net = nn.Linear(len(values), 1, bias=False).double()
    net.weight.data = torch.tensor([values], dtype=torch.float64)
    scores = compute("lamp", context(net))["weight"][0].tolist()
    order = [(v**2, place) for place, v in enumerate(values)]
    for own, score in zip(order, scores, strict=True):
        tail = sum(square for square, place in order if (square, place) >= own)
        assert score == pytest.approx(own[0] / tail if own[0] else 0.0, rel=1e-12)


def test_layers_of_equal_magnitudes_all_keep_weights_under_lamp():
    net = nn.Sequential(nn.Linear(64, 100), nn.Linear(100, 10))
    for layer, size in zip(net, (0.1, 0.05), strict=True):
        nn.init.constant_(layer.weight, size)
    scored = context(net)
    masks = Pruning(densities=[0.2], score="lamp").next_masks(compute("lamp", scored), scored.masks, 1)
    # 1 / k is the k-th best score of each layer
    assert [int(mask.sum()) for mask in masks.values()] == [740, 740]


def sample_squares(scored, x, y):
    """The mean over samples of the squared gradients, in a loop."""
    total = {name: torch.zeros_like(p) for name, p in scored.parameters.items()}
    for i in range(len(x)):
        loss = F.cross_entropy(scored.module(x[i : i + 1]), y[i : i + 1])
        found = torch.autograd.grad(loss, list(scored.parameters.values()), materialize_grads=True, allow_unused=True)
        for name, gradient in zip(total, found, strict=True):
            total[name] += gradient**2 / len(x)
    return total


@pytest.mark.parametrize("kind", [zoo.Net, zoo.Recurrent, zoo.Attention, zoo.Tied])
def test_fisher_is_the_mean_of_squared_gradients_of_single_samples(kind):
    torch.manual_seed(0)
    x, y = zoo.data(40)  # more than are taken at once
    scored = context(kind(), x.double(), y)
    found = compute("fisher", scored)
    for name, mean in sample_squares(scored, x.double(), y).items():
        assert_close(found[name], scored.weights[name] ** 2 * mean / 2)


def test_fisher_weighs_samples_alike_whatever_their_batches():
    net, x = mlp()
    y = torch.arange(6) % 3
    whole = compute("fisher", context(net, x, y))
    parts = [(x[:4], y[:4]), (x[4:], y[4:])]
    scored = Context(net, Masks.ones(prunable_parameters(net)), batches=lambda: parts)
    assert_close(compute("fisher", scored), whole)


@few
@given(seeds)
def test_obd_is_half_the_squared_weight_times_the_diagonal_of_the_hessian(seed):
    net, x = mlp(seed)
    scored = context(net, x)
    found = compute("obd", scored)
    loss = scored.loss(net, (x, torch.arange(6) % 3))
    for name, parameter in scored.parameters.items():
        (gradient,) = torch.autograd.grad(loss, parameter, create_graph=True)
        for index in torch.cartesian_prod(*map(torch.arange, parameter.shape)):
            at = tuple(index)
            (row,) = torch.autograd.grad(gradient[at], parameter, retain_graph=True)
            expected = parameter[at] ** 2 * row[at] / 2
            assert_close(found[name][at], expected.detach(), rtol=1e-7, atol=1e-12)


@few
@given(seeds)
def test_grasp_follows_finite_differences_of_the_gradient_of_surviving_weights(seed):
    net, x = mlp(seed)
    kept = {n: torch.rand(p.shape) < 0.7 for n, p in prunable_parameters(net).items()}
    scored = context(net, x, masks=Masks(kept))
    parameters = list(scored.parameters.values())

    def gradient():
        loss = F.cross_entropy(net(x) / 200, torch.arange(6) % 3)
        found = torch.autograd.grad(loss, parameters)
        return [g * mask for g, mask in zip(found, kept.values(), strict=True)]

    found = compute("grasp", scored)
    direction, step = gradient(), 1e-3
    sides = []
    for sign in (step, -step):
        with torch.no_grad():
            for p, g in zip(parameters, direction, strict=True):
                p.add_(g, alpha=sign)
        sides.append(gradient())
        with torch.no_grad():
            for p, g in zip(parameters, direction, strict=True):
                p.sub_(g, alpha=sign)
    scores = [p.detach() * (up - down) / (2 * step) for p, up, down in zip(parameters, *sides, strict=True)]
    whole = abs(sum(float(s.sum()) for s in scores)) + 1e-10
    for name, score in zip(found, scores, strict=True):
        scale = float(found[name].abs().max())
        assert_close(found[name], score / whole, rtol=1e-4, atol=1e-6 * scale)


def squared_error(module, batch):
    x, y = batch
    return F.mse_loss(module(x), F.one_hot(y, 3).to(x))


def test_grasp_scores_the_modules_own_loss_whatever_it_is():
    net, x = mlp()
    scored = context(net, x, loss=squared_error)
    parameters = list(scored.parameters.values())
    first = torch.autograd.grad(squared_error(net, (x, torch.arange(6) % 3)), parameters)
    second = torch.autograd.grad(squared_error(net, (x, torch.arange(6) % 3)), parameters, create_graph=True)
    bent = torch.autograd.grad(sum((a * b).sum() for a, b in zip(first, second, strict=True)), parameters)
    expected = [p.detach() * h for p, h in zip(parameters, bent, strict=True)]
    whole = abs(sum(float(s.sum()) for s in expected)) + 1e-10
    for setting in ("grasp", {"name": "grasp", "temperature": 1}):
        for score, own in zip(compute(setting, scored).values(), expected, strict=True):
            assert_close(score, own / whole)
    with pytest.raises(ValueError, match=r"temperature=200 divides logits, and the loss of Sequential is not"):
        compute({"name": "grasp", "temperature": 200.0}, scored)


def tokens(module, batch):
    return F.cross_entropy(module(batch), batch.argmax(1))


def test_grasp_divides_logits_wherever_the_loss_is_their_cross_entropy():
    net, x = mlp()
    plain = compute("grasp", context(net, x))

    def by_hand(module, batch):
        return F.nll_loss(module(batch[0]).log_softmax(1), batch[1])

    for name, score in compute("grasp", context(net, x, loss=by_hand)).items():
        assert_close(score, plain[name])
    whole = context(net, x, loss=tokens, logits=lambda module, x: (module(x), x.argmax(1) % 3))
    assert compute("grasp", replace(whole, batches=lambda: [x])).keys() == plain.keys()
    hot = compute({"name": "grasp", "temperature": 1.0}, context(net, x))
    assert not torch.allclose(hot["0.weight"], plain["0.weight"])


@pytest.mark.parametrize("width", [1, 2])
def test_grasp_scores_one_logit_and_batches_of_another_form(width):
    net, x = mlp(widths=(4, 5, width))

    def binary(module, batch):
        return F.binary_cross_entropy_with_logits(module(batch[0])[:, 0], batch[1].to(x))

    def mapped(module, batch):
        return binary(module, (batch["x"], batch["y"]))

    y = torch.arange(6) % 2
    found = compute("grasp", context(net, x, y, loss=binary))
    named = compute("grasp", replace(context(net, loss=mapped), batches=lambda: [{"x": x, "y": y}]))
    for name, score in found.items():
        assert score.any()
        assert_close(named[name], score)


def test_absolute_grasp_is_the_magnitude_of_grasp():
    net, x = mlp()
    signed = compute("grasp", context(net, x))
    for name, score in compute({"name": "grasp", "absolute": True}, context(net, x)).items():
        assert_close(score, signed[name].abs())


@given(st.integers(1, 25), st.floats(1e-4, 1.0))
@few
def test_obs_inverts_the_damped_fisher_matrix_of_each_block(block, damping):
    net, x = mlp(block)
    torch.manual_seed(block)
    kept = {n: torch.rand(p.shape) < 0.7 for n, p in prunable_parameters(net).items()}
    scored = context(net, x, masks=Masks(kept))
    found = compute({"name": "obs", "block": block, "damping": damping}, scored)
    y = torch.arange(6) % 3
    for name, parameter in scored.parameters.items():
        samples = [
            torch.autograd.grad(F.cross_entropy(net(x[i : i + 1]), y[i : i + 1]), parameter)[0] for i in range(6)
        ]
        rows, weights = torch.stack(samples).flatten(1), parameter.detach().flatten()
        for at in torch.arange(parameter.numel()).split(block):
            alive = at[kept[name].flatten()[at]]
            fisher = rows[:, alive].T @ rows[:, alive] / 6
            inverse = torch.linalg.inv(fisher + damping * torch.eye(len(alive)))
            expected = weights[alive] ** 2 / (2 * inverse.diagonal())
            assert_close(found[name].flatten()[alive], expected, rtol=1e-7, atol=1e-14)


@settings(max_examples=20)
@given(st.data(), st.integers(1, 10))
def test_zhou_criteria_are_their_formulas(data, count):
    values = st.lists(st.integers(-5, 5).filter(bool), min_size=count, max_size=count)
    final, initial = data.draw(values), data.draw(values)
    net = nn.Linear(count, 1, bias=False).double()
    net.weight.data = torch.tensor([final], dtype=torch.float64)
    start = {"weight": torch.tensor([initial], dtype=torch.float64)}

    def rank(v, among):
        return sum(u <= v for u in among) / count

    sizes, starts = [abs(f) for f in final], [abs(i) for i in initial]
    small, began_small = [-s for s in sizes], [-s for s in starts]
    formulas = {
        "magnitude": lambda f, i: abs(f),
        "small_final": lambda f, i: -abs(f),
        "large_init": lambda f, i: abs(i),
        "small_init": lambda f, i: -abs(i),
        "magnitude_increase": lambda f, i: abs(f) - abs(i),
        "distance": lambda f, i: abs(f - i),
        "large_final_same_sign": lambda f, i: abs(f) * (f * i > 0),
        "large_final_diff_sign": lambda f, i: abs(f) * (f * i < 0),
        "large_init_large_final": lambda f, i: min(rank(abs(f), sizes), rank(abs(i), starts)),
        "small_init_small_final": lambda f, i: min(rank(-abs(f), small), rank(-abs(i), began_small)),
    }
    for name, formula in formulas.items():
        found = compute(name, context(net, initial=start))["weight"][0].tolist()
        expected = [formula(f, i) for f, i in zip(final, initial, strict=True)]
        assert found == pytest.approx(expected), name


def test_taylor_adds_up_the_squares_of_batches_where_snip_adds_their_signs():
    net, x = mlp()
    y = torch.arange(6) % 3
    halves = [(x[:3], y[:3]), (x[3:], y[3:])]
    scored = Context(net.double(), Masks.ones(prunable_parameters(net)), batches=lambda: halves)
    terms = []
    for a, b in halves:
        found = torch.autograd.grad(F.cross_entropy(net(a), b), list(scored.parameters.values()))
        terms.append([w * g for w, g in zip(scored.weights.values(), found, strict=True)])
    squares = [a**2 + b**2 for a, b in zip(*terms, strict=True)]
    channels = [a.sum(1) ** 2 + b.sum(1) ** 2 for a, b in zip(*terms, strict=True)]
    signed = [(a + b).abs() for a, b in zip(*terms, strict=True)]
    whole = sum(float(s.sum()) for s in signed)
    assert_close(list(compute("taylor", scored).values()), squares)
    for score, channel in zip(compute("taylor_channel", scored).values(), channels, strict=True):
        assert_close(score, channel[:, None].expand_as(score))
    snip = compute({"name": "snip", "batches": 2}, scored)
    assert_close(list(snip.values()), [s / whole for s in signed])


@given(st.integers(0, 6))
@few
def test_movement_goes_on_from_stored_sums(stop):
    net, x = mlp()
    net.double()
    names = list(prunable_parameters(net))
    once, halves = MovementAccumulator(names), MovementAccumulator(names)
    for step in range(6):
        if step == stop:
            halves = MovementAccumulator(names, halves.sums)
        net.zero_grad()
        net(x[step]).sum().backward()
        once.update(net)
        halves.update(net)
    assert_close(halves.sums, once.sums, rtol=0, atol=0)
