"""Path analysis: which kept weights lie on a path from input to output."""

import itertools
import json
import math
import runpy
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from lottery import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.graph.paths import Connectivity, ConnectivitySummary, effective
from lottery.storage.encoding import decode

COLLAPSE = Path(__file__).parents[2] / "benchmarks" / "collapse.py"
seeds = st.integers(0, 2**32 - 1)
densities = st.sampled_from([0.05, 0.15, 0.3, 0.6, 1.0])


def random_masks(net, density, seed):
    generator = torch.Generator().manual_seed(seed)
    return Masks(
        {name: torch.rand(p.shape, generator=generator) < density for name, p in prunable_parameters(net).items()}
    )


def reached(edges, start):
    """The nodes that a graph search finds, edges being pairs."""
    after = defaultdict(list)
    for tail, head in edges:
        after[tail].append(head)
    found, todo = set(start), list(start)
    while todo:
        for node in after[todo.pop()]:
            if node not in found:
                found.add(node)
                todo.append(node)
    return found


def by_graph_search(masks, edges, inputs, outputs):
    """Masks of the weights with an edge on a path; `edges` are (tail, head, (parameter, index) or None)."""
    kept = [(t, h, w) for t, h, w in edges if w is None or masks[w[0]][w[1]]]
    down = reached([(t, h) for t, h, _ in kept], inputs)
    up = reached([(h, t) for t, h, _ in kept], outputs)
    found = {name: torch.zeros_like(mask) for name, mask in masks.items()}
    for tail, head, weight in kept:
        if weight is not None and tail in down and head in up:
            found[weight[0]][weight[1]] = True
    return found


def units(layer, *shape):
    return [(layer, *place) for place in itertools.product(*map(range, shape))]


def linear_edges(name, before, after):
    return [(tail, head, (name, (o, i))) for o, head in enumerate(after) for i, tail in enumerate(before)]


@given(st.lists(st.integers(1, 6), min_size=2, max_size=6), densities, seeds)
def test_of_a_perceptron_it_finds_what_a_graph_search_finds(widths, density, seed):
    parts = []
    for inputs, outputs in itertools.pairwise(widths):
        parts += [nn.Linear(inputs, outputs), nn.Sigmoid()]
    net = nn.Sequential(*parts)
    masks = random_masks(net, density, seed)
    layers = [units(i, width) for i, width in enumerate(widths)]
    edges = [
        edge
        for i, (before, after) in enumerate(itertools.pairwise(layers))
        for edge in linear_edges(f"{2 * i}.weight", before, after)
    ]
    expected = by_graph_search(masks, edges, layers[0], layers[-1])
    assert effective(net, masks, torch.randn(3, widths[0])) == expected


class SmallConvnet(nn.Module):
    """A strided and a grouped convolution around a residual sum, BatchNorm, maximum pooling and a linear layer."""

    def __init__(self, channels, stride, padding):
        super().__init__()
        self.stem = nn.Conv2d(2, channels, 3, stride, padding)
        self.norm = nn.BatchNorm2d(channels)
        self.body = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.head = nn.LazyLinear(2)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)), inplace=True)
        x = F.max_pool2d(x + F.gelu(self.body(x)), 2, stride=1)
        return self.head(x.flatten(1))


def conv_edges(name, before, after, shape, weight, stride, padding, groups):
    """Edges of a convolution from `before` of (channels, height, width) to `after`."""
    outputs, inputs, *kernel = weight
    for (_, o, y, x), i, u, v in itertools.product(units(after, *shape[1]), range(inputs), *map(range, kernel)):
        channel = o // (outputs // groups) * inputs + i
        row, column = y * stride - padding + u, x * stride - padding + v
        if 0 <= row < shape[0][1] and 0 <= column < shape[0][2]:
            yield (before, channel, row, column), (after, o, y, x), (name, (o, i, u, v))


@settings(max_examples=25)
@given(
    st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), st.integers(5, 7),
    densities, seeds,
)  # fmt: skip
def test_of_a_convnet_it_finds_what_a_graph_search_finds(channels, stride, padding, size, density, seed):
    net = SmallConvnet(channels, stride, padding)
    example = torch.zeros(1, 2, size, size)
    net(example)
    masks = random_masks(net, density, seed)
    image, inner = (2, size, size), tuple(net.stem(example).shape[1:])
    pooled = (channels, inner[1] - 1, inner[2] - 1)
    stem = ("stem.weight", net.stem.weight.shape, stride, padding, 1)
    body = ("body.weight", net.body.weight.shape, 1, 1, channels)
    edges = [
        *conv_edges(stem[0], "image", "a", (image, inner), *stem[1:]),
        *conv_edges(body[0], "a", "b", (inner, inner), *body[1:]),
        *((("a", *u[1:]), ("b", *u[1:]), None) for u in units("a", *inner)),
        *(
            (("b", c, y + dy, x + dx), ("pool", c, y, x), None)
            for _, c, y, x in units("pool", *pooled)
            for dy, dx in itertools.product(range(2), range(2))
        ),
        *linear_edges("head.weight", units("pool", *pooled), units("out", 2)),
    ]
    expected = by_graph_search(masks, edges, units("image", *image), units("out", 2))
    assert effective(net, masks, example) == expected


@settings(max_examples=20)
@given(densities, seeds)
def test_what_is_on_a_path_is_all_on_a_path_again(density, seed):
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2))
    masks = random_masks(net, density, seed)
    found = effective(net, masks, torch.zeros(1, 5))
    assert found.nested_in(masks)
    assert all(type(mask) is torch.Tensor for mask in found.values())
    assert effective(net, found, torch.zeros(1, 5)) == found


@pytest.mark.parametrize("depth", [2, 200])
def test_the_number_of_paths_does_not_matter(depth):
    # up to 100^200 paths, too many for any float
    net = nn.Sequential(*(nn.Linear(100, 100, bias=False) for _ in range(depth)))
    masks = Masks.ones(dict(net.named_parameters()))
    assert effective(net, masks, torch.zeros(1, 100)) == masks
    cut = masks.with_masks({"0.weight": torch.zeros(100, 100, dtype=torch.bool)})
    assert effective(net, cut, torch.zeros(1, 100)).kept == 0


class Functions(nn.Module):
    """A linear layer on either side of a function."""

    def __init__(self, between):
        super().__init__()
        self.before, self.between = nn.Linear(6, 6), between
        self.after = nn.Linear(6, 3)

    def forward(self, x):
        return F.log_softmax(self.after(self.between(self.before(x))), -1)


def in_place(x):
    x = torch.relu_(x)
    x += 1.0
    x *= torch.tensor([-1.0] * 6)
    return x


def gated(x):
    return x * torch.sigmoid(x) / (1 - x.tanh())


@pytest.mark.parametrize(
    "between",
    [
        nn.Sigmoid(), nn.LeakyReLU(inplace=True), nn.Hardswish(), nn.Softmax(-1), nn.Dropout(0.9), nn.BatchNorm1d(6),
        nn.LayerNorm(6), nn.GroupNorm(2, 6), nn.PReLU(6), weight_norm(nn.Linear(6, 6)), in_place, gated,
        lambda x: torch.cat(x.float().chunk(3, dim=1), 1),
        lambda x: x.unflatten(1, (2, 3)).transpose(1, 2).mT.flatten(1),
        lambda x: F.max_pool1d(x[:, None], 1)[:, 0], lambda x: torch.einsum("bi,ij->bj", x, -torch.eye(6)),
    ],
    ids=lambda part: type(part).__name__,
)  # fmt: skip
def test_each_unit_passes_by_itself_through(between):
    net = Functions(between)
    masks = Masks.ones(prunable_parameters(net))
    first, last = torch.zeros(6, 6).bool(), torch.zeros(3, 6).bool()
    first[[1, 2]], last[:, [2, 4]] = True, True
    inner = {n: torch.eye(6).bool() for n in masks if n.startswith("between")}
    masks = masks.with_masks({"before.weight": first, "after.weight": last, **inner})
    found = effective(net, masks, torch.zeros(2, 6))
    assert found["before.weight"].any(1).tolist() == [i == 2 for i in range(6)]
    assert found["after.weight"].any(0).tolist() == [i == 2 for i in range(6)]
    for name in inner:
        assert found[name].nonzero().tolist() == [[2, 2]]


def test_a_bias_begins_no_path_and_counts_where_its_unit_does_if_it_is_pruned():
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    masks = Masks.ones(dict(net.named_parameters()))
    dead, unread = torch.tensor([[False], [True]]), torch.tensor([[True, False]])
    masks = masks.with_masks({"0.weight": dead, "2.weight": unread})
    found = effective(net, masks, torch.zeros(1, 1))
    assert not found["0.weight"].any() and not found["2.weight"].any()
    assert found["0.bias"].tolist() == [True, False] and found["2.bias"].all()


def test_layers_without_a_mask_are_dense_whatever_their_weights():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    nn.init.zeros_(net[1].weight)
    masks = Masks({"0.weight": torch.eye(2, dtype=torch.bool)})
    assert effective(net, masks, torch.zeros(1, 2)) == masks


def test_any_token_may_be_the_input_of_an_embedding():
    net = nn.Sequential(nn.Embedding(4, 2), nn.Flatten(), nn.Linear(6, 1))
    masks = Masks.ones(prunable_parameters(net))
    reads = torch.tensor([[True, False] * 3])
    found = effective(net, masks.with_masks({"2.weight": reads}), torch.zeros(5, 3).long())
    assert found["0.weight"].tolist() == [[True, False]] * 4


def test_tied_weights_count_where_either_use_does():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    net[2].weight = net[0].weight
    masks = Masks({"0.weight": torch.tensor([[False, True], [False, False]])})
    assert effective(net, masks, torch.zeros(1, 2)).kept == 0
    masks = Masks({"0.weight": torch.tensor([[True, True], [False, False]])})
    assert effective(net, masks, torch.zeros(1, 2)) == masks


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.frozen, self.head = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x):
        with torch.no_grad():
            x = self.frozen(x)
        return {"logits": self.head(x)}


def test_a_frozen_part_is_a_part_of_the_path_and_an_output_may_be_a_mapping():
    net = Frozen()
    masks = Masks.ones(prunable_parameters(net))
    with torch.inference_mode():
        assert effective(net, masks, torch.zeros(1, 3)) == masks


def test_the_module_comes_out_as_it_went_in():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.ReLU())
    net[1].eval()
    net[0].weight.grad = torch.ones(4, 3)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    streams, tensors = torch.get_rng_state(), [p.data_ptr() for p in net.parameters()]
    effective(net, random_masks(net, 0.5, 0), torch.zeros(2, 3))
    assert all(torch.equal(value, state[n]) for n, value in net.state_dict().items())
    assert [p.data_ptr() for p in net.parameters()] == tensors
    assert [m.training for m in net] == [True, False, True, True]
    assert torch.equal(net[0].weight.grad, torch.ones(4, 3))
    assert torch.equal(torch.get_rng_state(), streams)


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class Opaque(nn.Module):
    def forward(self, x):
        return Double.apply(x.as_subclass(torch.Tensor))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.keys, self.values = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return torch.softmax(self.keys(x) @ x.mT, -1) @ self.values(x)


class Assigning(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        out = torch.zeros(1, 4, 4)
        out[:, 0] = self.fc(x)[:, 0]
        return out


@pytest.mark.parametrize(
    ("net", "why"),
    [
        (nn.GRU(4, 4), "gru has no rule"),
        (nn.MultiheadAttention(4, 2), "forward"),
        (nn.TransformerEncoderLayer(4, 2, 4), "multi_head_attention_forward has no rule"),
        (Attention(), "matmul of two activations"),
        (Assigning(), "__setitem__ has no rule"),
        (Functions(lambda x: torch.fft.rfft(x).real), "fft_rfft has no rule"),
        (Functions(lambda x: x.detach()), "detach has no rule"),
        (Functions(lambda x: torch.zeros(6).double()), "linear of what is not from the input"),
        (nn.Sequential(nn.Linear(4, 4), Opaque()), "does not come from its input"),
        (Functions(nn.Linear(5, 6)), "shapes cannot be multiplied"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)  # fmt: skip
def test_what_no_path_can_be_followed_through_is_refused_by_name(net, why):
    masks = Masks.ones(prunable_parameters(net))
    width = 6 if isinstance(net, Functions) else 4
    with pytest.raises(ValueError, match=why) as error:
        effective(net, masks, torch.zeros(1, 4, width))
    assert type(net).__name__ in str(error.value)


def test_masks_of_another_module_are_refused():
    masks = Masks({"fc.weight": torch.ones(2, 2, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"fc.weight: not in the module"):
        effective(nn.Linear(2, 2), masks, torch.zeros(1, 2))
    with pytest.raises(ValueError, match="keeps weights that masks does not"):
        Connectivity(masks - masks, masks)


@settings(max_examples=20)
@given(densities, seeds)
def test_the_numbers_agree_with_each_other(density, seed):
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2))
    masks = random_masks(net, density, seed)
    found = Connectivity(masks, effective(net, masks, torch.zeros(1, 5)))
    if masks.kept:
        assert found.compression == pytest.approx(masks.total / masks.kept)
    assert found.effective_density <= found.density
    assert found.effective_compression >= found.compression
    assert found.connected == math.isfinite(found.effective_compression)
    assert (found.lowest_density == 0) == bool(found.empty)
    assert not (found.empty and found.connected)
    assert found.largest_compression == masks.total / 3
    without = Connectivity(masks)
    for name, dead in found.dead_units.items():
        assert without.dead_units[name] <= dead <= found.units[name]


def test_a_compiled_module_has_the_paths_of_the_module():
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    masks, example = random_masks(net, 0.3, 0), torch.zeros(1, 5)
    expected = effective(net, masks, example)
    net.compile(backend="eager")
    net(example)
    assert effective(net, masks, example) == expected


@pytest.mark.parametrize("density", [0.0, 0.5])
def test_the_summary_is_strict_json_also_where_nothing_is_left(density):
    net = nn.Sequential(nn.Linear(5, 8), nn.Linear(8, 2))
    masks = random_masks(net, density, 0)
    for on_path in (None, effective(net, masks, torch.zeros(1, 5))):
        summary = Connectivity(masks, on_path).summary()
        assert decode(json.loads(json.dumps(asdict(summary), allow_nan=False)), ConnectivitySummary) == summary


# figures of ../shared/SCORES.md; the others need more seeds, which benchmarks/collapse.py takes


@pytest.fixture(scope="module")
def collapse():
    return runpy.run_path(str(COLLAPSE))


@pytest.mark.parametrize(
    ("kind", "compression", "expected", "seeds"),
    [("uniform", 96, 993, 10), ("erk", 102, 116, 5), ("erk", 327, 909, 5)],
)  # fmt: skip
def test_random_masks_of_lenet_lose_what_was_measured(collapse, kind, compression, expected, seeds):
    found = collapse["effective_compression"](kind, compression, seeds)
    assert found == pytest.approx(expected, rel=0.15)


def test_synflow_leaves_nearly_all_of_lenet_on_a_path(collapse):
    assert collapse["effective_compression"]("synflow", 300, 1) == pytest.approx(301, abs=1)


def test_synflow_keeps_every_layer_up_to_the_largest_compression(collapse):
    start = collapse["context"](collapse["network"](collapse["WIDTHS"], 0), 0)
    largest = Connectivity(start.masks).largest_compression
    assert largest == 119_400 / 6
    masks = collapse["pruned"]("synflow", start, kept=6, iterations=100)
    found = Connectivity(masks, effective(start.module, masks, start.example_input))
    assert found.compression == largest and not found.empty and found.connected


@pytest.mark.parametrize("score", ["magnitude", "synflow"])
def test_one_shot_scores_empty_a_layer_early(collapse, score):
    start = collapse["context"](collapse["network"](collapse["WIDTHS"], 0), 0)
    assert collapse["first_collapse"](score, 1, start)[0] == "0.75"
