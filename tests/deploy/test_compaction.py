"""Compaction: smaller, and exactly the same; what cannot go exactly stays, and says why."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import zoo
from coupled import NETWORKS
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils import _pytree as pytree

from lottery.deploy.compaction.compaction import compact
from lottery.deploy.compaction.surgery import resize
from lottery.masks.masks import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.structures import prune_groups, resolve
from lottery.tasks.models.resnet import ResNet
from lottery.tickets.baking import bake, baked_masks

IMAGE = torch.zeros(1, 3, 8, 8, dtype=torch.float64)


def rough(module, seed=0):
    """In double precision, with biases and BatchNorm statistics that are not zero."""
    torch.manual_seed(seed)
    module = module.double().eval()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.ndim == 1 and tensor.is_floating_point():
            nn.init.normal_(tensor)
        if "running_var" in name:
            nn.init.uniform_(tensor, 0.5, 2)
    return module


def thinned(module, density, seed=0):
    """With only some of its prunable weights, at random."""
    generator = torch.Generator().manual_seed(seed)
    parameters = prunable_parameters(module)
    return bake(module, {n: torch.rand(p.shape, generator=generator) < density for n, p in parameters.items()})


def with_channels(module, x, amount, **patterns):
    """Pruned in the structure "channel"; the masks too."""
    masks = Masks.ones(prunable_parameters(module, **patterns))
    groups = resolve("channel").groups(masks, module, x)
    scores = {n: module.get_parameter(n).detach().abs() for n in masks}
    after = prune_groups(scores, masks, groups, [(list(masks), amount)])
    return bake(module, after), after


def assert_same(module, small, *inputs):
    with torch.no_grad():
        expected, found = module.eval()(*inputs), small.eval()(*inputs)
    bound = 1e-12 * max(1.0, float(expected.abs().max()))
    assert expected.shape == found.shape
    assert float((expected - found).abs().max()) <= bound


def sizes(compaction):
    return dict(compaction.table()["shape_after"])


class Wrapped(nn.Module):
    """A perceptron whose output comes in a container."""

    def __init__(self, wrap):
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 3)
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(self.b(self.a(x).relu()))


@dataclass
class Out:
    y: torch.Tensor


def one_by_one(y):
    yield y


WRAPS = {
    "dataclass": Out,
    "namespace": lambda y: SimpleNamespace(y=y),
    "generator": one_by_one,
    "set": lambda y: {y},
    "view": lambda y: {"y": y}.values(),
}

# laws


@pytest.mark.parametrize("kind", WRAPS)
def test_an_output_in_any_container_is_seen_and_keeps_its_units(kind):
    x = torch.randn(5, 4, dtype=torch.float64)
    whole = compact(rough(Wrapped(WRAPS[kind])), x)
    assert not whole.removed
    module = rough(Wrapped(WRAPS[kind]))
    nn.init.zeros_(module.a.weight[:7].data)
    small = compact(module, x)
    assert dict(small.removed) == {"a": 7}
    assert_same(
        nn.Sequential(module.a, nn.ReLU(), module.b), nn.Sequential(small.module.a, nn.ReLU(), small.module.b), x
    )


def test_an_output_without_a_tensor_is_refused_by_name():
    with pytest.raises(ValueError, match="Wrapped.forward gives a str, in which no tensor is found"):
        compact(Wrapped(str), torch.zeros(1, 4))


@given(
    st.lists(st.integers(1, 7), min_size=2, max_size=5),
    st.floats(0, 0.6),
    st.integers(0, 99),
    st.sampled_from([nn.ReLU, nn.Sigmoid, nn.GELU]),
    st.booleans(),
)
@settings(max_examples=20)
def test_a_perceptron_of_any_widths_and_density_stays_the_same(widths, density, seed, activation, bias):
    layers = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=bias), activation()]
    module = thinned(rough(nn.Sequential(*layers[:-1]), seed), density, seed)
    x = torch.randn(5, widths[0], dtype=torch.float64)
    small = compact(module, x)
    assert_same(module, small.module, x)
    assert small.parameters_after <= small.parameters_before
    assert sum(p.numel() for p in small.module.parameters()) == small.parameters_after
    again = compact(small.module, x)
    assert not again.removed


def check_same_and_smallest(kind, seed, density):
    module = thinned(rough(NETWORKS[kind][0](), seed), density, seed)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    small = compact(module, IMAGE)
    assert_same(module, small.module, x)
    assert not compact(small.module, IMAGE).removed


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_thin_network_stays_the_same_and_nothing_more_can_go(kind):
    check_same_and_smallest(kind, seed=0, density=0.2)


@pytest.mark.slow
@given(st.sampled_from(list(NETWORKS)), st.integers(0, 999), st.floats(0.02, 0.5))
def test_a_network_of_any_density_stays_the_same_and_nothing_more_can_go(kind, seed, density):
    check_same_and_smallest(kind, seed, density)


def brute_force(module):
    """The units of a perceptron that some path of weights joins with an input and with an output."""
    weights = [p.detach() != 0 for n, p in module.named_parameters() if "weight" in n]
    driven, read = (
        [torch.ones(weights[0].shape[1], dtype=torch.bool)],
        [torch.ones(len(weights[-1]), dtype=torch.bool)],
    )
    for w in weights:
        driven.append((w & driven[-1]).any(1))
    for w in reversed(weights):
        read.append((w & read[-1][:, None]).any(0))
    return [int((a & b).sum()) for a, b in zip(driven, reversed(read), strict=True)]


@given(st.integers(0, 999), st.floats(0.05, 0.5))
@settings(max_examples=15)
def test_exactly_the_units_on_a_path_from_input_to_output_stay(seed, density):
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    module = thinned(rough(module, seed), density, seed)
    small = compact(module, torch.zeros(1, 4))
    _, one, two, _ = brute_force(module)
    assert small.module[0].out_features == max(one, 1)
    assert small.module[2].out_features == max(two, 1)


@given(st.integers(0, 99), st.floats(0.1, 0.8), st.sampled_from(list(NETWORKS)))
@settings(max_examples=8)
def test_channel_structured_tickets_shrink_fully(seed, amount, kind):
    """No weight is left that is not in a kept row and a kept column."""
    module = rough(NETWORKS[kind][0](), seed)
    try:
        module, masks = with_channels(module, IMAGE, amount)
    except ValueError:
        return  # more than can go without emptying a layer
    small = compact(module, IMAGE)
    for name, mask in masks.items():
        rows = int(mask.flatten(1).any(1).sum())
        columns = int(mask.transpose(0, 1).flatten(1).any(1).sum())
        assert small.module.get_parameter(name).shape[:2] == (rows, columns)
    assert_same(module, small.module, torch.randn(2, 3, 8, 8, dtype=torch.float64))
    assert not small.stayed


# kinds of networks


def test_a_resnet_with_batch_norm_shrinks_with_its_channels_and_stays_the_same():
    module = rough(ResNet(blocks=1, width=8))
    x = torch.randn(3, 1, 16, 16, dtype=torch.float64)
    module, masks = with_channels(module, x, 0.5)
    small = compact(module, x)
    assert type(small.module) is ResNet
    assert_same(module, small.module, x)
    assert baked_masks(small.module).kept == masks.kept == baked_masks(small.module).total
    assert small.parameters_after < 0.4 * small.parameters_before
    norm = small.module.bn
    assert norm.num_features == len(norm.running_var) == small.module.stem.out_channels


def test_unstructured_tickets_of_a_resnet_lose_units_only_where_hardly_any_weight_is_left():
    x = torch.randn(2, 1, 16, 16, dtype=torch.float64)
    units = {}
    for density in (0.5, 0.03):
        module = thinned(rough(ResNet(blocks=1, width=8)), density)
        small = compact(module, x)
        assert_same(module, small.module, x)
        units[density] = sum(small.removed.values())
    assert units[0.5] == 0 < units[0.03]


def lenet(flatten):
    class LeNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
            self.fc1, self.fc2 = nn.Linear(16 * 16, 20), nn.Linear(20, 10)

        def forward(self, x):
            x = F.max_pool2d(self.conv1(x).relu(), 2)
            x = flatten(F.max_pool2d(self.conv2(x).relu(), 2))
            return self.fc2(F.relu(self.fc1(x)))

    return LeNet


DIGIT = torch.randn(2, 1, 28, 28, dtype=torch.float64)


@pytest.mark.parametrize("flatten", [lambda x: x.flatten(1), lambda x: x.view(x.size(0), -1)])
def test_a_lenet_loses_channels_through_flatten(flatten):
    module = rough(lenet(flatten)())
    module.conv2.weight.data[[2, 3, 9]] = 0  # constant, into the bias of fc1
    module.fc1.weight.data.view(20, 16, 16)[:, [0, 9, 15]] = 0  # read by nothing
    small = compact(module, DIGIT)
    assert small.removed == {"conv2": 5}
    assert not small.stayed
    assert sizes(small)["fc1.weight"] == (20, 11 * 16)
    assert_same(module, small.module, DIGIT)


def test_what_a_view_of_fixed_size_counts_stays():
    module = rough(lenet(lambda x: x.view(-1, 256))())
    module.conv1.weight.data[1] = 0
    module.conv2.weight.data[[2, 3, 9]] = 0
    module.fc1.weight.data[4:] = 0
    small = compact(module, DIGIT)
    assert small.removed == {"conv1": 1, "fc1": 16}
    assert small.stayed == {
        "conv2": "3 units that nothing writes stay: view in LeNet has sizes or positions written into the code"
    }
    assert_same(module, small.module, DIGIT)


def test_what_stands_before_a_unit_that_is_picked_by_number_stays():
    class Picked(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = (nn.Linear(3, 8), nn.Linear(8, 1), nn.Linear(1, 1))

        def forward(self, x):
            x = self.one(x)
            return self.two(x.relu()) + self.three(x[:, 5:6])

    module = rough(Picked())
    module.two.weight.data[:, [2, 7]] = 0
    small = compact(module, torch.zeros(2, 3))
    assert small.removed == {"one": 1}
    assert_same(module, small.module, torch.randn(2, 3, dtype=torch.float64))


def test_a_network_of_which_a_layer_must_stay_loses_its_other_units():
    module = thinned(rough(NETWORKS["dense"][0](), 1), 0.2, 1)
    module.two.weight.data[0] = 0
    small = compact(module, IMAGE)
    assert small.removed["two"] == 1
    assert small.stayed["up"]  # it views channels as 2 times 3
    assert_same(module, small.module, torch.randn(2, 3, 8, 8, dtype=torch.float64))


def test_halves_lose_the_same_positions():
    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = (nn.Linear(3, 8), nn.Linear(4, 2), nn.Linear(4, 2))

        def forward(self, x):
            a, b = self.one(x).chunk(2, 1)
            return self.two(a.relu()) + self.three(b.tanh())

    module, x = rough(Halves()), torch.randn(2, 3, dtype=torch.float64)
    module.two.weight.data[:, 0] = 0
    module.three.weight.data[:, 2] = 0
    assert not compact(module, x).removed
    module.three.weight.data[:, 0] = 0  # now the position is dead in both
    small = compact(module, x)
    assert small.removed == {"one": 2}
    assert_same(module, small.module, x)


class Encoder(nn.Module):
    """Tokens with positions, torch's own encoder layer, and an output."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(11, 8)
        self.positions = nn.Parameter(torch.randn(1, 5, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        self.output = nn.Linear(8, 3)

    def forward(self, tokens):
        return self.output(self.layer(self.tokens(tokens) + self.positions).mean(1))


def test_a_transformer_loses_feed_forward_units_and_keeps_what_attention_takes():
    module, tokens = rough(Encoder()), torch.randint(0, 11, (2, 5))
    module.layer.linear1.weight.data[:3] = 0
    module.layer.linear2.weight.data[:, 8:] = 0
    module.layer.self_attn.in_proj_weight.data[4] = 0
    module.tokens.weight.data[:, 0] = 0
    small = compact(module, tokens)
    assert small.removed == {"layer.linear1": 7}
    assert_same(module, small.module, tokens)
    assert small.stayed["layer.self_attn"] == (
        "1 row of zeros in layer.self_attn.in_proj_weight:"
        " multi_head_attention_forward in layer.self_attn is not followed"
    )
    assert "tokens" not in small.stayed  # the layer writes to the same stream


class Heads(nn.Module):
    """Attention of plain functions."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(6, 12) for _ in range(3))
        self.out = nn.Linear(12, 6)

    def forward(self, x):
        heads = [part(x).unflatten(2, (-1, 3)).transpose(1, 2) for part in (self.q, self.k, self.v)]
        y = F.scaled_dot_product_attention(*heads)
        return x + self.out(y.transpose(1, 2).flatten(2))


def test_a_head_goes_whole_or_not_at_all():
    module = rough(Heads())
    x = torch.randn(2, 4, 6, dtype=torch.float64)
    module.out.weight.data[:, 3:6] = 0  # the second head
    module.out.weight.data[:, 9:11] = 0  # a part of the fourth
    small = compact(module, x)
    assert small.removed == {"q": 3, "k": 3, "v": 3}
    assert sizes(small)["out.weight"] == (6, 9)
    assert_same(module, small.module, x)


def test_depthwise_channels_go_with_those_that_they_take():
    module = rough(nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, groups=6), nn.ReLU(), nn.Conv2d(6, 2, 1)))
    module[0].weight.data[0] = 0  # constant all the way
    module[1].weight.data[1] = 0  # dead between live ends
    module[3].weight.data[:, 2] = 0
    small = compact(module, IMAGE)
    assert small.removed == {"0": 3, "1": 3}
    assert (small.module[1].groups, small.module[1].in_channels) == (3, 3)
    assert_same(module, small.module, torch.randn(2, 3, 8, 8, dtype=torch.float64))


def test_a_convolution_in_groups_loses_the_same_positions_of_each():
    module = rough(nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 9, 3, groups=3), nn.ReLU(), nn.Conv2d(9, 2, 1)))
    module[0].weight.data[[0, 2, 4]] = 0  # constant, into the bias of the next
    module[3].weight.data[:, [0, 3, 6, 1]] = 0
    small = compact(module, IMAGE)
    assert small.removed == {"0": 3, "1": 3}
    assert small.stayed == {"1": "1 unit that nothing reads stays: bundled with live units"}
    assert (small.module[1].groups, small.module[1].weight.shape) == (3, (6, 1, 3, 3))
    assert_same(module, small.module, torch.randn(2, 3, 8, 8, dtype=torch.float64))
    fresh = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 9, 3, groups=3), nn.ReLU(), nn.Conv2d(9, 2, 1))
    assert str(resize(fresh, small.module.state_dict())) == str(small.module)


class Combined(nn.Module):
    """Concatenation, an embedding, scales, positions and a parametric activation."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(9, 5)
        self.one, self.two = nn.Linear(3, 4), nn.Linear(9, 6)
        self.scale = nn.Parameter(torch.randn(6))
        self.temperature = nn.Parameter(torch.tensor([0.7]))
        self.register_buffer("shift", torch.randn(2, 6))
        self.activation, self.norm = nn.PReLU(6), nn.BatchNorm1d(2)
        self.output = nn.Linear(6, 2)

    def forward(self, x, tokens):
        x = torch.cat([self.one(x).relu(), self.tokens(tokens)], 2)
        x = self.two(x) * self.scale.exp() / self.temperature + self.shift
        x = self.activation(x.mT).mT
        return self.output(self.norm(x))


def test_what_is_combined_with_units_shrinks_with_them():
    module = rough(Combined())
    inputs = torch.randn(4, 2, 3, dtype=torch.float64), torch.randint(0, 9, (4, 2))
    module.two.weight.data[:, [0, 6, 7]] = 0
    module.output.weight.data[:, [1, 5]] = 0
    small = compact(module, inputs)
    after = small.module
    assert small.removed == {"one": 1, "tokens": 2, "two": 2}
    assert (after.scale.shape, after.temperature.shape, after.shift.shape) == ((4,), (1,), (2, 4))
    assert (after.activation.num_parameters, after.norm.num_features) == (4, 2)
    assert after.tokens.weight.shape == (9, 3)
    assert isinstance(after.scale, nn.Parameter)
    assert_same(module, after, *inputs)


def test_a_norm_that_two_layers_share_keeps_what_either_needs():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.norm = (nn.Linear(3, 5), nn.Linear(3, 5), nn.BatchNorm1d(5))
            self.three, self.four = nn.Linear(5, 2), nn.Linear(5, 2)

        def forward(self, x):
            return self.three(self.norm(self.one(x))) + self.four(self.norm(self.two(x)))

    module = rough(Shared())
    module.three.weight.data[:, [0, 1]] = 0
    module.four.weight.data[:, [1, 2]] = 0
    x = torch.randn(2, 3, dtype=torch.float64)
    small = compact(module, x)
    assert small.removed == {"one": 1, "two": 1}
    assert small.stayed["one"] == "1 unit that nothing reads stays: bundled with live units"
    assert_same(module, small.module, x)


def test_an_embedding_that_limits_norms_stays():
    module = rough(nn.Sequential(nn.Embedding(5, 4, max_norm=0.5), nn.Linear(4, 2)))
    module[1].weight.data[:, 0] = 0
    tokens = torch.arange(5)
    before = copy.deepcopy(module)
    assert not compact(module, tokens).removed
    assert torch.equal(module[0].weight, before[0].weight)


def test_tied_weights_stay_tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.hidden = nn.Embedding(7, 6), nn.Linear(6, 6)
            self.output = nn.Linear(6, 7, bias=False)
            self.output.weight = self.tokens.weight

        def forward(self, tokens):
            return self.output(self.hidden(self.tokens(tokens)).relu())

    module, tokens = rough(Tied()), torch.randint(0, 7, (2, 3))
    module.tokens.weight.data[:, [1, 2]] = 0
    small = compact(module, tokens)
    assert small.removed == {"tokens": 2, "hidden": 2}
    assert small.module.output.weight is small.module.tokens.weight
    assert_same(module, small.module, tokens)
    loaded = resize(Tied().double(), small.module.state_dict())
    assert loaded.output.weight is loaded.tokens.weight
    assert_same(module, loaded, tokens)


# the same at every size


def padded_to_stride(net, x):
    return net.b(F.pad(net.a(x), (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)))


def padded_by_hand(net, x):
    x = net.a(x)
    return net.b(torch.cat([x, x.new_zeros(*x.shape[:3], x.shape[3] % 2)], 3))


def padded_by_the_layer(net, x):
    return F.conv2d(net.a(x), net.b.weight, net.b.bias, stride=2, padding=x.shape[-1] % 2)


def summed(net, x):
    return net.c(net.a(x).sigmoid().sum((2, 3)))


def summed_over_length(net, x):
    return net.c(net.a(x).sigmoid().sum((2, 3)) / x.shape[2])


def scaled_by_size(net, x):
    return net.b(net.a(x) * (x.shape[3] / 8))


def averaged(net, x):
    return net.c(net.a(x).sigmoid().mean((2, 3)))


FORWARDS = [padded_to_stride, padded_by_hand, padded_by_the_layer, summed, summed_over_length, scaled_by_size, averaged]


class AnySize(nn.Module):
    def __init__(self, computes):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 2, 2), nn.Linear(8, 4)
        self.computes = computes
        for name in {"b", "c"} - {*computes.__code__.co_names}:
            delattr(self, name)  # for the sake of a layer that is not called units would stay

    def forward(self, x):
        return self.computes(self, x)


@pytest.mark.parametrize("computes", FORWARDS)
@pytest.mark.parametrize("bias", [True, False])
def test_a_constant_unit_goes_only_where_it_is_the_same_at_every_size(computes, bias):
    module = rough(AnySize(computes))
    module.a.weight.data[:4] = 0
    if not bias:
        module.a.bias.data[:4] = -1e3 if "sum" in computes.__name__ else 0
    small = compact(module, IMAGE)
    for size in (8, 9, 11, 14):
        for batch in (1, 3):
            assert_same(module, small.module, torch.randn(batch, 3, size, size, dtype=torch.float64))
    assert small.removed == ({} if bias and computes is not averaged else {"a": 4})
    assert ("a" in small.stayed) == (bias and computes is not averaged)


def test_what_takes_from_a_sum_of_constants_stays_too_though_it_is_zero_at_small_sizes():
    class Set(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.c(self.b(self.a(x).sigmoid().sum(1)).relu())

    module = rough(Set())
    module.a.weight.data[:2] = 0
    module.b.weight.data[0] = torch.tensor([1, 1, 0, 0])  # takes constants only
    module.b.bias.data[0] = -20
    small = compact(module, torch.randn(2, 5, 3))
    assert not small.removed
    for length in (1, 5, 100):
        assert_same(module, small.module, torch.randn(2, length, 3, dtype=torch.float64))


def test_a_size_that_only_trying_shows_is_named():
    module = rough(AnySize(scaled_by_size))
    module.a.weight.data[:4] = 0
    why = compact(module, IMAGE).stayed["a"]
    assert why == (
        "4 units that nothing writes stay: without them AnySize gives something else for inputs of the shape (1, 3, 9,"
        " 9)"
    )


# what stays, and why


@pytest.mark.parametrize(("scale", "size"), [(lambda n: 1.0 if n > 12 else 2.0, 8), (lambda n: max(1.0, n / 96), 128)])
def test_sizes_far_from_the_example_are_tried(scale, size):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.b(self.a(x) * scale(x.shape[1]))

    module = rough(Scaled())
    module.a.weight.data[:3] = 0
    small = compact(module, torch.randn(2, 60 if size == 8 else 20, 3, dtype=torch.float64))
    assert_same(module, small.module, torch.randn(2, size, 3, dtype=torch.float64))


def test_units_under_sigmoid_stay_before_a_convolution_that_pads_with_zeros():
    def build(activation, padding, **mode):
        return rough(nn.Sequential(nn.Conv2d(3, 5, 3), activation, nn.Conv2d(5, 2, 3, padding=padding, **mode)))

    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for activation, options, gone in (
        (nn.Sigmoid(), {"padding": 1}, 0),
        (nn.Sigmoid(), {"padding": "same"}, 0),
        (nn.Sigmoid(), {"padding": 0}, 2),
        (nn.Sigmoid(), {"padding": 1, "padding_mode": "reflect"}, 2),
        (nn.Threshold(100.0, 0.0), {"padding": 1}, 2),  # constant, but zero
        (nn.Sigmoid(), {"padding": 0, "bias": False}, 0),
    ):
        module = build(activation, **options)
        module[0].weight.data[[0, 4]] = 0
        small = compact(module, x)
        assert small.removed.get("0", 0) == gone
        assert_same(module, small.module, x)
        if not gone:
            assert small.stayed["0"].startswith("2 units that nothing writes stay: constant")
            assert ("2 pads with zeros" in small.stayed["0"]) == (module[2].bias is not None)
            assert ("2 has no bias" in small.stayed["0"]) == (module[2].bias is None)


class Between(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.one, self.two, self.between = nn.Linear(4, 6), nn.Linear(6, 2), between

    def forward(self, x):
        return self.two(self.between(self.one(x)))


@pytest.mark.parametrize(
    ("between", "named"),
    [
        (nn.Softmax(1), "softmax in between is not followed"),
        (nn.LayerNorm(6), "layer_norm in between needs all of them"),
        (nn.GroupNorm(2, 6), "group_norm in between needs all of them"),
        (lambda x: x.sort(1)[0], "sort in Between is not followed"),
        (lambda x: x[:, x[0].argsort()], "argsort in Between is not followed"),
    ],
)
def test_units_that_go_where_units_mix_stay(between, named):
    module = rough(Between(between))
    module.one.weight.data[[1, 3]] = 0
    x = torch.randn(3, 4, dtype=torch.float64)
    small = compact(module, x)
    assert not small.removed
    assert small.stayed == {"one": f"2 units that nothing writes stay: {named}"}


class Recurrent(nn.Module):
    """A recurrent layer between others."""

    def __init__(self, kind, **options):
        super().__init__()
        self.first, self.cells, self.output = nn.Linear(3, 4), kind(4, 5, batch_first=True, **options), nn.LazyLinear(2)

    def forward(self, x):
        return self.output(self.cells(self.first(x))[0])


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_hidden_unit_that_nothing_reads_goes_from_all_gates_layers_and_directions(kind, options):
    module, x = Recurrent(kind, **options).double(), torch.randn(2, 4, 3, dtype=torch.float64)
    module(x)
    rough(module)
    for name, weight in module.cells.named_parameters():
        if name.startswith(("weight_hh", "weight_ih_l1")):
            weight.data[:, ::5] = 0
    module.output.weight.data[:, ::5] = 0
    small = compact(module, x)
    assert (small.module.cells.hidden_size, small.module.cells.weight_hh_l0.shape[1]) == (4, 4)
    for inputs in (x, torch.randn(3, 9, 3, dtype=torch.float64)):
        assert_same(module, small.module, inputs)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_hidden_unit_that_nothing_writes_stays_as_it_changes_from_step_to_step(kind):
    module, x = Recurrent(kind).double(), torch.randn(2, 1, 3, dtype=torch.float64)
    module(x)
    rough(module)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        getattr(module.cells, name).data[::5] = 0
    small = compact(module, x)
    assert not small.removed
    assert "may depend on the input or its size" in small.stayed["cells"]


def test_a_constant_that_depends_on_the_position_stays():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(3, 4), nn.Linear(4, 2)
            self.where = nn.Parameter(torch.randn(1, 5, 4))

        def forward(self, x):
            return self.two(self.one(x) + self.where)

    module = rough(Positions())
    module.one.weight.data[2] = 0
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    small = compact(module, x)
    assert "constant, but not the same everywhere, where two reads them" in small.stayed["one"]
    module.two.weight.data[:, 2] = 0
    assert compact(module, x).module.where.shape == (1, 5, 3)


def test_a_table_that_inputs_choose_from_is_no_constant():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.two = nn.Parameter(torch.randn(7, 4)), nn.Linear(4, 2)

        def forward(self, tokens):
            return self.two(self.table[tokens])

    module = rough(Table())
    small = compact(module, torch.tensor([3]))
    assert_same(module, small.module, torch.arange(7))


class Picked(nn.Module):
    """Units times a part of a table, or beside rows of it, that an input picks."""

    def __init__(self, pick, meet, *shape):
        super().__init__()
        self.pick, self.meet = pick, meet
        self.a, self.b, self.c = nn.Linear(3, 6), nn.Linear(6 + 6 * (meet is beside), 4), nn.Linear(4, 2)
        self.table = nn.Parameter(torch.randn(shape))

    def forward(self, x, n):
        return self.c(self.b(self.meet(self.a(x), self.pick(self.table, n))).relu())


def beside(h, e):
    return torch.cat([h, e.expand(len(h), 6)], 1)


@pytest.mark.parametrize(
    ("pick", "shape"),
    [
        (lambda e, n: e[n].view(-1, 1), (4,)),
        (lambda e, n: e.exp()[n], (4, 1)),
        (lambda e, n: e.index_select(0, n).sigmoid(), (4, 1)),
        (lambda e, n: e.gather(0, n).view(-1, 1), (4,)),
    ],
)
@pytest.mark.parametrize("meet", [torch.mul, torch.add, beside])
def test_a_constant_that_meets_what_an_input_picks_is_none(pick, meet, shape):
    module = rough(Picked(pick, meet, *shape))
    module.a.weight.data[:3] = 0
    x = torch.randn(2, 3, dtype=torch.float64)
    small = compact(module, (x, torch.tensor([1, 1])))
    assert_same(module, small.module, x, torch.tensor([0, 3]))
    assert_same(module, small.module, x, torch.tensor([2, 1]))


def test_a_constant_that_is_the_same_wherever_an_input_picks_goes():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x, n):
            return self.b(self.a(x)[torch.arange(len(x)), n])

    module = rough(Last())
    module.a.weight.data[:3] = 0
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    small = compact(module, (x, torch.tensor([1, 1])))
    assert small.removed == {"a": 3}
    assert_same(module, small.module, x, torch.tensor([4, 0]))


def test_a_path_that_is_cut_leaves_a_unit_and_the_same_constant():
    module = rough(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2)))
    module[0].weight.data.zero_()
    x = torch.randn(2, 3, dtype=torch.float64)
    small = compact(module, x)
    assert small.removed == {"0": 3, "2": 3}
    assert small.stayed["0"] == "1 unit that nothing writes stays: a layer keeps one unit"
    assert_same(module, small.module, x)


# refusals


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("normed", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
def test_a_layer_with_computed_weights_stays_and_is_named_and_others_shrink(normed):
    module, x = nn.Sequential(normed(nn.Linear(3, 4)), nn.Linear(4, 5), nn.Linear(5, 2)), torch.ones(2, 3)
    module, x = module.double(), x.double()
    module(x)
    module[2].weight.data[:, 1] = 0
    small = compact(module, x)
    assert dict(small.removed) == {"1": 1}
    assert "remove_parametrizations" in small.stayed["0"]
    assert_same(module, small.module, x)


def test_masks_of_torch_that_are_not_permanent_are_refused_by_name():
    plain = nn.Sequential(nn.utils.prune.l1_unstructured(nn.Linear(3, 2), "weight", 0.5), nn.Linear(2, 1))
    with pytest.raises(ValueError, match=r"0 has masks of torch.nn.utils.prune.*remove"):
        compact(plain, torch.zeros(1, 3))


def test_a_forward_that_decides_by_values_is_refused():
    module = Between(lambda x: x if x.sum() > 0 else -x)
    with pytest.raises(ValueError, match=r"in Between forward stopped with: it hands values to Python \(bool\)"):
        compact(module, torch.ones(1, 4))


@pytest.mark.filterwarnings("ignore:.*jit.*:DeprecationWarning")
def test_vmap_is_refused_and_backward_hooks_are_not():
    class Mapped(nn.Sequential):
        def forward(self, x):
            return torch.vmap(super().forward)(x)

    layers = nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)
    with pytest.raises(ValueError, match="called inside vmap"):
        compact(Mapped(*layers), torch.ones(2, 3))
    hook = layers[0].register_full_backward_hook(lambda *_: None)
    module, _ = with_channels(nn.Sequential(*layers), torch.ones(2, 3), 0.5)
    assert hook.id in layers[0]._backward_hooks
    assert compact(module, torch.ones(2, 3)).removed == {"0": 2}


def test_scripted_modules_are_refused_and_compiled_ones_unwrapped():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    module[0].weight.data[1] = 0
    with pytest.raises(ValueError, match="the module is scripted"):
        compact(torch.jit.script(module), torch.ones(1, 3))
    whole = torch.compile(module, backend="eager")
    assert type(compact(whole, torch.ones(1, 3)).module) is nn.Sequential


@zoo.hides_compiled_parts
def test_partly_compiled_modules_are_refused():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    part = nn.Sequential(module[0], torch.compile(module[1], backend="eager"), module[2])
    with pytest.raises(ValueError, match="no function of torch computed in sight"):
        compact(part, torch.ones(1, 3))


def test_patterns_and_inputs_that_fit_nothing_are_named():
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"keep='conv\*' matches no"):
        compact(module, torch.ones(1, 3), keep=["conv*"])
    with pytest.raises(ValueError, match="in 0 forward stopped"):
        compact(module, torch.ones(1, 5))
    with pytest.raises(ValueError, match="in two forward stopped"):
        compact(Between(lambda x: x.float()).double(), torch.ones(1, 4))


# the smaller module at work


def test_the_module_comes_out_as_it_went_in():
    module = NETWORKS["flatten"][0]().train()
    module[0].weight.data[1] = 0
    module[0].weight.grad = torch.ones_like(module[0].weight)
    before = copy.deepcopy(module.state_dict())
    random = torch.get_rng_state()
    small = compact(module, IMAGE.float())
    assert all(torch.equal(before[n], t) for n, t in module.state_dict().items())
    assert module.training and small.module.training
    assert torch.equal(torch.get_rng_state(), random)
    assert module[0].weight.grad is not None
    assert small.module[0].weight.dtype == torch.float32
    assert not any(p._forward_hooks for m in (module, small.module) for p in m.modules())
    storages = {t.data_ptr() for t in module.state_dict().values() if t.numel() > 1}
    assert not storages & {t.data_ptr() for t in small.module.state_dict().values()}
    module.eval(), small.module.eval()
    x = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(small.module(x), module(x))


def test_a_lightning_module_keeps_its_class_and_its_hyperparameters():
    module = rough(ResNet(blocks=1, width=4)).float()
    module, _ = with_channels(module, torch.zeros(1, 1, 16, 16), 0.3)
    small = compact(module, torch.zeros(1, 1, 16, 16))
    assert small.module.hparams == module.hparams
    fresh = resize(ResNet(blocks=1, width=4), small.module.state_dict())
    assert str(fresh) == str(small.module) != str(module)


@pytest.mark.parametrize(
    "build",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2),
        lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
    ],
)
def test_training_goes_on_as_that_of_the_masked_module(build):
    module = rough(nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 8), nn.Tanh(), nn.Linear(8, 3)
    )).train()  # fmt: skip
    module, masks = with_channels(module, IMAGE, 0.5)
    module.train()

    def groups(of):
        return [{"params": list(of[:3].parameters())}, {"params": list(of[3:].parameters()), "lr": 0.02}]

    def train(net, optimizer, seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(3):
            x = torch.randn(5, 3, 8, 8, generator=generator, dtype=torch.float64)
            y = torch.randint(0, 3, (5,), generator=generator)
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            if net is module:
                for name, mask in masks.items():
                    net.get_parameter(name).grad *= mask
            optimizer.step()
            if net is module:
                bake(net, masks)

    optimizer = build(groups(module))
    train(module, optimizer, 0)
    small = compact(module, IMAGE)
    other = build(groups(small.module))
    other.load_state_dict(small.optimizer_state(optimizer))
    assert other.param_groups[1]["lr"] == 0.02
    train(module, optimizer, 1)
    train(small.module, other, 1)
    expected = compact(module, IMAGE).module.state_dict()
    for name, tensor in small.module.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-9, atol=1e-11)


def test_the_state_of_an_optimizer_that_has_no_shapes_is_refused():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = torch.optim.LBFGS(module.parameters())

    def closure():
        optimizer.zero_grad()
        loss = module(torch.ones(2, 3)).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    module[0].weight.data[1] = 0
    with pytest.raises(ValueError, match="in LBFGS has not the shape"):
        compact(module, torch.ones(1, 3)).optimizer_state(optimizer)


@pytest.mark.parametrize(
    "build",
    [
        lambda ps: torch.optim.SGD(ps, 0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
        lambda ps: torch.optim.AdamW(ps, amsgrad=True),
        torch.optim.RMSprop,
        torch.optim.NAdam,
        torch.optim.Adagrad,
        torch.optim.Rprop,
        torch.optim.Adafactor,
    ],
)
@pytest.mark.parametrize("steps", [0, 2])
def test_the_state_of_an_optimizer_makes_the_same_step_or_is_refused(build, steps):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = build(module.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        module(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    module[0].weight.data[:4] = 0
    module[2].weight.data[:, :4] = 0
    before = copy.deepcopy((module.state_dict(), optimizer.state_dict()))
    small = compact(module, torch.zeros(1, 3))
    assert small.removed == {"0": 4}
    if type(optimizer) is torch.optim.Adafactor:
        with pytest.raises(ValueError, match=r"Adafactor.*(astray|shape).*Start the optimizer afresh"):
            small.optimizer_state(optimizer)
    else:
        build(small.module.parameters()).load_state_dict(small.optimizer_state(optimizer))
    for one, other in zip(
        pytree.tree_leaves(before), pytree.tree_leaves((module.state_dict(), optimizer.state_dict()))
    ):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


class Auxiliary(nn.Module):
    """A network with a head that only training reads."""

    def __init__(self, decides=False):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Linear(16, 2)
        self.extra, self.aux = nn.Linear(16, 6), nn.Linear(6, 2)
        self.drop = nn.Dropout(0.1)
        self.decides = decides

    def forward(self, x):
        y = self.norm(self.a(x)).relu()
        if not self.training:
            return self.b(y)
        if self.decides and x.sum() < -1e9:
            return self.b(y)
        return self.b(self.drop(y)), self.aux(self.extra(y).relu())


def without_half(module, x):
    return with_channels(rough(module), x, 0.5, exclude=["aux*", "extra*"])[0]


def test_a_head_that_only_training_reads_shrinks_too_and_training_goes_on():
    x = torch.randn(4, 3, dtype=torch.float64)
    module = without_half(Auxiliary(), x)
    small = compact(module, x)
    assert small.removed == {"a": 8}
    assert not small.stayed
    assert sizes(small)["extra.weight"] == (6, 8)
    assert torch.equal(small.module.norm.num_batches_tracked, module.norm.num_batches_tracked)
    for one in small.module.train()(x):
        one.sum().backward(retain_graph=True)


def test_a_unit_that_only_training_reads_stays():
    module = rough(Auxiliary())
    module.b.weight.data[:, :4] = 0
    module.extra.weight.data[:, 2:] = 0
    assert compact(module, torch.randn(4, 3)).removed == {"a": 2}


def test_units_stay_where_training_cannot_be_followed_and_would_stop():
    x = torch.randn(4, 3, dtype=torch.float64)
    module = without_half(Auxiliary(decides=True), x)
    small = compact(module, x)
    assert not small.removed
    assert "without them forward of extra stops in training: mat1 and mat2" in small.stayed["a"]
    small.module.train()(x)


class Projecting(nn.Module):
    """A network with a projector that `forward` reaches only with targets, if at all."""

    def __init__(self, *, gives_back=False):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.projector = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
        self.gives_back = gives_back

    def features(self, x):
        return self.b(self.a(x).relu()).relu()

    def forward(self, x, y=None):
        h = self.features(x)
        if y is None:
            return (self.c(h), h) if self.gives_back else self.c(h)
        return F.cross_entropy(self.c(h), y) + self.projector(h).square().mean()


def test_what_a_layer_that_no_forward_calls_may_read_stays_and_is_named():
    module, x = Projecting(), torch.randn(2, 3, dtype=torch.float64)
    module, masks = with_channels(rough(module), x, 0.3, exclude=["projector*", "c*"])
    assert masks["b.weight"].any(1).all()
    assert not masks["a.weight"].all()
    module.b.weight.data[:3] = 0
    small = compact(module, x)
    assert set(small.removed) == {"a"}
    assert "it keeps its size, and so do those that it may read: b" in small.stayed["projector.0"]
    assert small.stayed["projector.2"] == "not called by forward: it keeps its size"
    assert "projector.0 may read them" in small.stayed["b"]
    y = torch.tensor([0, 1])
    torch.testing.assert_close(small.module(x, y), module(x, y), rtol=0, atol=1e-12)


def test_what_the_network_gives_back_is_taken_to_be_what_is_read():
    module = rough(Projecting(gives_back=True))
    module.a.weight.data[:3] = 0
    assert compact(module, torch.randn(2, 3)).removed == {"a": 3}


@pytest.mark.parametrize(
    "encode",
    [
        lambda x: x.float() / 255,
        lambda x: F.one_hot(x[:, 0].long() % 4, 4).float(),
        lambda x: torch.arange(4.0).expand(len(x), 4) * x,
    ],
)
def test_a_forward_that_makes_float32_is_compared_in_float32(encode):
    class Casting(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.b(self.a(encode(x)).relu())

    module, x = Casting().eval(), torch.randint(0, 256, (2, 4), dtype=torch.uint8)
    module.a.weight.data[:3] = 0
    small = compact(module, x)
    assert small.removed == {"a": 3}
    torch.testing.assert_close(small.module(x), module(x))
    assert small.module.a.weight.dtype == torch.float32


class Caching(nn.Module):
    """Keeps a part of what it computes for as long as it is in eval mode, as LeViT its attention biases."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 2)
        self.table = nn.Parameter(torch.randn(1, 8))
        self.kept = {}

    def train(self, mode=True):
        if mode:
            self.kept.clear()
        return super().train(mode)

    def forward(self, x):
        bias = self.table * 2
        if not self.training:
            bias = self.kept.setdefault("bias", bias)
        return self.b((self.a(x) + bias).relu())


class Keeping(nn.Module):
    """Keeps what it computed, with a lock, and what a hook that closes over it saw."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 2)
        self.seen, self.last, self.lock = {}, None, threading.Lock()
        self.a.register_forward_hook(lambda _, inputs, output: self.seen.__setitem__("a", output))

    def forward(self, x):
        self.a(x)
        self.last = self.seen["a"].relu()
        return self.b(self.last)


def test_a_module_that_keeps_what_it_computed_is_copied_and_left_alone():
    module, x = rough(Keeping()), torch.randn(2, 3, dtype=torch.float64)
    with_channels(module, x, 0.5)
    assert module.last is None
    assert not module.seen
    module(x)
    last, seen = module.last, module.seen["a"]
    small = compact(module, x)
    assert small.removed == {"a": 4}
    assert module.last is last
    assert module.seen == {"a": seen}
    assert small.module.last.grad_fn is None
    assert_same(module, small.module, x)


@pytest.mark.parametrize("mode", [True, False])
def test_what_is_kept_in_eval_mode_is_left_in_no_module(mode):
    module, x = rough(Caching()), torch.randn(2, 3, dtype=torch.float64)
    module.a.weight.data[:3] = 0
    module.table.data[:, :3] = 0
    module.a.bias.data[:3] = 0
    with torch.no_grad():
        module(x)
    module.train(mode)
    small = compact(module, x)
    assert small.removed == {"a": 3}
    assert not small.module.kept
    assert small.module.training == module.training == mode
    assert_same(module, small.module, x)


def test_lists_of_edges_are_taken_as_they_are():
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.aux = nn.Linear(3, 8), nn.Linear(8, 2), nn.Linear(8, 2)

        def forward(self, x, edges):
            source, target = edges
            y = self.a(x).relu()
            if self.training:
                return self.aux(y)
            return self.b(y * (len(source) / len(target)))

    module, x, edges = rough(Graph()), torch.randn(5, 3, dtype=torch.float64), torch.tensor([[0, 1, 2], [4, 3, 2]])
    module.a.weight.data[:3] = 0
    module.a.bias.data[:3] = -1
    small = compact(module, (x, edges))
    assert small.removed == {"a": 3}
    assert_same(module, small.module, x, edges)
    assert small.module.train()(x, edges).shape == (5, 2)


# a fresh module takes the shapes


def test_a_fresh_module_takes_the_smaller_shapes():
    module = rough(NETWORKS["residual, option B"][0]())
    module, _ = with_channels(module, IMAGE, 0.4)
    small = compact(module, IMAGE).module
    fresh = resize(NETWORKS["residual, option B"][0]().double().eval(), small.state_dict())
    assert str(fresh) == str(small)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(fresh(x), small(x))
    fresh(x).sum().backward()
    assert fresh.stem.weight.grad.shape == fresh.stem.weight.shape


def test_depthwise_layers_take_the_smaller_number_of_groups():
    def build():
        return nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 12, 3, groups=6), nn.PReLU(12), nn.Conv2d(12, 2, 1))

    module = rough(build())
    module[3].weight.data[:, 2:6] = 0
    small = compact(module, IMAGE).module
    fresh = resize(build().double(), small.state_dict())
    assert str(fresh) == str(small)
    assert fresh[1].groups == 4
    assert_same(small, fresh, torch.randn(2, 3, 8, 8, dtype=torch.float64))


def test_what_does_not_fit_is_named_and_changes_nothing():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    wide = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    with pytest.raises(ValueError, match=r"0\.weight: \(5, 3\) in the state dict does not fit into \(4, 3\)"):
        resize(net, wide.state_dict())
    with pytest.raises(ValueError, match="2.weight: missing in the module"):
        resize(net, nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2), nn.Linear(2, 2)).state_dict())
    with pytest.raises(ValueError, match="1.bias: missing in the state dict"):
        resize(net, nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False)).state_dict())
    assert str(net) == str(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))
