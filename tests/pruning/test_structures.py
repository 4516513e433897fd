"""Structures: weights that go together go together, exactly so many, and never return."""

from __future__ import annotations

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lottery.masks.masks import Masks
from lottery.pruning.structures import Grouped, Groups, available, prune_groups, register, resolve

seeds = st.integers(0, 2**31)
amounts = st.floats(0.01, 0.99)


class Rows(Grouped):
    """The rows of each parameter, as a user would write it."""

    def groups(self, masks, module=None, example_input=None):
        return Groups.consecutive({n: torch.arange(len(m)).reshape(-1, 1, 1) for n, m in masks.items()})


class Crossing(Grouped):
    """Rows of a are columns of b, b has rows of its own, and the first row of a is in no group."""

    def groups(self, masks, module=None, example_input=None):
        (rows, *_), (outputs, *_) = masks["a"].shape, masks["b"].shape
        shared, own = torch.arange(rows) - 1, torch.arange(outputs) + rows - 1
        return Groups({"a": (shared.reshape(-1, 1, 1),), "b": (own.reshape(-1, 1, 1), shared.reshape(1, -1, 1))})


apart = st.sampled_from([resolve("kernel"), Rows(), resolve({"name": "block"})])
grouped = apart | st.just(Crossing())


def problem(seed, levels=None, kept=0.7):
    """Scores, of few values where levels are given, and masks that keep some of a (r, i, k) and of b (o, r, k)."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(2, 7, (4,), generator=generator).tolist()
    shapes = {"a": (*sizes[:2], sizes[3]), "b": (sizes[2], sizes[0], sizes[3])}

    def random(shape):
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    scores = {n: random(shape) for n, shape in shapes.items()}
    if levels:
        scores = {n: (s * levels).floor() for n, s in scores.items()}
    return scores, Masks({n: random(shape) < kept for n, shape in shapes.items()})


def surviving(groups, masks):
    """The groups that still have a weight, one by one."""
    return {
        int(g)
        for n, own in groups.ids.items()
        for ids in own
        for g in ids.expand(masks[n].shape)[masks[n]].unique()
        if g >= 0
    }


def everything(masks, amount):
    return [(list(masks), amount)]


@given(seeds, amounts, apart, st.booleans(), st.sampled_from([None, 2]))
def test_exactly_the_asked_for_groups_go(seed, amount, structure, empty, levels):
    scores, masks = problem(seed, levels)
    groups = structure.groups(masks)
    before = len(surviving(groups, masks))
    try:
        after = structure.next_masks(scores, masks, everything(masks, amount), allow_empty=empty)
    except ValueError as error:
        assert not empty
        assert "without emptying a layer" in str(error)
        assert before - round(amount * before) < 2
    else:
        assert len(surviving(groups, after)) == before - round(amount * before)


@given(seeds, amounts, grouped, st.sampled_from(["sum", "mean", "l2"]))
def test_what_goes_goes_whole_and_what_went_stays_away(seed, amount, structure, reduce):
    scores, masks = problem(seed)
    groups = structure.groups(masks)
    after = prune_groups(
        scores, masks, groups, everything(masks, amount), reduce=reduce, allow_empty=True
    )  # fmt: skip
    assert after.nested_in(masks)
    left = surviving(groups, after)
    for name, own in groups.ids.items():
        stays = torch.ones(masks[name].shape, dtype=torch.bool)
        for ids in own:
            stays &= torch.isin(ids, torch.tensor([-1, *left]))
        assert torch.equal(after[name], masks[name] & stays)


@given(seeds, amounts, grouped)
def test_no_parameter_is_emptied_unless_that_is_allowed(seed, amount, structure):
    scores, masks = problem(seed, kept=0.9)
    try:
        after = structure.next_masks(scores, masks, everything(masks, amount))
    except ValueError:
        return
    assert all(after[n].any() for n in masks if masks[n].any())


@given(seeds, grouped, amounts, amounts)
def test_more_pruning_keeps_nothing_that_less_removed(seed, structure, one, other):
    scores, masks = problem(seed)
    after = [
        structure.next_masks(
            scores, masks, everything(masks, amount), allow_empty=True
        )
        for amount in sorted([one, other])
    ]  # fmt: skip
    assert after[1].nested_in(after[0])


@given(seeds, amounts)
def test_rows_go_by_score_with_ties_by_position(seed, amount):
    scores, masks = problem(seed, levels=2, kept=1)
    after = Rows().next_masks(scores, masks, everything(masks, amount), allow_empty=True)
    worth = [float(row.sum()) for s in scores.values() for row in s]
    count = round(amount * len(worth))
    gone = sorted(range(len(worth)), key=lambda i: (worth[i], i))[:count]
    stays = [bool(row.any()) for mask in after.values() for row in mask]
    assert [i for i, kept in enumerate(stays) if not kept] == sorted(gone)


@given(seeds, amounts, st.sampled_from([resolve("kernel"), Rows(), resolve("2:3")]))
def test_permuted_rows_give_permuted_masks(seed, amount, structure):
    generator = torch.Generator().manual_seed(seed)
    scores = {"a": torch.rand(7, 6, 2, generator=generator, dtype=torch.float64)}
    masks = Masks({"a": torch.rand(7, 6, 2, generator=generator) < 0.8})
    order = torch.randperm(7, generator=generator)
    pools = everything(masks, amount)
    plain = structure.next_masks(scores, masks, pools, allow_empty=True)
    moved = structure.next_masks({"a": scores["a"][order]}, Masks({"a": masks["a"][order]}), pools, allow_empty=True)
    assert torch.equal(moved["a"], plain["a"][order])


@given(seeds)
def test_the_order_of_parameters_matters_for_ties_only(seed):
    scores, masks = problem(seed)
    turned = Masks({n: masks[n] for n in ("b", "a")})
    plain, other = (
        resolve("kernel").next_masks(scores, m, everything(m, 0.4), allow_empty=True) for m in (masks, turned)
    )
    assert plain == other


@given(seeds, amounts)
def test_each_pool_has_its_own_amount(seed, amount):
    scores, masks = problem(seed, kept=1)
    pools = [(["a"], amount), (["b"], 0.5)]
    after = Rows().next_masks(scores, masks, pools, allow_empty=True)
    for name, share in pools:
        rows = len(masks[name[0]])
        kept = int(after[name[0]].flatten(1).any(1).sum())
        assert kept == rows - round(share * rows)


@given(seeds, amounts)
def test_a_group_of_several_parameters_counts_where_it_has_its_home(seed, amount):
    scores, masks = problem(seed, kept=1)
    after = Crossing().next_masks(scores, masks, [(["a"], amount)], allow_empty=True)
    gone = ~after["a"].flatten(1).any(1)
    assert int(gone.sum()) == round(amount * (len(gone) - 1))
    assert not gone[0]
    assert torch.equal(~after["b"].transpose(0, 1).flatten(1).any(1), gone)


@given(seeds, amounts, grouped, st.sampled_from(["sum", "mean", "l2"]))
def test_the_scores_of_pruned_weights_mean_nothing(seed, amount, structure, reduce):
    scores, masks = problem(seed)
    other = {n: torch.where(masks[n], s, 100 * s) for n, s in scores.items()}
    one, two = (
        prune_groups(given, masks, structure.groups(masks), everything(masks, amount), reduce=reduce, allow_empty=True)
        for given in (scores, other)
    )
    assert one == two


@pytest.mark.parametrize(("reduce", "lost"), [("sum", 1), ("mean", 1), ("l2", 0)])
def test_the_score_of_a_group_is_a_sum_a_mean_or_a_norm(reduce, lost):
    groups = Groups({"w": (torch.tensor([[0, -1], [1, 1]]),)})
    scores = {"w": torch.tensor([[4.0, -99.0], [-9.0, 5.0]])}
    masks = Masks.ones(scores)
    after = prune_groups(scores, masks, groups, everything(masks, 0.5), reduce=reduce)
    assert after["w"].all(1).tolist() == [lost != 0, lost != 1]


def test_a_weight_counts_once_in_a_group_that_crosses_itself():
    ids = torch.arange(3)
    groups = Groups({"w": (ids[:, None], ids[None])})
    scores = {"w": torch.tensor([[5.0, 0, 0], [0, 0, 6], [0, 0, 9]])}  # 5, 6 and 15
    masks = Masks.ones(scores)
    after = prune_groups(scores, masks, groups, everything(masks, 0.3))
    assert after["w"].diagonal().tolist() == [False, True, True]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4))
def test_blocks_tile_the_matrix_and_end_at_its_edges(outputs, inputs, rows, columns):
    masks = Masks({"w": torch.ones(outputs, inputs, 3, dtype=torch.bool)})
    block = resolve({"name": "block", "shape": [rows, columns]})
    ids = block.groups(masks).ids["w"][0].expand(outputs, inputs, 3)
    tiles = {
        (o // rows, i // columns) for o in range(outputs) for i in range(inputs)
    }  # fmt: skip
    for number, (down, across) in enumerate(sorted(tiles)):
        tile = torch.zeros(outputs, inputs, 3, dtype=torch.bool)
        tile[down * rows :, across * columns :] = True
        tile[(down + 1) * rows :] = False
        tile[:, (across + 1) * columns :] = False
        assert torch.equal(ids == number, tile)


@given(seeds, amounts, st.sampled_from([torch.float16, torch.bfloat16, torch.float32]))
def test_elements_are_the_smallest_of_a_stable_sort(seed, amount, dtype):
    scores, masks = problem(seed, levels=5)
    scores = {n: s.to(dtype) for n, s in scores.items()}
    after = resolve("element").next_masks(scores, masks, everything(masks, amount))
    kept = torch.cat([m.flatten() for m in masks.values()])
    flat = torch.cat([s.double().flatten() for s in scores.values()])
    order = flat.masked_fill(~kept, torch.inf).argsort(stable=True)
    kept[order[: round(amount * masks.kept)]] = False
    assert torch.equal(kept, torch.cat([m.flatten() for m in after.values()]))


@given(seeds, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_n_of_each_m_inputs_stay(seed, n, more, blocks, ties):
    m = n + more
    generator = torch.Generator().manual_seed(seed)
    scores = {"w": torch.randn(3, m * blocks, 2, generator=generator)}
    if ties:
        scores = {"w": scores["w"].sign()}
    masks = Masks({"w": torch.rand(3, m * blocks, 2, generator=generator) < 0.7})
    pattern = resolve(f"{n}:{m}")
    after = pattern.next_masks(scores, masks, everything(masks, 0.2))
    assert after.nested_in(masks)
    assert pattern.next_masks(scores, after, everything(masks, 0.2)) == after
    for o in range(3):
        for k in range(2):
            for start in range(0, m * blocks, m):
                block = range(start, start + m)
                alive = [i for i in block if masks["w"][o, i, k]]
                # of equals the later stay
                best = sorted(alive, key=lambda i: (scores["w"][o, i, k].item(), i))
                kept = [i for i in block if after["w"][o, i, k]]
                assert kept == sorted(best[-n:])


@pytest.mark.parametrize("shape", [(4, 6), (8,), (4, 6, 3, 3)])
def test_inputs_that_m_does_not_divide_are_named(shape):
    masks = Masks({"fc.weight": torch.ones(shape, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"fc\.weight.*exclude=\['fc\.weight'\]"):
        resolve("2:4").next_masks({"fc.weight": torch.ones(shape)}, masks, [])


@pytest.mark.parametrize("name", ["block", "kernel"])
def test_tiles_of_a_vector_are_refused(name):
    masks = Masks({"fc.bias": torch.ones(3, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"fc\.bias has shape \(3,\).*exclude="):
        resolve(name).groups(masks)


def test_more_than_can_go_is_refused():
    w = torch.ones(3, 2, 1)
    masks = Masks.ones({"w": w})
    with pytest.raises(ValueError, match=r"3 of 3 groups of w .* only 2 can"):
        Rows().next_masks({"w": w}, masks, everything(masks, 0.9))
    with pytest.raises(ValueError, match=r"groups of \['w'\], but no scores"):
        Rows().next_masks({}, masks, everything(masks, 0.9))


def test_names_settings_and_objects_are_resolved():
    assert resolve("2:4") == resolve({"name": "n:m", "n": 2, "m": 4})
    assert resolve("filter") == resolve("channel")
    assert resolve({"name": "block", "shape": [2, 8]}).shape == (2, 8)
    assert resolve({"name": "kernel", "reduce": "l2"}).reduce == "l2"
    own = Rows()
    assert resolve(own) is own
    assert resolve(Rows) == own
    assert all(summary.endswith(".") for summary in available().values())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("chanel", "Did you mean channel"),
        ({"shape": [2, 2]}, "no structure None"),
        ({"name": "block", "size": 4}, "has no setting size; it has .*shape"),
        ({"name": "block", "shape": [4, 0]}, r"shape=\[4, 0\]"),
        ({"name": "block", "shape": [4, 4, 4]}, "two positive integers"),
        ({"name": "kernel", "reduce": "max"}, "reduce='max'; the ways are 'sum'"),
        ("4:2", "n=4, m=2"),
        ({"name": "n:m", "n": 2.0}, r"n=2\.0"),
    ],
)
def test_wrong_structures_are_errors_that_help(wrong, message):
    with pytest.raises(ValueError, match=message):
        resolve(wrong)


def test_what_is_no_structure_is_refused():
    with pytest.raises(TypeError, match="structure=3.5: give a name"):
        resolve(3.5)


def test_a_name_cannot_be_taken_twice():
    with pytest.raises(ValueError, match=r"'kernel' already, in lottery\.pruning\.structures"):
        register("kernel")(Rows)


def test_a_number_is_no_structure_and_yaml_makes_one_of_2_4() -> None:
    with pytest.raises(ValueError, match="In YAML, N:M needs quotes"):
        resolve(yaml.safe_load("2:4"))
