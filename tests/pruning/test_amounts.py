"""How many weights are left of which parameters: exact counts in every scope."""

from fnmatch import fnmatchcase
from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lottery import Masks, Pruning
from lottery.pruning.amounts import Amounts
from lottery.pruning.scopes import erdos_renyi

fractions = st.floats(0.01, 0.99)
by_scope = st.sampled_from(["uniform", "erdos-renyi", "erk"])
shapes = st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple)
layers = st.dictionaries(st.sampled_from("abcde"), shapes, min_size=1)
steps = st.integers(1, 4)


def random_scores(shapes, seed, levels=None):
    generator = torch.Generator().manual_seed(seed)
    scores = {n: torch.rand(shape, generator=generator) for n, shape in shapes.items()}
    return {n: (s * levels).floor() if levels else s for n, s in scores.items()}


def some_kept(shapes, seed, density):
    kept = random_scores(shapes, seed + 1)
    return Masks({n: k < density for n, k in kept.items()})


problems = st.tuples(layers, st.integers(0, 10**6), st.sampled_from([None, 2]), st.floats(0.2, 1)).map(
    lambda p: (random_scores(*p[:3]), some_kept(p[0], p[1], p[3]))
)


def densities_of(scope, shapes, density):
    if scope == "uniform":
        return dict.fromkeys(shapes, density)
    return erdos_renyi(shapes, density, kernel=scope == "erk")


# Laws


@given(problems, fractions, by_scope, steps)
def test_each_parameter_is_brought_to_exactly_its_density(problem, amount, scope, count):
    scores, masks = problem
    left = masks.kept - round(amount * masks.kept)
    pruning = Pruning(amount, scope, collapse="warn", steps=count)
    following = pruning.next_masks(scores, masks, 1)
    if left == 0:
        assert following.kept == 0
        return
    shapes = {n: tuple(m.shape) for n, m in masks.items()}
    expected = densities_of(scope, shapes, left / masks.total)
    for name, mask in following.items():
        kept = int(masks[name].sum())
        assert int(mask.sum()) == min(kept, round(expected[name] * mask.numel()))
    assert following.nested_in(masks)


@given(layers, st.integers(0, 10**6), fractions, by_scope)
def test_the_whole_has_its_density_but_for_rounding(shapes, seed, density, scope):
    masks = Masks.ones({n: torch.zeros(shape) for n, shape in shapes.items()})
    pruning = Pruning(densities=[density], scope=scope, collapse="warn")
    following = pruning.next_masks(random_scores(shapes, seed), masks, 1)
    # the goal is rounded once, and each layer once
    assert abs(following.kept - density * masks.total) <= 0.5 + 0.5 * len(masks) + 1e-6


@given(layers, st.integers(0, 10**6), by_scope, st.integers(2, 5))
def test_rounds_of_every_scope_are_nested(shapes, seed, scope, rounds):
    scores = random_scores(shapes, seed)
    masks = Masks.ones(scores)
    for round_number in range(1, rounds + 1):
        following = Pruning(0.4, scope, collapse="warn").next_masks(scores, masks, round_number)
        assert following.nested_in(masks)
        masks = following


@given(st.data(), problems, by_scope, fractions)
def test_the_order_of_parameters_does_not_matter(data, problem, scope, amount):
    scores, masks = problem
    order = data.draw(st.permutations(list(masks)))
    pruning = Pruning(amount, scope, collapse="warn")
    shuffled = Masks({name: masks[name] for name in order})
    assert pruning.next_masks(scores, shuffled, 1) == pruning.next_masks(scores, masks, 1)


@given(problems, fractions, by_scope, st.sampled_from([torch.float16, torch.float64]))
def test_the_dtype_of_scores_does_not_matter(problem, amount, scope, dtype):
    scores, masks = problem
    halves = {name: score.half() for name, score in scores.items()}
    pruning = Pruning(amount, scope, collapse="warn")
    assert pruning.next_masks(
        {name: score.to(dtype) for name, score in halves.items()}, masks, 1
    ) == pruning.next_masks({name: score.float() for name, score in halves.items()}, masks, 1)


falling = st.lists(fractions, min_size=3, max_size=3, unique=True).map(lambda values: sorted(values, reverse=True))
by_pattern = st.dictionaries(st.sampled_from(["a", "[ab]", "[!a]", "c*", "?"]), falling, max_size=3).map(
    lambda found: {**found, "*": [0.5, 0.25, 0.1]}
)


@given(problems, by_pattern, st.integers(1, 3))
def test_densities_by_pattern_hold_for_each_parameter_by_its_first(problem, densities, round_number):
    scores, masks = problem
    if unused := [p for p in densities if not any(fnmatchcase(name, p) for name in masks)]:
        with pytest.raises(ValueError, match="matches no parameter"):
            Amounts(scope="layerwise", densities=densities).pools(masks, 1)
        densities = {p: d for p, d in densities.items() if p not in unused}
    pruning = Pruning(scope="layerwise", densities=densities, collapse="warn")
    following = pruning.next_masks(scores, masks, round_number)
    for name, mask in following.items():
        pattern = next(p for p in densities if fnmatchcase(name, p))
        wanted = round(densities[pattern][round_number - 1] * mask.numel())
        assert int(mask.sum()) == min(int(masks[name].sum()), wanted)


@given(layers, fractions)
def test_pools_name_each_parameter_once_in_every_scope(shapes, amount):
    masks = Masks.ones({n: torch.zeros(shape) for n, shape in shapes.items()})
    for scope in ("global", "layerwise", "uniform", "erdos-renyi", "erk"):
        pools = Amounts(amount, scope).pools(masks, 1)
        assert [n for names, _ in pools for n in names] == list(masks)
        for names, left in pools:
            assert 0 <= left <= sum(prod(shapes[n]) for n in names)


# Examples and bad input


@pytest.mark.parametrize("scope", ["uniform", "erdos-renyi", "erk"])
def test_where_nothing_is_left_no_scope_leaves_anything(scope):
    masks = Masks({"a": torch.tensor([[True, False]]), "b": torch.ones(1, 1) < 0})
    assert Amounts(0.9, scope).pools(masks, 1) == [(["a"], 0), (["b"], 0)]


def test_the_number_of_rounds_is_that_of_the_shortest_list():
    assert Amounts().rounds is None
    assert Amounts(densities=[0.5, 0.2]).rounds == 2
    by_pattern = {"a": [0.5, 0.2, 0.1], "*": [0.5, 0.4]}
    assert Amounts(scope="layerwise", densities=by_pattern).rounds == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scope": "erk", "groups": {"*": 0.1}}, "so does scope='erk'"),
        ({"scope": "uniform", "groups": {"*": 0.1}}, "so does scope='uniform'"),
        ({"densities": {"*": [0.5]}}, "use scope='layerwise', not 'global'"),
        ({"scope": "erk", "densities": {"*": [0.5]}}, "scope='layerwise', not 'erk'"),
        ({"scope": "layerwise", "densities": {"*": 0.5}}, "densities=0.5 must be a list"),
        ({"scope": "layerwise", "densities": {"*": [0.2, 0.5]}}, "must fall"),
        ({"scope": "layerwise", "densities": {}}, "densities={} is empty"),
        ({"densities": []}, r"densities=\[\] is empty"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Pruning(**arguments)


def test_a_parameter_without_a_pattern_is_named():
    amounts = Amounts(scope="layerwise", densities={"a": [0.5]})
    masks = Masks.ones({"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match=r"no pattern for \['b'\]; add one, such as"):
        amounts.pools(masks, 1)


def test_parameters_of_one_dimension_have_no_erdos_renyi_density():
    masks = Masks.ones({"a": torch.zeros(2, 2), "bias": torch.zeros(4)})
    with pytest.raises(ValueError, match="bias has shape"):
        Amounts(0.5, "erk").pools(masks, 1)
