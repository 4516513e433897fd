"""How a density is shared out between layers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
