"""What a ticket costs: counts that are exact, measures that keep their laws, and words that follow from the numbers."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pandas
import pytest
import torch
import zoo
from architectures import ARCHITECTURES
from architectures.halved import half
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.flop_counter import FlopCounterMode

from lottery import Masks
from lottery.deploy import sentences
from lottery.deploy.costs import tables as cost_tables
from lottery.deploy.costs.cost import cost
from lottery.deploy.costs.flops import Flops, count
from lottery.deploy.costs.measure import Latency, Memory, Ratio, held, latencies, peak_memory
from lottery.deploy.costs.variants import BOTH, COMPACTED, DENSE, MASKED, SPARSE, Cost, Variant
from lottery.deploy.inputs import batch_of
from lottery.deploy.sparse.linear import csr
from lottery.masks.prunable import prunable_parameters


def random_masks(module: nn.Module, density: float = 0.3, seed: int = 0) -> Masks:
    generator = torch.Generator().manual_seed(seed)
    parameters = prunable_parameters(module)
    return Masks({n: torch.rand(p.shape, generator=generator) < density for n, p in parameters.items()})


def narrow_masks(net: nn.Sequential, live: int) -> Masks:
    """The first `live` units of the hidden layer, with all their weights."""
    masks = Masks.ones(prunable_parameters(net))
    first, second = masks
    rows, columns = masks[first].clone(), masks[second].clone()
    rows[live:], columns[:, live:] = False, False
    return Masks({first: rows, second: columns})


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


# FLOPs


@settings(max_examples=20)
@given(widths=st.lists(st.integers(1, 9), min_size=2, max_size=4), seed=st.integers(0, 1000), tokens=st.integers(1, 3))
def test_a_linear_layer_takes_two_flops_per_token_and_kept_weight(widths: list[int], seed: int, tokens: int) -> None:
    net = mlp(*widths)
    masks = random_masks(net, 0.5, seed)
    found = count(net, masks, torch.zeros(4, tokens, widths[0]))
    assert found.dense == found.of_weights == 2 * tokens * masks.total
    assert found.sparse == 2 * tokens * masks.kept
    assert found.uncounted == ()


@pytest.mark.parametrize(
    ("layer", "uses"),
    [
        (nn.Conv2d(4, 6, 3, stride=2, padding=1), 16),
        (nn.Conv2d(4, 6, 3, groups=2), 36),
        (nn.ConvTranspose2d(4, 6, 3), 64),
        (nn.Conv2d(4, 4, 3, groups=4), 36),
    ],
    ids=["strided", "groups", "transposed", "depthwise"],
)
def test_a_convolution_takes_two_flops_per_place_and_kept_weight(layer: nn.Module, uses: int) -> None:
    masks = random_masks(layer)
    found = count(layer, masks, torch.zeros(2, 4, 8, 8))
    assert (found.dense, found.sparse) == (2 * uses * masks.total, 2 * uses * masks.kept)


def test_flops_are_those_that_torch_counts() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    x = torch.zeros(1, 1, 8, 8)
    with FlopCounterMode(display=False) as counter:
        net(x)
    assert count(net, random_masks(net), x).dense == counter.get_total_flops()


def test_attention_products_stay_dense_and_its_projections_do_not() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    masks = random_masks(layer)
    tokens = 3
    found = count(layer, masks, torch.zeros(2, tokens, 8))
    products = 2 * 2 * tokens * tokens * 8  # q k^T, and what it weights
    assert found.of_weights == 2 * tokens * masks.total
    assert found.dense == found.of_weights + products
    assert found.sparse == 2 * tokens * masks.kept + products
    with torch.inference_mode():
        assert count(layer, masks, torch.zeros(2, tokens, 8)) == found


def test_a_call_takes_the_density_of_the_part_of_a_weight_that_it_uses() -> None:
    layer = nn.MultiheadAttention(4, 1, batch_first=True)
    masks = {"in_proj_weight": (torch.arange(12) < 4)[:, None].expand(12, 4)}  # queries
    queries, keys = torch.zeros(1, 5, 4), torch.zeros(1, 2, 4)
    found = count(layer, masks, (queries, keys, keys))
    assert found.of_weights == 2 * 4 * 4 * (5 + 2 + 2)
    assert found.dense - found.sparse == 2 * 4 * 4 * (2 + 2)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_counted_step_by_step(kind: Any) -> None:
    layer = kind(3, 5, batch_first=True)
    masks = random_masks(layer)
    found = count(layer, masks, torch.zeros(2, 7, 3))
    assert (found.dense, found.sparse) == (14 * masks.total, 14 * masks.kept)


def test_a_tied_weight_counts_at_each_use() -> None:
    net = zoo.Tied().eval()
    masks = random_masks(net)
    found = count(net, masks, torch.zeros(1, zoo.INPUTS))
    uses = {"encoder.weight": 2, "net.weight": 1}
    assert found.sparse == sum(2 * uses[n] * int(m.sum()) for n, m in masks.items())


def test_what_is_not_counted_for_a_weight_is_named() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 4)
            self.normed = weight_norm(nn.Linear(4, 2))

        def forward(self, x: Tensor) -> Tensor:
            return self.normed(self.table(x))

    net = Net()
    masks = random_masks(net)
    found = count(net, masks, torch.zeros(1, 3, dtype=torch.long))
    assert found == Flops(48, 48, 0, ("table.weight", "normed.parametrizations.weight.original1"))


def test_counting_leaves_torch_and_the_module_as_they_were() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    before = copy.deepcopy(layer.state_dict())

    def flags() -> list[bool]:
        backends = torch.backends
        return [
            backends.mha.get_fastpath_enabled(),
            backends.mkldnn.enabled,
            backends.cudnn.enabled,
            torch.is_grad_enabled(),
        ]

    as_set = flags()
    count(layer, {}, torch.zeros(1, 3, 8))
    with pytest.raises(AssertionError, match="embedding dimension"):
        count(layer, {}, torch.zeros(1, 3, 7))
    assert flags() == as_set
    assert all(torch.equal(t, before[n]) for n, t in layer.state_dict().items())


@settings(max_examples=20)
@given(samples=st.integers(1, 5), size=st.integers(1, 12))
def test_a_batch_repeats_its_samples_in_order(samples: int, size: int) -> None:
    x = torch.arange(samples)[:, None] * torch.ones(1, 2)
    batch, other = batch_of((x, "flag"), size)
    assert other == "flag"
    assert batch[:, 0].tolist() == [k % samples for k in range(size)]


# measures


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=40))
def test_the_interval_of_a_median_holds_it(values: list[float]) -> None:
    found = Ratio.of(values)
    assert min(values) <= found.low <= found.median <= found.high <= max(values)


@pytest.mark.parametrize(("count", "rank"), [(7, 1), (11, 2), (21, 6), (40, 14)])
def test_the_interval_of_a_median_is_that_of_the_sign_test(count: int, rank: int) -> None:
    found = Ratio.of([float(n) for n in range(1, count + 1)])
    assert (found.low, found.high) == (rank, count + 1 - rank)
    missed = 2 * sum(math.comb(count, k) for k in range(rank)) / 2**count
    assert missed <= 0.05 < missed + 2 * math.comb(count, rank) / 2**count


def test_modules_are_timed_in_as_many_blocks_each() -> None:
    fast, slow = nn.Linear(4, 4), mlp(*[256] * 12)
    x = (torch.zeros(64, 4),)
    found = latencies({"a": fast, "b": nn.Sequential(nn.Linear(4, 256), slow)}, x, seconds=0.1)
    a, b = found["a"], found["b"]
    assert 7 <= len(a.seconds) == len(b.seconds) <= 21
    assert b.over(a).low > 1  # some 7,000 times the arithmetic
    assert a.over(a) == Ratio(1.0, 1.0, 1.0)
    assert a.quartiles[0] <= a.median <= a.quartiles[1]


@settings(max_examples=10)
@given(rows=st.integers(1, 64), widths=st.tuples(st.integers(1, 99), st.integers(1, 99), st.integers(1, 99)))
def test_peak_memory_of_two_linear_layers_is_what_lives_at_once(rows: int, widths: tuple[int, int, int]) -> None:
    inputs, hidden, outputs = widths
    net = nn.Sequential(nn.Linear(inputs, hidden), nn.Linear(hidden, outputs))
    found = peak_memory(net, (torch.zeros(rows, inputs),))
    assert found.weights == 4 * sum(p.numel() for p in net.parameters())
    assert found.activations == 4 * rows * (hidden + outputs)
    assert found.peak == found.weights + found.activations


def test_shared_and_sparse_tensors_count_what_they_hold() -> None:
    tied = zoo.Tied()
    assert held(tied) == 4 * sum(p.numel() for p in tied.parameters())
    module = nn.Module()
    module.register_buffer("weight", csr(torch.eye(50)))
    assert held(module) == 4 * (51 + 50 + 50)


# a network in each of its forms


@settings(max_examples=8)
@given(live=st.integers(1, 9), seed=st.integers(0, 99))
def test_a_channel_structured_network_shrinks_to_its_theory(live: int, seed: int) -> None:
    torch.manual_seed(seed)
    net = mlp(7, 10, 3)
    masks = narrow_masks(net, live)
    found = cost(net, masks, torch.randn(2, 7), measured=False)
    compacted, both = found.variants[COMPACTED], found.variants[BOTH]
    assert (found.removed, found.units) == (10 - live, 13)
    assert compacted.parameters == both.parameters == masks.kept + live + 3
    assert compacted.flops == both.flops == found.variants[SPARSE].flops == 2 * masks.kept


def test_zeros_change_nothing_but_the_sparse_file() -> None:
    net = mlp(30, 40, 20)
    masks = random_masks(net, 0.1)
    found = cost(net, masks, torch.randn(2, 30), measured=False)
    dense, masked, sparse = (found.variants[name] for name in (DENSE, MASKED, SPARSE))
    assert dense == masked
    assert dense.parameters == sum(p.numel() for p in net.parameters())
    assert sparse.parameters == dense.parameters - masks.total + masks.kept
    assert sparse.flops == 2 * masks.kept
    assert sparse.bytes < dense.bytes / 2
    assert found.density == masks.density


def test_theory_after_compaction_is_no_more_than_before() -> None:
    net = mlp(20, 30, 30, 5)
    masks = random_masks(net, 0.05)
    found = cost(net, masks, torch.randn(2, 20), measured=False)
    assert found.removed > 0
    assert found.variants[BOTH].flops <= found.variants[SPARSE].flops
    assert found.variants[BOTH].flops <= found.variants[COMPACTED].flops


def test_a_dense_network_stands_in_for_a_baked_one() -> None:
    net = mlp(7, 10, 3)
    masks = narrow_masks(net, 4)
    whole = cost(net, masks, torch.randn(2, 7), measured=False)
    masks.apply(dict(net.named_parameters()))
    baked = cost(net, masks, torch.randn(2, 7), measured=False)
    assert baked.table().equals(whole.table())


def test_the_module_is_not_touched() -> None:
    net = zoo.Net()
    net.train()
    before = copy.deepcopy(net.state_dict())
    cost(net, random_masks(net), zoo.data()[0], measured=False)
    assert net.training
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())


def test_everything_is_measured_at_each_batch_size() -> None:
    net = mlp(20, 50, 3)
    found = cost(net, narrow_masks(net, 5), torch.randn(2, 20), (1, 3), seconds=0.05)
    table = found.table()
    for size in (1, 3):
        for name in (DENSE, MASKED, COMPACTED):
            assert table.loc[name, f"seconds at {size}"] > 0
        assert table.loc[DENSE, f"x seconds at {size}"] == 1
        assert table.loc[MASKED, f"x memory at {size}"] == 1
        assert table.loc[COMPACTED, f"x memory at {size}"] < 0.3
        assert set(found.kernels[SPARSE][size]) == {"0", "2"}
    assert len(cost_tables.time_table(found).rows) >= 6
    plain = json.loads(json.dumps(found.described()))
    assert plain["variants"][COMPACTED]["memory"]["3"]["weights"] == 4 * (21 * 5 + 6 * 3)


def test_where_no_unit_goes_only_zeros_are_timed_beside_dense() -> None:
    net = mlp(20, 10, 3)
    masks = random_masks(net, 0.5).with_masks({"2.weight": torch.ones(3, 10) > 0})
    found = cost(net, masks, torch.randn(2, 20), (2,), seconds=0.05)
    assert found.removed == 0
    assert found.slowness(COMPACTED, 2) is None and found.slowness(BOTH, 2) is None
    assert any(s.startswith("Compaction removed none of 13 units") for s in sentences(found))
    rows = cost_tables.paces_table({"1": found}).rows
    assert rows[0][-1] == rows[0][-3] == "-"


def test_a_network_that_cannot_be_compacted_has_a_table_all_the_same() -> None:
    class Mapped(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return torch.vmap(super().forward)(x)

    net = Mapped(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    masks = Masks.ones(prunable_parameters(net)).with_masks({"2.weight": torch.eye(2, 8) > 0})
    found = cost(net, masks, torch.randn(2, 6), measured=False)
    assert list(found.table().index) == [DENSE, MASKED, SPARSE]
    assert "vmap" in found.refused[COMPACTED]
    said = next(s for s in sentences(found) if s.startswith("Compaction was refused"))
    assert found.refused[COMPACTED] in said


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_sizes": (0,)}, "positive integers"),
        ({"batch_sizes": ()}, "positive integers"),
        ({"batch_sizes": (1.5,)}, "positive integers"),
        ({"masks": {"0.weight": torch.ones(2, 2) > 0}}, r"0.weight: \(2, 2\) in the mask"),
        ({"example_input": torch.zeros(1, 9)}, "forward of Sequential fails"),
        ({"example_input": torch.zeros(0, 7)}, "no sample"),
        ({"keep": ["nothing*"]}, "keep='nothing\\*' matches no"),
        ({"device": "nowhere"}, "device 'nowhere' is not there"),
    ],
)
def test_bad_input_is_refused(changed: dict[str, Any], message: str) -> None:
    net = mlp(7, 10, 3)
    given = {"masks": random_masks(net), "example_input": torch.zeros(1, 7), **changed}
    with pytest.raises(ValueError, match=message):
        cost(net, **given)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named() -> None:
    net = mlp(7, 10, 3)
    with pytest.raises(ValueError, match="device 'cuda' is not there: .*Leave it out"):
        cost(net, random_masks(net), torch.zeros(1, 7), device="cuda")


# words


def made(shares: Mapping[str, float], *, flops: Mapping[str, int] | None = None, **changed: Any) -> Cost:
    """A cost in which each variant has a latency that is the given share of dense, within 1 %."""
    flops = flops or {COMPACTED: 500, BOTH: 100, SPARSE: 100}

    def latency(share: float) -> dict[int, Latency]:
        wobble = [1 + 0.01 * math.sin(k) for k in range(21)] if share != 1 else [1] * 21
        return {1: Latency(tuple(1e-3 * share * w for w in wobble))}

    def variant(name: str) -> Variant:
        share = shares.get(name)
        measured = {} if share is None else latency(share)
        memory = {} if share is None else {1: Memory(1000, 24)}
        return Variant(1000, 4000, flops.get(name, 1000), memory, measured)

    names = [DENSE, MASKED, COMPACTED, SPARSE, BOTH]
    settings: dict[str, Any] = {
        "variants": {name: variant(name) for name in names},
        "kept": 100,
        "prunable": 1000,
        "flops": Flops(1000, 100, 1000),
        "units": 40,
        "removed": 12,
        "stayed": {},
        "refused": {},
        "encodings": pandas.DataFrame({"bytes": [1.0], "x dense": [0.1], "x bound": [1.0]}, index=["bitmap"]),
        "chosen": {"0.weight": "bitmap"},
        "kernels": {},
        "batch_sizes": (1,),
        "device": "here",
    }
    return Cost(**{**settings, **changed})


def test_zeros_that_save_no_time_are_said_to_save_none() -> None:
    words = sentences(made({DENSE: 1, MASKED: 1.02}))
    assert any("Zeros save no time" in s and "1.02 of dense" in s for s in words)
    words = sentences(made({DENSE: 1, MASKED: 0.5}))
    assert not any("save no time" in s for s in words)
    assert "Time won in all: 2.00 x (masked)" in words[-1]


@pytest.mark.parametrize(
    ("share", "says", "won"),
    [(0.5, "2.00 x faster", "2.00 x (compacted)"), (0.97, "as fast", "nothing"), (3.0, "3.00 x slower", "nothing")],
)
def test_words_about_speed_follow_from_the_clock(share: float, says: str, won: str) -> None:
    words = sentences(made({DENSE: 1, MASKED: 1, COMPACTED: share}))
    assert f"The compacted network is {says} at batch size 1." in words
    assert f"Time won in all: {won} at batch size 1, where 10.0 x" in words[-1]


def test_a_difference_within_the_spread_is_none() -> None:
    wide = Latency(tuple(1e-3 * (0.4 if k % 2 else 1.3) for k in range(21)))
    found = made({DENSE: 1, MASKED: 1})
    variants = {**found.variants, COMPACTED: Variant(10, 10, 10, {1: Memory(1, 1)}, {1: wide})}
    words = sentences(made({}, variants=variants))
    assert "The compacted network is as fast at batch size 1." in words


def test_compaction_is_set_beside_theory() -> None:
    words = sentences(made({DENSE: 1, MASKED: 1, COMPACTED: 1}))
    said = next(s for s in words if s.startswith("Compaction removed 12 of 40 units"))
    assert "FLOPs fall by 2.00 x, where 10.0 x fewer FLOPs are possible in theory" in said
    words = sentences(made({}, removed=0, batch_sizes=()))
    assert any(s.startswith("Compaction removed none of 40 units") for s in words)
    assert not any("Time won" in s for s in words)


def test_reasons_and_limits_are_said() -> None:
    found = made(
        {DENSE: 1, MASKED: 1},
        stayed={"conv2": "conv2: 3 units stay"},
        flops={},
        refused={SPARSE: "no sparse kernel here"},
        kernels={BOTH: {1: {"0": "dense"}}},
    )
    words = sentences(found)
    assert "conv2: 3 units stay" in words
    assert "Sparse kernels could not be tried: no sparse kernel here" in words
    assert "No sparse kernel pays in the compacted network at batch size 1." in words
    limited = Flops(1000, 550, 500, ("embed.weight",))
    words = sentences(made({}, batch_sizes=()))
    assert not any("attention" in s or "counted" in s for s in words)
    found = Cost(**{**vars(made({}, batch_sizes=())), "flops": limited})
    assert any(s.startswith("50 % of the FLOPs are of features alone") for s in sentences(found))
    assert "No FLOPs are counted for embed.weight." in sentences(found)


def test_an_unpruned_network_has_nothing_to_gain() -> None:
    net = mlp(5, 4, 3)
    found = cost(net, Masks.ones(prunable_parameters(net)), torch.zeros(1, 5), measured=False)
    assert sentences(found) == ["No weight is pruned: there is nothing to gain."]
    assert BOTH not in found.variants


def test_a_file_that_grows_is_said_to_be_larger() -> None:
    net = mlp(3, 2, 2)  # the description of the masks outweighs them
    found = cost(net, random_masks(net, 0.5), torch.zeros(1, 3), measured=False)
    assert found.share(SPARSE, "bytes") > 1
    assert any("x larger than dense" in s for s in sentences(found))


@given(st.integers(0, 10**13))
def test_counts_are_written_with_three_digits(number: int) -> None:
    text = cost_tables.scaled(number)
    value, _, prefix = text.partition(" ")
    back = float(value) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[prefix]
    assert abs(back - number) <= 0.006 * number


class Said(nn.Linear):
    def forward(self, x):
        return str(super().forward(x))


def test_a_network_that_gives_no_tensor_has_no_cost():
    with pytest.raises(ValueError, match="Said.forward gives a str, in which no tensor is found"):
        cost(Said(2, 2), {"weight": torch.eye(2) > 0}, torch.zeros(1, 2), measured=False)


def test_what_is_no_batch_counts_as_one_sample() -> None:
    network, inputs = ARCHITECTURES["message_passing"]()
    nodes, edges = example = inputs(2, 0)
    found = cost(network.eval(), half(network, example), example, batch_sizes=(1, 64), seconds=0.01)
    layers = {"enter": len(nodes), "message": edges.shape[1], "update": len(nodes), "output": len(nodes)}
    assert found.flops.dense == sum(2 * rows * getattr(network, name).weight.numel() for name, rows in layers.items())
    assert found.batch_sizes == (1,) and not found.refused
    assert found.variants["compacted"].parameters < found.variants["dense"].parameters
