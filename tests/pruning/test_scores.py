"""Laws that every score keeps, the registry, and errors."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace

import pytest
import torch
import zoo
from hypothesis import given
from hypothesis import strategies as st
from scored import assert_close, context, few, mlp, seeds
from torch import nn

from lottery import Masks
from lottery.foundations import streams
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.scores import Context, available, compute, resolve
from lottery.pruning.scores.movement import MovementAccumulator

ALL = sorted(available())
DATA = ["snip", "grasp", "taylor", "taylor_channel", "obd", "fisher", "obs", "wanda"]
every_score = pytest.mark.parametrize("name", ALL)


def settled(name):
    """A score by name; a block of OBS takes in a whole layer, so that positions do not matter."""
    return {"name": "obs", "block": 64} if name == "obs" else name


def perturbed(tensors, seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: t + torch.randn(t.shape, generator=generator, dtype=torch.float64) for name, t in tensors.items()}


def full(net, x, seed=0, masks=None):
    """A context with all that any score needs."""
    scored = context(net, x, masks=masks)
    return replace(
        scored,
        initial=perturbed(scored.weights, seed + 1),
        accumulated=perturbed(scored.weights, seed + 2),
        generator=torch.Generator().manual_seed(seed),
    )


def some_masks(net, seed, density=0.7):
    generator = torch.Generator().manual_seed(seed)
    weights = prunable_parameters(net)
    return Masks({n: torch.rand(w.shape, generator=generator) < density for n, w in weights.items()})


def network_with_state():
    """BatchNorm, dropout, a frozen parameter, gradients and mixed modes."""
    torch.manual_seed(0)
    conv = [nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten()]
    net = nn.Sequential(*conv, nn.Dropout(), nn.Linear(12, 3)).double()
    x = torch.randn(5, 1, 4, 4, dtype=torch.float64)
    net(x).sum().backward()
    net[5].bias.requires_grad_(False)
    net[4].eval()
    return net, x


def state(net):
    """All that scoring must leave as it is, down to the storage."""
    tensors = [*net.parameters(), *net.buffers()]
    return {
        "bits": [t.detach().clone() for t in tensors],
        "storage": [(id(t), t.data_ptr(), t.dtype) for t in tensors],
        "gradients": [None if p.grad is None else p.grad.clone() for p in net.parameters()],
        "required": [p.requires_grad for p in net.parameters()],
        "modes": [m.training for m in net.modules()],
        "streams": streams.fingerprint(streams.capture()),
    }


def assert_same(before, after):
    for part in ("bits", "gradients"):
        for old, new in zip(before.pop(part), after.pop(part), strict=True):
            assert (old is None and new is None) or torch.equal(old, new)
    assert before == after


@every_score
def test_scoring_leaves_module_gradients_and_streams_as_they_were(name):
    net, x = network_with_state()
    masks = some_masks(net, 0)
    masks.apply(dict(net.named_parameters()))
    weights = {n: p.detach() for n, p in prunable_parameters(net).items()}
    generator = torch.Generator().manual_seed(0)
    more = {"initial": weights, "accumulated": weights, "generator": generator}
    batches = [(x, torch.arange(5) % 3)]
    before = state(net)
    with torch.no_grad():
        scored = Context(net, masks, batches=lambda: batches, example_input=x, **more)
        scores = compute(name, scored)
    assert_same(before, state(net))
    assert all(not s.requires_grad for s in scores.values())
    assert {n: s.shape for n, s in scores.items()} == {n: m.shape for n, m in masks.items()}


def test_a_score_that_spoils_everything_and_fails_leaves_no_trace():
    net, x = network_with_state()
    before = state(net)

    def vandal(context):
        context.module.train()
        context.module(x).sum().backward()
        torch.rand(3)
        for p in context.module.parameters():
            p.data = torch.zeros_like(p.data).float()
            p.requires_grad_(False)
        context.module[1].running_mean = torch.full((3,), torch.nan)
        context.module[1].running_var.zero_()
        raise KeyError("vandal")

    with pytest.raises(KeyError, match="vandal"):
        compute(vandal, Context(net, Masks.ones(prunable_parameters(net))))
    assert_same(before, state(net))


@every_score
@few
@given(seed=seeds)
def test_the_order_of_parameters_does_not_matter(name, seed):
    net, x = mlp(seed)
    scored = full(net, x, seed, some_masks(net, seed))
    backwards = Masks(dict(reversed(list(scored.masks.items()))))
    found = compute(name, scored)
    scored.generator.manual_seed(seed)
    reverse = compute(name, replace(scored, masks=backwards))
    assert list(reverse) == list(reversed(found))
    for parameter, score in found.items():
        assert_close(reverse[parameter], score, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in ALL if name != "random"])
@few
@given(seed=seeds)
def test_permuting_the_rows_of_a_layer_permutes_its_scores(name, seed):
    net, x = mlp(seed)
    scored = full(net, x, seed, some_masks(net, seed))
    found = compute(settled(name), scored)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))

    def moved(tensors):
        return {n: t[:, order] if n == "2.weight" else t if n == "2.bias" else t[order] for n, t in tensors.items()}

    net.load_state_dict(moved(net.state_dict()))
    more = {"initial": moved(scored.initial), "accumulated": moved(scored.accumulated)}
    shuffled = replace(scored, masks=Masks(moved(scored.masks)), **more)
    for n, expected in moved(found).items():
        again = compute(settled(name), shuffled)[n]
        assert_close(again, expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("name", [*DATA, "magnitude", "lamp", "lookahead", "synflow"])
@few
@given(seed=seeds, unit=st.integers(0, 4))
def test_a_unit_that_is_pruned_away_counts_as_absent(name, seed, unit):
    net, x = mlp(seed)
    with torch.no_grad():
        net[0].bias[unit] = 0
    masks = {n: torch.ones(p.shape, dtype=torch.bool) for n, p in prunable_parameters(net).items()}
    masks["0.weight"][unit] = masks["2.weight"][:, unit] = False
    found = compute(settled(name), context(net, x, masks=Masks(masks)))
    rest = [i for i in range(5) if i != unit]
    small, _ = mlp(seed, (4, 4, 3))
    small.load_state_dict(
        {n: t[:, rest] if n == "2.weight" else t if n == "2.bias" else t[rest] for n, t in net.state_dict().items()}
    )
    expected = compute(settled(name), context(small, x))
    assert_close(found["0.weight"][rest], expected["0.weight"], rtol=1e-6, atol=1e-12)
    assert_close(found["2.weight"][:, rest], expected["2.weight"], rtol=1e-6, atol=1e-12)


@every_score
def test_single_precision_gives_the_scores_of_double_within_its_own(name):
    net, x = mlp(3)
    double = compute(name, full(net, x))
    scored = full(net, x)
    net.float()
    single = replace(scored, batches=lambda: [(x.float(), torch.arange(6) % 3)])
    found = compute(name, single)
    assert all(p.dtype is torch.float32 for p in net.parameters())
    for n, score in found.items():
        scale = float(double[n].abs().max())
        assert_close(score.double(), double[n], rtol=1e-2, atol=1e-4 * scale)


@every_score
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_scored_as_the_same_weights_in_float32(name, dtype):
    net, x = mlp(3, (4, 50, 3))
    scored = full(net.to(dtype), x)  # whole numbers of halves, in double precision
    x, y = x.to(dtype), torch.arange(6) % 3
    half = replace(scored, batches=lambda: [(x, y)], example_input=x)
    net.to(dtype)
    before = state(net)
    found = compute(name, half)
    assert_same(before, state(net))
    net.float()
    scored.generator.manual_seed(0)
    expected = compute(name, replace(half, batches=lambda: [(x.float(), y)], example_input=x.float()))
    for n, score in found.items():
        assert torch.equal(score, expected[n])
        assert score.dtype.itemsize >= 4


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("name", ["grasp", "fisher", "synflow"])
def test_recurrent_layers_in_half_precision_are_scored_in_float32(name, kind):
    """They keep their weights in a list, too."""
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = kind(4, 6, bidirectional=True, batch_first=True), nn.Linear(12, 3)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    net, x = Net().bfloat16(), torch.randn(6, 3, 4).bfloat16()
    wide = Net()
    wide.load_state_dict(net.state_dict())
    y, masks = torch.arange(6) % 3, Masks.ones(prunable_parameters(net))
    expected = compute(name, Context(wide, masks, batches=lambda: [(x.float(), y)], example_input=x.float()))
    before = net(x)
    for n, score in compute(name, Context(net, masks, batches=lambda: [(x, y)], example_input=x)).items():
        assert torch.equal(score, expected[n])
    assert torch.equal(net(x), before)


def test_half_precision_that_cannot_be_scored_in_float32_is_refused_by_name():
    class Narrow(nn.Linear):
        def forward(self, x):
            return super().forward(x.half())

    net, x = Narrow(4, 3).half(), torch.randn(6, 4)
    scored = Context(net, Masks.ones(prunable_parameters(net)), batches=lambda: [(x, torch.arange(6) % 3)])
    with pytest.raises(ValueError, match=r"'snip' is made in float32, .* half precision of Narrow, .* cannot run so"):
        compute("snip", scored)


def test_movement_of_half_precision_keeps_its_small_terms():
    net = nn.Linear(1, 1, bias=False).half()
    nn.init.constant_(net.weight, 2.0**-13)
    net.weight.grad = torch.full((1, 1), 2.0**-13).half()
    accumulator = MovementAccumulator(["weight"])
    accumulator.update(net)
    assert accumulator.sums["weight"].item() == -(2.0**-26)


@pytest.mark.parametrize("name", ["snip", "grasp", "fisher", "obs", "taylor"])
@pytest.mark.parametrize("kind", [zoo.Recurrent, zoo.Attention, zoo.Tied, zoo.WeightNorm])
def test_scores_with_data_serve_other_kinds_of_layers(name, kind):
    torch.manual_seed(0)
    x, y = zoo.data(8)
    net = kind()
    net.spare = nn.Linear(2, 2)  # never gets a gradient
    score = {"name": "obs", "block": 4} if name == "obs" else name
    scores = compute(score, context(net, x.double(), y))
    largest = max(float(s.max()) for s in scores.values())
    assert float(scores["spare.weight"].max()) <= 1e-3 * largest
    assert largest > 0


def test_sparse_gradients_of_an_embedding_are_scored():
    net = nn.Sequential(nn.Embedding(6, 3, sparse=True), nn.Flatten(), nn.Linear(6, 3))
    scores = compute("snip", context(net, torch.tensor([[0, 2], [2, 5]])))["0.weight"]
    assert scores.any(1).tolist() == [True, False, True, False, False, True]


@pytest.mark.parametrize("name", DATA)
def test_two_ranks_score_as_one_that_sees_all_batches(name):
    net, x = mlp()
    y = torch.arange(6) % 3
    halves = [(x[:3], y[:3]), (x[3:], y[3:])]
    score = {"name": name, "batches": 2}
    alone = compute(score, replace(context(net), batches=lambda: halves))
    barrier, shared, found = threading.Barrier(2), {}, {}
    copies = [copy.deepcopy(net) for _ in range(2)]

    def rank(number):
        def reduce(tensor):
            shared[number] = tensor
            barrier.wait(60)
            total = shared[0] + shared[1]
            barrier.wait(60)
            return total

        own = copies[number]
        mine = Context(own, Masks.ones(prunable_parameters(own)), reduce=reduce)
        # without `undisturbed`: the global streams belong to the process
        found[number] = resolve(score)(replace(mine, batches=lambda: [halves[number]]))

    ranks = [threading.Thread(target=rank, args=(number,)) for number in range(2)]
    for thread in ranks:
        thread.start()
    for thread in ranks:
        thread.join()
    for n, expected in alone.items():
        assert torch.equal(found[0][n], found[1][n])
        assert_close(found[0][n].detach(), expected, rtol=1e-7, atol=1e-12)


def test_random_scores_repeat_with_the_generator_and_fill_the_unit_interval():
    net = nn.Linear(100, 100)

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return compute("random", context(net, generator=generator))["weight"]

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    counts = torch.histc(draw(1), bins=10, min=0, max=1)
    assert int(counts.sum()) == 10_000
    assert counts.min() > 800
