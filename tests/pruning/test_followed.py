"""What many functions of torch make of units is followed: half of them go as the masks say, and nothing changes."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lottery.deploy.compaction.compaction import compact
from lottery.masks.masks import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.graph.coupling import couple
from lottery.pruning.pruning import Pruning
from lottery.tickets.baking import bake

DRAWS = torch.Generator().manual_seed(0)


def drawn(*shape):
    return torch.randn(*shape, generator=DRAWS, dtype=torch.float64)


TOKENS, SEQUENCES, NODES, EDGES = (
    torch.randint(0, 9, (3, 7), generator=DRAWS),
    drawn(3, 5, 6),
    drawn(5, 6),
    torch.randint(0, 5, (2, 9), generator=DRAWS),
)
HERE = torch.rand(3, 7, generator=DRAWS) > 0.3
LENGTHS = torch.tensor([5, 4, 2])


class Computed(nn.Module):
    """A network whose forward is a function of its layers and the input."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.computed = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs):
        return self.computed(self, *inputs)


class Hidden(Computed):
    """One that notes how many hidden units there are."""

    def __init__(self, forward, hidden=8, **layers):
        super().__init__(forward, **layers)
        self.hidden = hidden


def by_hand(net, x):
    hidden = cell = torch.zeros(len(x), net.hidden, dtype=x.dtype)
    for step in x.unbind(1):
        i, f, g, o = (net.first(step) + net.again(hidden)).chunk(4, 1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
    return net.last(hidden)


def like_the_first(net, x):
    made = net.first(x)
    hidden = torch.zeros_like(made[:, 0])
    for step in made.unbind(1):
        hidden = (step + net.again(hidden)).tanh()
    return net.last(hidden)


def by_cell(net, x):
    state = None
    for step in x.unbind(1):
        state = net.cell(step, state)
    return net.last(state if isinstance(state, torch.Tensor) else state[0])


def from_zeros(net, x):
    hidden = x.new_zeros(1, len(x), net.hidden)
    return net.last(net.cells(x, (hidden, hidden))[1][0][-1])


def packed(net, x, lengths):
    together = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    made, (hidden, _) = net.cells(together)
    return net.last(hidden[-1]), net.last(nn.utils.rnn.pad_packed_sequence(made, batch_first=True)[0])


def in_heads(net, x):
    return [layer(x).unflatten(-1, (net.hidden, -1)).transpose(1, 2) for layer in (net.q, net.k, net.v)]


def by_matrices(net, x):
    q, k, v = in_heads(net, x)
    return net.last(((q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).flatten(2))


def by_einsum(net, x):
    q, k, v = in_heads(net, x)
    weights = torch.einsum("bhnd,bhmd->bhnm", q, k).softmax(-1)
    return net.last(torch.einsum("bhnm,bhmd->bnhd", weights, v).flatten(2))


def masked_heads(net, x, here):
    q, k, v = in_heads(net, x)
    made = F.scaled_dot_product_attention(q, k, v, attn_mask=here[:, None, None])
    return net.last(made.transpose(1, 2).flatten(2))


def scattered(net, x, edges):
    hidden = net.first(x).relu()
    sent = hidden[edges[0]]
    found = torch.zeros_like(hidden).scatter_add_(0, edges[1][:, None].expand_as(sent), sent)
    return net.last((net.middle(hidden) + net.other(found.index_add(0, edges[1], sent))).relu())


def masked_mean(net, tokens, here):
    made, mine = net.first(net.table(tokens)).relu(), here[..., None]
    made = torch.where(mine, made, torch.zeros_like(made)).masked_fill(~mine, 0)
    return net.last((made * mine.double()).sum(1) / mine.sum(1).clamp(min=1))


def tied(net, x):
    code = net.second(net.first(x).relu()).relu()
    return F.linear(F.linear(code, net.second.weight.t()).relu(), net.first.weight.T)


def attention(forward):
    layers = {name: nn.Linear(6, 16) for name in "qkv"}
    return Hidden(forward, 4, **layers, last=nn.Linear(16, 6))


def linear(*widths):
    names = ("first", "middle", "other") if len(widths) > 2 else ("first", "second")
    return {name: nn.Linear(*pair) for name, pair in zip(names, itertools.pairwise(widths))}


FOLLOWED = {
    "LSTM cells by hand": (
        lambda: Hidden(by_hand, first=nn.Linear(6, 32), again=nn.Linear(8, 32), last=nn.Linear(8, 4)),
        SEQUENCES,
    ),
    "a state like its input": (
        lambda: Computed(like_the_first, first=nn.Linear(6, 8), again=nn.Linear(8, 8), last=nn.Linear(8, 4)),
        SEQUENCES,
    ),
    "LSTMCell": (lambda: Computed(by_cell, cell=nn.LSTMCell(6, 8), last=nn.Linear(8, 4)), SEQUENCES),
    "GRUCell": (lambda: Computed(by_cell, cell=nn.GRUCell(6, 8), last=nn.Linear(8, 4)), SEQUENCES),
    "LSTM": (
        lambda: Computed(
            lambda net, x: net.last(net.cells(x)[0]),
            cells=nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True),
            last=nn.Linear(16, 4),
        ),
        SEQUENCES,
    ),
    "a first state of zeros": (
        lambda: Hidden(from_zeros, cells=nn.LSTM(6, 8, batch_first=True), last=nn.Linear(8, 4)),
        SEQUENCES,
    ),
    "a first state that is learnt": (
        lambda: Computed(
            lambda net, x: net.last(net.cells(x, net.state.expand(1, len(x), -1).contiguous())[0]),
            cells=nn.GRU(6, 8, batch_first=True),
            state=nn.Parameter(torch.randn(1, 1, 8)),
            last=nn.Linear(8, 4),
        ),
        SEQUENCES,
    ),
    "packed sequences": (
        lambda: Computed(packed, cells=nn.LSTM(6, 8, batch_first=True), last=nn.Linear(8, 4)),
        (SEQUENCES, LENGTHS),
    ),
    "attention by matrices": (lambda: attention(by_matrices), SEQUENCES),
    "attention by einsum": (lambda: attention(by_einsum), SEQUENCES),
    "attention with a mask": (lambda: attention(masked_heads), (drawn(3, 7, 6), HERE | HERE[:, :1].logical_not())),
    "einsum with a weight": (
        lambda: Computed(
            lambda net, x: net.last(torch.einsum("bnd,de->bne", x, net.weight).relu()),
            weight=nn.Parameter(torch.randn(6, 8)),
            last=nn.Linear(8, 4),
        ),
        SEQUENCES,
    ),
    "a product with an adjacency matrix": (
        lambda: Computed(
            lambda net, x, a: net.last((a @ net.first(x)).relu()), first=nn.Linear(6, 8), last=nn.Linear(8, 4)
        ),
        (NODES, (drawn(5, 5) > 0).double()),
    ),
    "messages along edges": (lambda: Computed(scattered, **linear(6, 8, 8, 8), last=nn.Linear(8, 4)), (NODES, EDGES)),
    "a mean of what is there": (
        lambda: Computed(masked_mean, table=nn.Embedding(10, 8), first=nn.Linear(8, 8), last=nn.Linear(8, 4)),
        (TOKENS, HERE),
    ),
    "a bag of tokens": (
        lambda: Computed(lambda net, x: net.last(net.table(x)), table=nn.EmbeddingBag(10, 8), last=nn.Linear(8, 4)),
        TOKENS,
    ),
    "tied transposes": (lambda: Computed(tied, **linear(6, 8), second=nn.Linear(8, 4)), NODES),
    "a gated linear unit": (
        lambda: Computed(lambda net, x: net.last(F.glu(net.first(x))), first=nn.Linear(6, 16), last=nn.Linear(8, 4)),
        NODES,
    ),
    "a depthwise transposed convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 8, 2, stride=2, groups=8), nn.Conv2d(8, 4, 1)
        ),
        drawn(2, 3, 8, 8),
    ),
    "a bilinear layer": (
        lambda: Computed(lambda net, x: net.last(net.both(x, x)), both=nn.Bilinear(6, 6, 8), last=nn.Linear(8, 4)),
        NODES,
    ),
}  # fmt: skip


def parts(output):
    return output if isinstance(output, tuple) else (output,)


@pytest.mark.parametrize("kind", FOLLOWED)
def test_half_of_the_units_go_as_the_masks_say_and_the_network_stays_the_same(kind):
    build, given = FOLLOWED[kind]
    torch.manual_seed(0)
    net = build().double().eval()
    parameters = prunable_parameters(
        net, [n for n, p in net.named_parameters() if n.endswith("weight") or "weight_" in n]
    )
    ones = Masks.ones(parameters)
    inputs = given if isinstance(given, tuple) else (given,)
    plan = couple(net, ones, given).plan()
    assert all("stay: the network gives them back" in words for words in plan.values() if "stay" in words)

    pruning = Pruning(0.5, structure="channel", scope="layerwise")
    masks = pruning.next_masks(
        {n: p.detach().abs() for n, p in parameters.items()}, ones, 1, module=net, example_input=given
    )
    bake(net, masks)
    small = compact(net, given)
    named = dict(small.module.named_parameters())
    assert sum(named[n].numel() for n in masks) == masks.kept < 0.6 * masks.total
    for found, expected in zip(parts(small.module(*inputs)), parts(net(*inputs)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_factor_that_counts_the_units_keeps_them():
    """What is multiplied with units one by one is of a fixed size."""
    net = Computed(lambda net, x, y: net.last(net.first(x) * y), first=nn.Linear(6, 8), last=nn.Linear(8, 4))
    both = Masks.ones(prunable_parameters(net, (), ()))
    with pytest.raises(ValueError, match="no channel"):
        couple(net, both, (torch.ones(2, 6), torch.ones(2, 8)))
    alike = couple(net, both, (torch.ones(2, 6), torch.ones(2, 1))).plan()
    assert alike["first.weight"] == "8 of 8 units"


def test_units_that_a_product_sums_over_alone_stay():
    """A Gram matrix takes its units as they are: nothing can be zero for those that went."""
    net = Computed(
        lambda net, x: net.last(net.second((net.first(x) @ net.first(x).mT).flatten(1))),
        first=nn.Linear(6, 8), second=nn.Linear(25, 8), last=nn.Linear(8, 2),
    )  # fmt: skip
    plan = couple(net, Masks.ones(prunable_parameters(net, (), ())), torch.ones(2, 5, 6)).plan()
    assert plan["first.weight"] == "0 of 8 units; 8 stay: matmul in Computed is not followed"
    assert plan["second.weight"] == "8 of 8 units"


def test_a_network_of_which_nothing_can_go_is_refused_by_function_and_line():
    net = Computed(lambda net, x: net.last(torch.cdist(net.first(x), x)), first=nn.Linear(6, 6), last=nn.Linear(5, 2))
    line = net.computed.__code__.co_firstlineno
    with pytest.raises(ValueError, match=rf"cdist in Computed is not followed \(test_followed.py:{line}\)"):
        couple(net, Masks.ones(prunable_parameters(net, (), ())), torch.ones(5, 6))


def test_an_expert_that_no_sample_goes_to_keeps_its_units_or_finds_its_samples_in_the_batch():
    def routed(net, x):
        found = torch.zeros_like(x)
        for number, expert in enumerate(net.experts):
            mine = (x[:, 0] > 0) == bool(number)
            found[mine] = expert(x[mine])
        return net.last(found)

    experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6)) for _ in range(2))
    net = Computed(routed, experts=experts, last=nn.Linear(6, 2))
    masks = Masks.ones(prunable_parameters(net, (), ()))
    x = torch.ones(4, 6)
    plan = couple(net, masks, torch.cat([-x, x])).plan()
    assert plan["experts.0.0.weight"] == plan["experts.1.0.weight"] == "8 of 8 units"
    plan = couple(net, masks, x).plan()
    assert plan["experts.0.0.weight"].startswith("0 of 8 units; 8 stay: linear in experts.0.0")
    assert plan["experts.1.0.weight"] == "8 of 8 units"
