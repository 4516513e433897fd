"""The pruning decision: from scores and masks to the next masks."""

import dataclasses
import warnings
from fnmatch import fnmatchcase

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lottery import Masks, Pruning

dtypes = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
names = st.sampled_from(["fc1.weight", "fc2.weight", "conv.weight", "out.weight"])
fractions = st.floats(0.01, 0.99)
scopes = st.sampled_from(["global", "layerwise"])
patterns = st.sampled_from(["*", "fc*", "fc1.weight", "out.*", "conv.weight", "*1*"])


@st.composite
def networks(draw, distinct=False):
    """Scores and masks of a few layers: few different scores, so mostly ties, unless distinct."""
    layers = draw(st.dictionaries(names, shapes, min_size=1))
    counts = {name: torch.Size(shape).numel() for name, shape in layers.items()}
    total = sum(counts.values())
    if distinct:
        values = draw(st.permutations(range(total)))
    else:
        values = draw(st.lists(st.integers(0, 4), min_size=total, max_size=total))
    kept = draw(st.lists(st.booleans(), min_size=total, max_size=total))
    dtype = draw(dtypes)
    scores, masks = {}, {}
    for name, shape in layers.items():
        own, values = values[: counts[name]], values[counts[name] :]
        bits, kept = kept[: counts[name]], kept[counts[name] :]
        scores[name] = torch.tensor(own, dtype=dtype).reshape(shape)
        masks[name] = torch.tensor(bits).reshape(shape)
    return scores, Masks(masks)


@st.composite
def prunings(draw, names):
    groups = draw(st.dictionaries(patterns, fractions, max_size=3))
    groups = {
        pattern: amount for pattern, amount in groups.items() if any(fnmatchcase(name, pattern) for name in names)
    }
    return Pruning(draw(fractions), draw(scopes), groups, collapse="warn")


def pools_in_plain_words(pruning, names):
    """A parameter belongs to the first group that matches it; layerwise, each is alone."""
    pools = {}
    for name in names:
        matching = [p for p in pruning.groups if fnmatchcase(name, p)]
        pattern = matching[0] if matching else None
        amount = pruning.groups.get(pattern, pruning.amount)
        key = name if pruning.scope == "layerwise" else pattern
        pools.setdefault(key, ([], amount))[0].append(name)
    return list(pools.values())


# Laws


@given(st.data(), networks())
def test_exactly_the_rounded_fraction_of_each_pool_goes(data, network):
    scores, masks = network
    pruning = data.draw(prunings(scores))
    following = pruning.next_masks(scores, masks, number=1)
    for members, amount in pools_in_plain_words(pruning, list(masks)):
        before = sum(int(masks[name].sum()) for name in members)
        after = sum(int(following[name].sum()) for name in members)
        assert before - after == round(amount * before)


@given(st.data(), networks())
def test_the_smallest_go_first_and_among_equals_the_first(data, network):
    scores, masks = network
    pruning = data.draw(prunings(scores))
    following = pruning.next_masks(scores, masks, number=1)
    for members, amount in pools_in_plain_words(pruning, list(masks)):
        ranked = sorted(
            (scores[name].flatten()[i].item(), position, i)
            for position, name in enumerate(members)
            for i in masks[name].flatten().nonzero().flatten().tolist()
        )
        gone = ranked[: round(amount * len(ranked))]
        for position, name in enumerate(members):
            expected = masks[name].flatten().clone()
            expected[[i for _, p, i in gone if p == position]] = False
            assert torch.equal(following[name].flatten(), expected)


@given(st.data(), networks())
def test_what_was_pruned_never_returns_however_large_its_score(data, network):
    scores, masks = network
    huge = {name: s.masked_fill(~masks[name], 6e4) for name, s in scores.items()}
    pruning = data.draw(prunings(scores))
    following = pruning.next_masks(huge, masks, number=1)
    assert following.nested_in(masks)
    assert following == pruning.next_masks(scores, masks, number=1)


@given(st.data(), networks())
def test_the_scores_of_what_was_pruned_may_be_anything(data, network):
    scores, masks = network
    broken = {
        n: s.masked_fill(~masks[n], data.draw(st.sampled_from([torch.nan, torch.inf]))) for n, s in scores.items()
    }
    pruning = data.draw(prunings(scores))
    assert pruning.next_masks(broken, masks, 1) == pruning.next_masks(scores, masks, 1)


@given(st.data(), networks(), dtypes)
def test_the_decision_is_the_same_in_every_precision(data, network, dtype):
    scores, masks = network
    pruning = data.draw(prunings(scores))
    converted = {name: score.to(dtype) for name, score in scores.items()}
    assert pruning.next_masks(converted, masks, 1) == pruning.next_masks(scores, masks, 1)


@given(st.data(), networks())
def test_layers_of_different_precision_are_compared_by_value(data, network):
    scores, masks = network
    pruning = data.draw(prunings(scores))
    mixed = {name: score.to(data.draw(dtypes)) for name, score in scores.items()}
    assert pruning.next_masks(mixed, masks, 1) == pruning.next_masks(scores, masks, 1)


@given(st.data(), networks(distinct=True))
def test_the_order_of_parameters_does_not_matter_where_scores_differ(data, network):
    scores, masks = network
    pruning = data.draw(prunings(scores))
    order = data.draw(st.permutations(list(masks)))
    shuffled = Masks({name: masks[name] for name in order})
    assert pruning.next_masks(scores, shuffled, 1) == pruning.next_masks(scores, masks, 1)


@given(networks(), st.lists(fractions, min_size=1, max_size=5, unique=True), scopes)
def test_densities_say_how_much_is_left_of_each_pool(network, densities, scope):
    scores, masks = network
    masks = Masks.ones(masks)
    densities = sorted(densities, reverse=True)
    pruning = Pruning(densities=densities, scope=scope, collapse="warn")
    for round_number, density in enumerate(densities, start=1):
        following = pruning.next_masks(scores, masks, round_number)
        assert following.nested_in(masks)
        for members, _ in pools_in_plain_words(pruning, list(masks)):
            left = sum(int(following[name].sum()) for name in members)
            total = sum(following[name].numel() for name in members)
            assert left == round(density * total)
        masks = following


@given(networks(), fractions)
def test_a_density_above_that_of_the_masks_takes_nothing(network, density):
    scores, masks = network
    following = Pruning(densities=[density], collapse="warn").next_masks(scores, masks, 1)
    assert following.kept == min(masks.kept, round(density * masks.total))


@given(st.data(), networks())
def test_the_decision_changes_neither_scores_nor_masks(data, network):
    scores, masks = network
    before = {name: score.clone() for name, score in scores.items()}
    copy = Masks(masks)
    data.draw(prunings(scores)).next_masks(scores, masks, 1)
    assert masks == copy
    assert all(torch.equal(scores[name], before[name]) for name in scores)


@given(networks(), fractions, st.integers(1, 9))
def test_many_rounds_are_nested_and_leave_what_repeated_rounding_leaves(network, amount, rounds):
    scores, masks = network
    masks = Masks.ones(masks)
    left = masks.total
    for round_number in range(1, rounds + 1):
        following = Pruning(amount, collapse="warn").next_masks(scores, masks, round_number)
        left -= round(amount * left)
        assert following.nested_in(masks)
        assert following.kept == left
        masks = following


@given(st.data(), networks())
def test_pools_share_out_the_parameters(data, network):
    _, masks = network
    pruning = data.draw(prunings(masks))
    pools = pruning.amounts.pools(masks, number=1)
    assert sorted(n for members, _ in pools for n in members) == sorted(masks)
    assert all(sum(int(masks[n].sum()) for n in members) >= left for members, left in pools)


@given(st.data(), networks(), st.integers(2, 7))
def test_many_steps_leave_as_many_as_one_in_every_pool(data, network, steps):
    scores, masks = network
    pruning = data.draw(prunings(scores))
    many = dataclasses.replace(pruning, steps=steps)
    following = many.next_masks(scores, masks, 1)
    # scores that stay the same choose the same
    assert following == pruning.next_masks(scores, masks, 1)


@given(st.data(), networks(), st.integers(1, 7))
def test_each_step_is_scored_anew_on_an_exponential_schedule(data, network, steps):
    scores, masks = network
    pruning = Pruning(data.draw(fractions), steps=steps, collapse="warn")
    seen = []

    def score(current):
        seen.append(current)
        generator = torch.Generator().manual_seed(current.kept)
        return {n: torch.rand(s.shape, generator=generator) for n, s in scores.items()}

    seen.append(pruning.next_masks(score, masks, 1))
    start, end = masks.kept, masks.kept - round(pruning.amount * masks.kept)
    assert len(seen) == steps + 1 and seen[0] == masks
    for step, current in enumerate(seen):
        on_the_way = start * (end / start) ** (step / steps) if end else start
        if step == steps or not end:
            on_the_way = end if step == steps or step else start
        assert current.kept == round(on_the_way)
        assert current.nested_in(seen[max(0, step - 1)])


@given(st.data(), networks(distinct=True))
def test_permuting_the_rows_of_layers_permutes_their_masks(data, network):
    scores, masks = network
    pruning = data.draw(prunings(scores))
    rows = {n: data.draw(st.permutations(range(len(m)))) for n, m in masks.items()}
    moved = pruning.next_masks(
        {n: s[rows[n]] for n, s in scores.items()}, Masks({n: m[rows[n]] for n, m in masks.items()}), 1
    )
    following = pruning.next_masks(scores, masks, 1)
    assert moved == {n: m[rows[n]] for n, m in following.items()}


# Examples


def ones(**sizes):
    return Masks.ones({name: torch.zeros(size) for name, size in sizes.items()})


def test_global_pruning_takes_from_the_layer_with_the_smallest_weights():
    scores = {"a": torch.arange(1.0, 11), "b": torch.arange(101.0, 111)}
    following = Pruning(0.25).next_masks(scores, ones(a=10, b=10), 1)
    assert following.densities() == {"a": 0.5, "b": 1.0}


def test_layerwise_pruning_takes_from_each_layer():
    scores = {"a": torch.arange(1.0, 11), "b": torch.arange(101.0, 111)}
    following = Pruning(0.2, "layerwise").next_masks(scores, ones(a=10, b=10), 1)
    assert following.densities() == {"a": 0.8, "b": 0.8}


def test_the_output_layer_can_be_pruned_at_half_the_rate():
    scores = {"fc1": torch.rand(100), "fc2": torch.rand(50), "fc3": torch.rand(20)}
    pruning = Pruning(0.2, "layerwise", groups={"fc3": 0.1})
    following = pruning.next_masks(scores, ones(fc1=100, fc2=50, fc3=20), 1)
    assert following.densities() == {"fc1": 0.8, "fc2": 0.8, "fc3": 0.9}


def test_a_parameter_belongs_to_the_first_group_that_matches_it():
    pruning = Pruning(0.5, groups={"fc2": 0.1, "fc*": 0.2})
    masks = ones(fc1=10, fc2=10, fc3=10, out=10)
    assert sorted(pruning.amounts.pools(masks, number=1)) == [(["fc1", "fc3"], 16), (["fc2"], 9), (["out"], 5)]


def test_a_half_is_rounded_as_python_does():
    following = Pruning(0.5).next_masks({"w": torch.arange(1.0, 6)}, ones(w=5), 1)
    assert following["w"].tolist() == [False, False, True, True, True]


def test_too_few_weights_for_the_amount_lose_none():
    assert Pruning(0.2).next_masks({"w": torch.ones(2)}, ones(w=2), 1).kept == 2


def test_a_layer_that_is_empty_already_can_stay_so():
    masks = Masks({"a": torch.zeros(3).bool(), "b": torch.ones(3).bool()})
    scores = {"a": torch.ones(3), "b": torch.ones(3)}
    for scope in ("global", "layerwise"):
        pruning = Pruning(0.4, scope, collapse="warn")
        assert pruning.next_masks(scores, masks, 1).kept == 2


@pytest.mark.parametrize(
    ("value", "pruning"),
    [
        (0.3, Pruning(0.3)),
        ([0.5, 0.1], Pruning(densities=[0.5, 0.1])),
        ((0.5,), Pruning(densities=(0.5,))),
        ({"amount": 0.1, "scope": "layerwise"}, Pruning(0.1, "layerwise")),
        (Pruning(0.4), Pruning(0.4)),
    ],
)
def test_pruning_can_be_written_as_a_number_a_list_or_a_mapping(value, pruning):
    assert Pruning.of(value) == pruning


def test_one_pattern_need_not_be_a_list():
    assert Pruning(include="fc*").include == ("fc*",)
    assert Pruning(exclude=["out.*"]).exclude == ("out.*",)


# Bad input


@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_emptying_a_layer_is_an_error_that_names_it(scope):
    scores = {"small": torch.tensor([0.1]), "large": torch.arange(1.0, 10)}
    pruning = Pruning(0.6, scope)
    with pytest.raises(ValueError) as error:
        pruning.next_masks(scores, ones(small=1, large=9), number=3)
    message = str(error.value)
    assert "last weights of small" in message and "large" not in message
    assert "round 3" in message and "layer collapse" in message
    assert "collapse" in message


def test_emptying_a_layer_goes_on_where_that_is_allowed():
    scores = {"small": torch.tensor([0.1]), "large": torch.arange(1.0, 10)}
    following = Pruning(0.6, collapse="warn").next_masks(scores, ones(small=1, large=9), 1)
    assert not following["small"].any()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_score_that_is_not_finite_is_an_error_that_names_the_layer(value, dtype):
    scores = {"good": torch.ones(3), "bad": torch.ones(3, dtype=dtype)}
    scores["bad"][1] = value
    with pytest.raises(ValueError) as error:
        Pruning().next_masks(scores, ones(good=3, bad=3), number=2)
    message = str(error.value)
    assert "'magnitude' is NaN or infinite for 1 of the 3 weights of bad" in message
    assert "good" not in message and "exclude the layer" in message


@pytest.mark.parametrize("amount", [0, 1, 0.0, 1.0, -0.2, 1.5, 20, float("nan"), True, "0.2"])
def test_an_amount_outside_zero_to_one_is_refused(amount):
    with pytest.raises(ValueError, match="amount=.* between 0 and 1"):
        Pruning(amount)
    with pytest.raises(ValueError, match=r"groups\['fc\*'\]=.* between 0 and 1"):
        Pruning(groups={"fc*": amount})


@pytest.mark.parametrize("density", [0, 1, -0.1, 2, float("nan")])
def test_a_density_outside_zero_to_one_is_refused(density):
    with pytest.raises(ValueError, match="densities=.* between 0 and 1"):
        Pruning(densities=[density])


@pytest.mark.parametrize("densities", [[0.5, 0.5], [0.2, 0.5], [0.5, 0.2, 0.3]])
def test_densities_that_do_not_fall_are_refused(densities):
    with pytest.raises(ValueError, match="must fall"):
        Pruning(densities=densities)


@pytest.mark.parametrize("densities", [0.5, "0.5", ["half"], [None]])
def test_densities_that_are_no_list_of_numbers_are_refused(densities):
    with pytest.raises(ValueError, match="densities="):
        Pruning(densities=densities)


def test_densities_and_groups_together_are_refused():
    with pytest.raises(ValueError, match="cannot be combined"):
        Pruning(densities=[0.5], groups={"fc*": 0.1})


def test_an_unknown_scope_is_refused():
    with pytest.raises(ValueError, match="'blockwise'.*'global', 'layerwise'.*'erk'"):
        Pruning(scope="blockwise")


@pytest.mark.parametrize("kind", ["include", "exclude"])
@pytest.mark.parametrize("patterns", ["", [""], ["fc*", ""], [3]])
def test_an_empty_pattern_is_refused(kind, patterns):
    with pytest.raises(ValueError, match=f"{kind} has an empty pattern"):
        Pruning(**{kind: patterns})


def test_a_group_that_matches_nothing_is_an_error_that_lists_the_names():
    with pytest.raises(ValueError, match=r"groups='head\.\*'.*'fc1', 'fc2'"):
        Pruning(groups={"head.*": 0.1}).amounts.pools(ones(fc1=2, fc2=2), 1)


@pytest.mark.parametrize("steps", [0, -1, 1.0, True, "3", None])
def test_steps_are_a_whole_number_from_one(steps):
    with pytest.raises(ValueError, match=f"steps={steps!r} must be a whole number"):
        Pruning(steps=steps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"score": "magnitud"}, "no score 'magnitud'. Did you mean magnitude"),
        ({"score": {"name": "snip", "batch": 4}}, "no setting batch; it has batches"),
        ({"structure": "chanel"}, "no structure 'chanel'. Did you mean channel"),
        ({"structure": "4:2"}, "0 < n < m"),
        ({"structure": {"name": "block", "size": 4}}, "no setting size"),
        ({"weights": "start of round"}, "weights='start of round'; choose from 'trained'"),
        ({"collapse": True}, "collapse=True; choose from 'stop', 'warn'"),
    ],
)  # fmt: skip
def test_an_unknown_name_or_setting_is_refused_with_the_known_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        Pruning(**arguments)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"a": torch.ones(2, 3)}, "mine.*b: no score"),
        ({"a": torch.ones(2, 3), "b": torch.ones(3, 2)}, r"b: scores of shape \(3, 2\)"),
        ({"a": torch.ones(2, 3), "b": torch.ones(2, 3), "c": torch.ones(1)}, "c: not a"),
    ],
)
def test_scores_that_do_not_fit_are_named_with_the_function(scores, message):
    def mine(context):
        raise NotImplementedError

    masks = Masks.ones({n: torch.zeros(2, 3) for n in "ab"})
    with pytest.raises(ValueError, match=f"(?s){message}"):
        Pruning(score=mine).next_masks(scores, masks, 1)


def test_described_settings_are_the_same_however_they_are_written():
    short = Pruning(score="snip", structure="2:4")
    long = Pruning(score={"name": "snip", "batches": 1}, structure={"name": "n:m", "n": 2, "m": 4})
    assert short.described() == long.described()
    assert short.described()["score"] == {"name": "snip", "batches": 1}
    assert short.described()["structure"] == {"name": "n:m", "n": 2, "m": 4}
    assert Pruning().described()["score"] == {"name": "magnitude"}


def test_a_mask_that_position_decides_is_told_by_layer_and_share():
    """Of 10 weights that stay, 6 score as those that went."""
    scores = {"flat": torch.zeros(16), "steep": torch.arange(1.0, 5)}
    with pytest.warns(UserWarning, match=r"'snip' is equal .* decided 60 % of the mask of round 1, in flat\."):
        Pruning(0.5, score="snip").next_masks(scores, Masks.ones(scores), 1)


@given(networks(distinct=True), st.integers(1, 3))
def test_nothing_is_told_where_no_scores_are_equal(network, steps):
    scores, masks = network
    scores = {name: score.double() for name, score in scores.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Pruning(0.5, steps=steps, collapse="warn").next_masks(scores, masks, 1)


class Block(nn.Module):
    """x + inner(x), and a head."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(x + self.inner(x).relu())


def test_a_layer_that_paths_lead_around_may_go_empty():
    net = Block()
    masks = Masks.ones({"inner.weight": net.inner.weight, "head.weight": net.head.weight})
    inner, head = (
        {"inner.weight": torch.full((4, 4), low), "head.weight": torch.full((2, 4), 1 - low)} for low in (0.0, 1.0)
    )
    pruning, x = Pruning(densities=[8 / 24]), torch.zeros(1, 4)
    following = pruning.next_masks(inner, masks, 1, module=net, example_input=x)
    assert [int(mask.sum()) for mask in following.values()] == [0, 8]
    for scores, known in ((inner, None), (head, x)):
        with pytest.raises(ValueError, match="would remove the last weights of"):
            pruning.next_masks(scores, masks, 1, module=net, example_input=known)
