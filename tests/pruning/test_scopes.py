"""How a density is shared out between layers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lottery import Masks, Pruning
from lottery.pruning.scopes import erdos_renyi

layers = st.dictionaries(
    st.text("abc", min_size=1), st.lists(st.integers(1, 60), min_size=2, max_size=4), min_size=1, max_size=8
)
densities = st.floats(1e-4, 1.0)


@given(layers, densities, st.booleans())
def test_the_densities_make_up_the_whole_and_none_exceeds_one(shapes, density, kernel):
    found = erdos_renyi(shapes, density, kernel)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    assert list(found) == list(shapes)
    assert all(0 < value <= 1 for value in found.values())
    kept = sum(found[name] * size for name, size in sizes.items())
    assert kept == pytest.approx(density * sum(sizes.values()), rel=1e-9)


@given(layers, densities)
def test_layers_that_are_not_dense_share_one_epsilon(shapes, density):
    found = erdos_renyi(shapes, density)
    epsilons = [value * math.prod(shapes[name]) / sum(shapes[name]) for name, value in found.items() if value < 1]
    for epsilon in epsilons:
        assert epsilon == pytest.approx(epsilons[0], rel=1e-9)


@given(layers, densities, st.integers(1, 5))
def test_plain_erdos_renyi_does_not_see_the_kernel(shapes, density, kernel):
    linear = {name: shape[:2] for name, shape in shapes.items()}
    convolved = {name: [*shape, kernel, kernel] for name, shape in linear.items()}
    plain = erdos_renyi(convolved, density, kernel=False)
    for name, value in erdos_renyi(linear, density).items():
        assert plain[name] == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("density", [0, -0.1, 1.1, float("nan")])
def test_a_density_outside_its_range_is_refused(density):
    with pytest.raises(ValueError, match="must be in"):
        erdos_renyi({"fc": (3, 3)}, density)


@pytest.mark.parametrize("shape", [(), (3,), (3, 0)])
def test_a_shape_without_two_dimensions_is_refused_by_name(shape):
    with pytest.raises(ValueError, match="fc.bias has shape"):
        erdos_renyi({"fc.bias": shape}, 0.5)


rows = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 2))


def scored(shape, seed):
    """Few different scores, and a mask that leaves some of each."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 5, shape, generator=generator).float()
    return {"w": scores}, Masks({"w": torch.rand(shape, generator=generator) < 0.8})


@given(rows, st.integers(0, 999), st.floats(0.05, 0.95), st.integers(1, 3), st.booleans())
def test_each_row_keeps_exactly_its_share_and_its_best(shape, seed, part, steps, listed):
    scores, masks = scored(shape, seed)
    how = {"densities": [part]} if listed else {"amount": part}
    pruning = Pruning(scope="rows", collapse="warn", steps=steps, **how)
    following = pruning.next_masks(scores, masks, 1)
    assert following.nested_in(masks)
    size = math.prod(shape[1:])
    for row, before, after in zip(scores["w"], masks["w"], following["w"], strict=True):
        alive = int(before.sum())
        assert int(after.sum()) == (min(alive, round(part * size)) if listed else alive - round(part * alive))
        if after.any() and not torch.equal(before, after):
            assert row[after].min() >= row[before & ~after].max()


def test_wanda_prunes_by_rows_unless_told_otherwise():
    assert Pruning(score="wanda").described()["scope"] == "rows"
    assert Pruning(score={"name": "wanda", "batches": 2}, densities=[0.3]).amounts.scope == "rows"
    assert Pruning(score="wanda", scope="global").amounts.scope == "global"
    assert Pruning(score="wanda", structure="2:4").amounts.scope == "global"
    assert Pruning(score="snip").described()["scope"] == "global"


def test_rows_are_refused_where_there_are_none_or_weights_go_together():
    with pytest.raises(ValueError, match=r"b has shape \(3,\); scope='rows' needs \(out, in"):
        Pruning(scope="rows").next_masks({"b": torch.ones(3)}, Masks({"b": torch.ones(3) > 0}), 1)
    with pytest.raises(ValueError, match="scope='rows' has single weights .* structure='kernel'"):
        Pruning(scope="rows", structure="kernel")


def test_an_amount_beside_densities_is_refused_by_name():
    with pytest.raises(ValueError, match="amount=0.3 and densities both say how much goes"):
        Pruning(0.3, densities=[0.5])
