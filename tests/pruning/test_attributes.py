"""Sizes that modules note as attributes shrink with the units that they are the numbers of, or keep these."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lottery.deploy.compaction.compaction import compact
from lottery.deploy.compaction.surgery import resize
from lottery.deploy.export.hugging_face import load_safetensors, save_safetensors
from lottery.masks.masks import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.graph.attributes import Noted, Uses, noted, other_sizes, renoted
from lottery.pruning.pruning import Pruning
from lottery.tickets.baking import bake

X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Attention(nn.Module):
    """Self-attention with a residual, as timm writes it."""

    def __init__(self, heads=4, head_dim=2):
        super().__init__()
        self.heads, self.head_dim, self.width = heads, head_dim, heads * head_dim
        self.norm, self.qkv, self.proj = nn.LayerNorm(8), nn.Linear(8, 3 * self.width), nn.Linear(self.width, 8)

    def forward(self, x):
        n, length, _ = x.shape
        q, k, v = self.split(self.qkv(self.norm(x)), n, length)
        return x + self.proj(self.joined(self.attend(q, k, v), n, length))

    def split(self, qkv, n, length):
        return qkv.reshape(n, length, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)

    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v)

    def joined(self, x, n, length):
        return x.transpose(1, 2).reshape(n, length, self.width)


class Product(Attention):
    """The width is computed where it is needed."""

    def joined(self, x, n, length):
        return x.transpose(1, 2).reshape(n, length, self.heads * self.head_dim)


class ByWidth(Attention):
    """Query, key and value by their width."""

    def split(self, qkv, n, length):
        return (t.view(n, length, self.heads, self.head_dim).transpose(1, 2) for t in qkv.split(self.width, -1))


class WidthOverHeads(Attention):
    """The size of a head is computed from the width of the input."""

    def forward(self, x):
        n, length, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(n, length, 3, self.heads, width // self.heads)
        x = x + self.proj(self.attend(*qkv.permute(2, 0, 3, 1, 4)).transpose(1, 2).reshape(n, length, width))
        return x


class OfTheInput(Attention):
    """What comes out has the width of the input, which stays."""

    def joined(self, x, n, length):
        return x.transpose(1, 2).reshape(n, length, self.norm.normalized_shape[0])


class ByValue(Attention):
    """Transformers: what comes out is reshaped by the sizes of the values."""

    def split(self, qkv, n, length):
        return (t.view(n, length, -1, self.head_dim).transpose(1, 2) for t in qkv.chunk(3, -1))

    def attend(self, q, k, v):
        made = F.scaled_dot_product_attention(q, k, v)
        return made.reshape(made.shape[0], -1, q.shape[2], v.shape[-1]).reshape_as(made)

    def joined(self, x, n, length):
        return x.transpose(1, 2).reshape(n, length, -1)


class Conv1D(nn.Module):
    """GPT-2's: a linear layer by `addmm`, that notes how many units it makes."""

    def __init__(self, made, taken):
        super().__init__()
        self.made, self.weight, self.bias = (
            made,
            nn.Parameter(torch.randn(taken, made)),
            nn.Parameter(torch.randn(made)),
        )

    def forward(self, x):
        size = x.size()[:-1] + (self.made,)
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(size)


class Halves(nn.Module):
    """FasterNet: some channels go through a layer, the others pass, both as many as an attribute says."""

    def __init__(self):
        super().__init__()
        self.first, self.sizes = nn.Linear(8, 12), (5, 7)
        self.middle, self.last = nn.Linear(5, 5), nn.Linear(12, 8)

    def forward(self, x):
        a, b = self.first(x).relu().split(self.sizes, dim=-1)
        return self.last(torch.cat([self.middle(a).relu(), b], -1))


NETWORKS = {
    "qkv in one": (Attention, {"1.heads": 2, "1.width": 4}),
    "a product of attributes": (Product, {"1.heads": 2}),
    "a split by width": (ByWidth, {"1.heads": 2, "1.width": 4}),
    "the sizes of the values": (ByValue, {}),
    "a layer by addmm": (
        lambda: nn.Sequential(nn.LayerNorm(8), Conv1D(6, 8), nn.ReLU(), Conv1D(8, 6)),
        {"1.1.made": 3, "1.3.made": 4},
    ),
    "parts of their own sizes": (Halves, {"1.sizes.0": 4, "1.sizes.1": 2}),
}


def network(build):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), build(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)).double()


def halved(build):
    net = network(build)
    masks = Masks.ones(prunable_parameters(net, (), ()))
    scores = {n: p.detach().abs() for n, p in net.named_parameters() if n in masks}
    masks = Pruning(0.5, structure="channel", scope="layerwise").next_masks(
        scores, masks, 1, module=net, example_input=X
    )
    bake(net, masks)
    return net, masks


@pytest.mark.parametrize("kind", NETWORKS)
def test_an_attribute_that_is_a_number_of_units_shrinks_with_them(kind, tmp_path):
    build, sizes = NETWORKS[kind]
    net, masks = halved(build)
    small = compact(net, X)
    assert sum(p.numel() for n, p in small.module.named_parameters() if n in masks) == masks.kept
    torch.testing.assert_close(small.module(X), net(X), rtol=1e-12, atol=1e-12)
    assert small.sizes == sizes == other_sizes(net, small.module)
    assert not other_sizes(net, copy.deepcopy(net))  # the module is as it was

    fresh = network(build)
    torch.testing.assert_close(resize(fresh, small.module.state_dict(), small.sizes)(X), small.module(X))
    save_safetensors(small.module, tmp_path, sizes=small.sizes)
    fresh = network(build)
    torch.testing.assert_close(load_safetensors(fresh, tmp_path)(X), small.module(X))


@pytest.mark.parametrize("build", [WidthOverHeads, OfTheInput])
def test_heads_stay_where_a_size_that_does_not_follow_counts_them(build):
    """The masks take none of them, so that they shrink the network by all that they take."""
    net, masks = halved(build)
    assert masks["1.qkv.weight"].all()
    small = compact(net, X)
    assert not small.sizes
    torch.testing.assert_close(small.module(X), net(X), rtol=1e-12, atol=1e-12)


def test_what_is_made_of_an_attribute_fixes_it():
    fixed = set()
    four, six = Noted(4, {"a"}, fixed), Noted(6, {"b"}, fixed)
    assert (four * six).places == {"a", "b"} and (3 * four).places == {"a"} and not fixed
    assert 7 // four == 1 and fixed == {"a"}
    assert [six + 1, 1 - six, six % 4, 2**six, six / 4, -six, six**-1] == [7, -5, 2, 64, 1.5, -6, 1 / 6]
    assert fixed == {"a", "b"}
    assert six == 6 and list(range(four)) == [0, 1, 2, 3]


def test_attributes_come_out_as_they_were_though_forward_sets_them():
    net = nn.Sequential(nn.Linear(2, 2))
    net.calls, net.widths, net.flag = 3, [2, 4], True
    with pytest.raises(RuntimeError, match="as forward may"), noted(net, Uses()):
        assert isinstance(net.widths[1], Noted) and net.flag is True and not isinstance(net[0].in_features, Noted)
        net.calls += 1
        raise RuntimeError("as forward may")
    assert net.calls == 4 and type(net.calls) is int and net.widths == [2, 4] and type(net.widths[0]) is int


@pytest.mark.parametrize("place", ["heads", "0.heads", "1.flag"])
def test_an_attribute_that_is_no_size_is_refused_by_name(place):
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    net[1].flag = True
    with pytest.raises(ValueError, match=place.replace(".", r"\.")):
        renoted(net, {place: 2})
