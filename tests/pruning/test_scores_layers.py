"""Scores that look at neighbouring layers, or at what flows through them, against their formulas."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scored import assert_close, context, mlp, seeds
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from lottery import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.scores import Context, compute


@pytest.mark.parametrize(
    "conv", [nn.Conv2d(4, 6, 3, padding=1, stride=2), nn.Conv2d(4, 6, (1, 3), dilation=2, groups=2)]
)
def test_wanda_takes_the_norm_of_what_each_weight_meets(conv):
    torch.manual_seed(0)
    x = torch.randn(3, 4, 7, 7, dtype=torch.float64)
    net = nn.Sequential(conv, nn.Flatten(), nn.LazyLinear(3).double())
    conv.double()
    net(x)
    found = compute("wanda", context(net, x))
    geometry = {"padding": conv.padding, "stride": conv.stride, "dilation": conv.dilation}
    met = F.unfold(x, conv.kernel_size, **geometry).square().sum((0, 2)).sqrt()
    met = met.reshape(conv.groups, 1, *conv.weight.shape[1:])
    norms = met.expand(-1, 6 // conv.groups, -1, -1, -1).reshape(conv.weight.shape)
    assert_close(found["0.weight"], conv.weight.detach().abs() * norms)
    inputs = net[:2](x).detach()
    expected = net[2].weight.detach().abs() * inputs.norm(dim=0)
    assert_close(found["2.weight"], expected)


def test_wanda_sees_an_input_that_is_given_by_name():
    x = torch.randn(5, 6).double()
    net = Wired(lambda x, a, b: b(input=a(input=x).relu()), a=nn.Linear(6, 4), b=nn.Linear(4, 3))
    found = compute("wanda", context(net, x))
    a, b = (net.layers[n].weight.detach() for n in "ab")
    assert_close(found["layers.a.weight"], a.abs() * x.norm(dim=0))
    assert_close(found["layers.b.weight"], b.abs() * net.layers["a"](x).relu().detach().norm(dim=0))


def test_wanda_says_which_layers_no_sample_has_reached():
    net = Wired(lambda x, a, b: a(x) + b(x[:0]).sum(), a=nn.Linear(6, 3), b=nn.Linear(6, 3))
    with pytest.raises(ValueError, match=r"no sample.* reached: \['layers.b.weight'\]. Take more batches, or exclude"):
        compute("wanda", context(net, torch.randn(5, 6).double()))


def test_lookahead_of_three_linear_layers_is_its_formula():
    net, x = mlp(0, (4, 5, 6, 3))
    found = compute("lookahead", context(net, x))
    first, middle, last = (net[i].weight.detach() for i in (0, 2, 4))
    for j in range(6):
        for k in range(5):
            expected = middle[j, k].abs() * first[k].norm() * last[:, j].norm()
            assert_close(found["2.weight"][j, k], expected)
    assert_close(found["0.weight"], first.abs() * middle.norm(dim=0)[:, None])
    assert_close(found["4.weight"], last.abs() * middle.norm(dim=1))


def test_lookahead_folds_batchnorm_as_a_fused_network_has_it():
    torch.manual_seed(0)
    conv, linear = nn.Conv2d(2, 4, 3), nn.Linear(36, 5)
    norms = nn.BatchNorm2d(4), nn.BatchNorm1d(5)
    head = nn.Linear(5, 3)
    net = nn.Sequential(conv, norms[0], nn.ReLU(), nn.Flatten(), linear, norms[1], head)
    for norm in norms:
        nn.init.normal_(norm.weight)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
    x = torch.randn(1, 2, 5, 5).double()
    scores = compute("lookahead", context(net, x))
    fused = nn.Sequential(fuse_conv_bn_eval(conv, norms[0]), nn.Flatten(), fuse_linear_bn_eval(linear, norms[1]), head)
    expected = compute("lookahead", context(fused, x))
    for mine, theirs in (("0", "0"), ("4", "2"), ("6", "3")):
        assert_close(scores[f"{mine}.weight"], expected[f"{theirs}.weight"])


def test_lookahead_of_groups_is_that_of_a_dense_convolution_with_zeros():
    torch.manual_seed(0)

    def net(middle):
        return nn.Sequential(first, middle, nn.ReLU(), last)

    first, last = nn.Conv2d(3, 4, 1), nn.Conv2d(6, 3, 2)
    grouped, dense = nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(4, 6, 3)
    with torch.no_grad():
        dense.weight.zero_()
        dense.weight[:3, :2], dense.weight[3:, 2:] = grouped.weight.split(3)
    found = compute("lookahead", context(net(grouped), torch.randn(1, 3, 5, 5).double()))
    expected = compute("lookahead", context(net(dense), torch.randn(1, 3, 5, 5).double()))
    for name in ("0.weight", "3.weight"):
        assert_close(found[name], expected[name])
    both = expected["1.weight"][:3, :2], expected["1.weight"][3:, 2:]
    assert_close(found["1.weight"], torch.cat(both))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.branch = nn.Linear(4, 5), nn.Linear(5, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.head(torch.relu(x + self.branch(torch.relu(x))))


def test_lookahead_sees_all_layers_that_join_in_a_residual_sum():
    net = Residual()
    found = compute("lookahead", context(net, torch.randn(1, 4).double()))
    into_head = torch.cat([net.stem.weight, net.branch.weight], 1).detach().norm(dim=1)
    assert_close(found["head.weight"], net.head.weight.detach().abs() * into_head)


class Wired(nn.Module):
    """Layers by name, and a function that joins them."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.layers, self.wiring = nn.ModuleDict(layers), forward

    def forward(self, x):
        return self.wiring(x, **self.layers)


def lookahead(net, x):
    return {n.split(".")[1]: score for n, score in compute("lookahead", context(net, x.double())).items()}


def test_lookahead_through_a_concatenation_is_that_of_each_part():
    net = Wired(
        lambda x, a, b, c: c(torch.cat([a(x).relu(), b(x).relu()], 1)),
        a=nn.Linear(6, 8), b=nn.Linear(6, 8), c=nn.Linear(16, 4),
    )  # fmt: skip
    with torch.no_grad():
        net.layers["a"].weight *= 5
    found = lookahead(net, torch.ones(1, 6))
    a, b, c = (net.layers[n].weight.detach() for n in "abc")
    assert_close(found["a"], a.abs() * c[:, :8].norm(dim=0)[:, None])
    assert_close(found["b"], b.abs() * c[:, 8:].norm(dim=0)[:, None])
    assert_close(found["c"], c.abs() * torch.cat([a.norm(dim=1), b.norm(dim=1)]))


def test_lookahead_in_a_dense_block_is_that_of_all_layers_before():
    def wiring(x, a, b, c):
        y = torch.cat([x, a(x).relu()], 1)
        return c(torch.cat([y, b(y).relu()], 1))

    net = Wired(wiring, a=nn.Conv2d(2, 3, 3, padding=1), b=nn.Conv2d(5, 4, 1), c=nn.Conv2d(9, 2, 1))
    found = lookahead(net, torch.ones(1, 2, 4, 4))
    a, b, c = (net.layers[n].weight.detach() for n in "abc")
    rows_a, rows_b = a.flatten(1).norm(dim=1), b.flatten(1).norm(dim=1)
    out_of_a = (b[:, 2:].square().sum((0, 2, 3)) + c[:, 2:5].square().sum((0, 2, 3))).sqrt()
    assert_close(found["a"], a.abs() * out_of_a[:, None, None, None])
    into_b = torch.cat([torch.ones(2), rows_a])
    assert_close(found["b"], b.abs() * into_b[:, None, None] * c[:, 5:].flatten(1).norm(dim=0)[:, None, None, None])
    assert_close(found["c"], c.abs() * torch.cat([into_b, rows_b])[:, None, None])


def into_slices(x, a, b, c):
    z = x.new_zeros(len(x), 8)
    z[:, :4] = a(x)
    z[:, 4:] = b(x)
    return c(z)


def onto_a_slice(x, a, b, c):
    z = x.new_zeros(len(x), 8)
    z[:, :4].add_(a(x))
    return c(z + b(x).repeat(1, 2))


def over_units(x, a, b, c):
    h = torch.cat([a(x), b(x)], 1)
    h[:, 0] = 0
    return c(h)


def onto_some_units(x, a, b, c):
    h = torch.cat([a(x), b(x)], 1)
    h[:, :4].add_(b(x))
    return c(h)


def beside_a_view(x, a, b, c):
    h = torch.cat([a(x), b(x)], 1)
    view = h.view(-1, 8)
    h.add_(b(x).repeat(1, 2))
    return c(view)


@pytest.mark.parametrize("forward", [into_slices, onto_a_slice, over_units, onto_some_units, beside_a_view])
def test_lookahead_refuses_by_name_what_is_written_into_what_others_read(forward):
    net = Wired(forward, a=nn.Linear(6, 4), b=nn.Linear(6, 4), c=nn.Linear(8, 3))
    with pytest.raises(ValueError, match=r"linear takes what comes from (a view that )?(__setitem__|add_) in Wired"):
        lookahead(net, torch.ones(1, 6))


def in_place(x, a, b, c):
    x = x.clone()
    x[:, 0] = 0  # of the input
    h = torch.cat([a(x), b(x)], 1)
    h.view(-1, 8).relu_()
    h.add_(a(x).repeat(1, 2))
    return c(h)


def out_of_place(x, a, b, c):
    h = torch.cat([a(x), b(x)], 1).relu()
    return c(h + a(x).repeat(1, 2))


def test_lookahead_follows_functions_in_place_that_write_into_all_units_or_the_input():
    layers = {"a": nn.Linear(6, 4), "b": nn.Linear(6, 4), "c": nn.Linear(8, 3)}
    found, expected = (lookahead(Wired(forward, **layers), torch.ones(1, 6)) for forward in (in_place, out_of_place))
    assert all(torch.equal(found[name], expected[name]) for name in layers)


def test_lookahead_through_a_permute_follows_each_position():
    net = Wired(
        lambda x, a, b: b(a(x).permute(0, 2, 3, 1).flatten(1)), a=nn.Conv2d(2, 3, 1), b=nn.Linear(12, 4)
    )  # fmt: skip
    found = lookahead(net, torch.ones(1, 2, 2, 2))
    a, b = (net.layers[n].weight.detach() for n in "ab")
    assert_close(found["a"], a.abs() * b.reshape(4, 4, 3).square().sum((0, 1)).sqrt()[:, None, None, None])
    assert_close(found["b"], b.abs() * a.flatten(1).norm(dim=1).repeat(4))


def test_lookahead_through_a_pixel_shuffle_sums_the_channels_of_a_pixel():
    net = Wired(lambda x, a, b: b(F.pixel_shuffle(a(x), 2)), a=nn.Conv2d(1, 8, 1), b=nn.Conv2d(2, 3, 1))
    found = lookahead(net, torch.ones(1, 1, 2, 2))
    a, b = (net.layers[n].weight.detach() for n in "ab")
    assert_close(found["a"], a.abs() * b.flatten(1).norm(dim=0).repeat_interleave(4)[:, None, None, None])
    assert_close(found["b"], b.abs() * a.reshape(2, 4).norm(dim=1)[:, None, None])


def test_lookahead_of_a_layer_that_is_used_twice_has_itself_as_a_neighbour():
    net = Wired(lambda x, a, b, c: c(b(b(a(x)).relu())), a=nn.Linear(3, 5), b=nn.Linear(5, 5), c=nn.Linear(5, 2))
    found = lookahead(net, torch.ones(1, 3))
    a, b, c = (net.layers[n].weight.detach() for n in "abc")
    into = (a.square().sum(1) + b.square().sum(1)).sqrt()
    out_of = (c.square().sum(0) + b.square().sum(0)).sqrt()
    assert_close(found["a"], a.abs() * b.norm(dim=0)[:, None])
    assert_close(found["b"], b.abs() * into * out_of[:, None])
    assert_close(found["c"], c.abs() * b.norm(dim=1))


def test_lookahead_of_tied_layers_counts_the_neighbours_of_both():
    net = Wired(
        lambda x, a, b, c, d: torch.cat([c(a(x)), d(b(x))], 1),
        a=nn.Linear(3, 5), b=nn.Linear(3, 5), c=nn.Linear(5, 2), d=nn.Linear(5, 2),
    )  # fmt: skip
    net.layers["d"].weight = net.layers["c"].weight
    found = lookahead(net, torch.ones(1, 3))
    a, b, c = (net.layers[n].weight.detach() for n in "abc")
    assert found.keys() == {"a", "b", "c"}
    assert_close(found["a"], a.abs() * c.norm(dim=0)[:, None])
    assert_close(found["b"], b.abs() * c.norm(dim=0)[:, None])
    assert_close(found["c"], c.abs() * torch.cat([a, b], 1).norm(dim=1))


@settings(max_examples=12)
@given(seeds, st.lists(st.integers(1, 6), min_size=3, max_size=5))
def test_synaptic_flow_is_the_same_through_every_layer_whatever_the_biases(seed, widths):
    torch.manual_seed(seed)
    layers = [nn.Linear(*pair) for pair in itertools.pairwise(widths)]
    net = nn.Sequential(*(m for layer in layers for m in (layer, nn.ReLU())))
    scores = compute("synflow", context(net, torch.randn(2, widths[0])))
    flow = torch.ones(widths[0], dtype=torch.float64)
    for layer in layers:
        flow = layer.weight.detach().abs() @ flow
    for score in scores.values():
        assert_close(score.sum(), flow.sum())


def test_synflow_of_a_deep_network_does_not_overflow():
    net = nn.Sequential(*(nn.Linear(64, 64) for _ in range(40))).half()
    for layer in net:
        nn.init.constant_(layer.weight, 2.0)
    masks = Masks.ones(prunable_parameters(net))
    scores = compute("synflow", Context(net, masks, example_input=torch.ones(1, 64)))
    assert min(float(s.min()) for s in scores.values()) > 1e38
