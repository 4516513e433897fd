"""What masks look like in numbers."""

import itertools
import math

import pandas
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lottery import Masks
from lottery.masks import inspection

shapes = st.sampled_from([(), (1,), (7,), (3, 4), (1, 5), (0, 3), (4, 0), (2, 3, 3), (4, 3, 2, 2), (2, 0, 3)])


def random_masks(shapes, density, seed):
    generator = torch.Generator().manual_seed(seed)
    return Masks(
        {f"layer{n}.weight": torch.rand(shape, generator=generator) < density for n, shape in enumerate(shapes)}
    )


densities = st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0])
lists_of_shapes = st.lists(shapes, max_size=3)
masks = st.builds(random_masks, lists_of_shapes, densities, st.integers(0, 10**6))
pairs = st.builds(
    lambda shapes, a, b, seed: (random_masks(shapes, a, seed), random_masks(shapes, b, seed + 1)),
    lists_of_shapes,
    densities,
    densities,
    st.integers(0, 10**6),
)


def entries(mask):
    """Every position as (output, input, the rest), and whether it is kept."""
    for at in itertools.product(*map(range, mask.shape)):
        yield (*at, 0, 0)[:2], at[2:], bool(mask[at])


# Layers


@given(masks)
def test_the_layers_add_up(some):
    table = inspection.layers(some)
    assert list(table.index) == list(some)
    assert table["kept"].sum() == some.kept
    assert table["weights"].sum() == some.total
    assert list(table["shape"]) == [tuple(mask.shape) for mask in some.values()]
    assert list(table["density"]) == list(some.densities().values())


# Structure


@given(masks)
def test_fans_count_the_kept_weights_of_each_unit(some):
    for mask in some.values():
        into = [0] * math.prod(mask.shape[:1])
        out = [0] * (mask.shape[1] if mask.ndim > 1 else 1)
        for (output, input), _, kept in entries(mask):
            into[output] += kept
            out[input] += kept
        assert inspection.fan_in(mask).tolist() == into
        assert inspection.fan_out(mask).tolist() == out


@given(masks)
def test_the_structure_is_that_of_the_smallest_dense_layer_around_the_kept_weights(some):
    table = inspection.structure(some)
    assert list(table.index) == list(some)
    for name, mask in some.items():
        row = table.loc[name]
        kept = [at for at, _, is_kept in entries(mask) if is_kept]
        outputs, inputs = {at[0] for at in kept}, {at[1] for at in kept}
        assert row["outputs"] - row["dead_outputs"] == len(outputs)
        assert row["inputs"] - row["dead_inputs"] == len(inputs)
        within = sum(at[0] in outputs and at[1] in inputs for at, _, _ in entries(mask))
        assert row["nearest_dense"] == within
        assert row["density_in_it"] == (len(kept) / within if within else 0)
        assert row["fan_in"] == (len(kept) / len(outputs) if kept else 0)
        assert row["fan_out"] == (len(kept) / len(inputs) if kept else 0)


def test_the_structure_of_layers_by_hand():
    kernels = torch.zeros(3, 2, 2, 2, dtype=torch.bool)
    kernels[0, 0, 0, 0] = kernels[2, 0, 1, 1] = kernels[2, 0, 0, 1] = True
    linear = torch.tensor([[True, False, True], [False, False, False]])
    bias = torch.tensor([True, False])
    table = inspection.structure(Masks({"conv": kernels, "fc": linear, "bias": bias}))
    by_hand = {"conv": [3, 1, 2, 1, 1.5, 3, 8, 3 / 8], "fc": [2, 1, 3, 1, 2, 1, 2, 1], "bias": [2, 1, 1, 0, 1, 1, 1, 1]}
    assert {name: list(row) for name, row in table.iterrows()} == by_hand


# Overlap


@given(pairs)
def test_the_overlap_counts_what_is_in_both(pair):
    one, other = pair
    table = inspection.overlap(one, other)
    assert list(table.index) == [*one, "all"]
    flat = {name: (one[name].view(-1), other[name].view(-1)) for name in one}
    empty = [torch.zeros(0, dtype=torch.bool)]
    flat["all"] = tuple(torch.cat([m.view(-1) for m in some.values()] or empty) for some in pair)
    for name, (here, there) in flat.items():
        both, either = int((here & there).sum()), int((here | there).sum())
        row = table.loc[name]
        assert (row["kept"], row["kept_other"]) == (here.sum(), there.sum())
        assert row["both"] == both
        assert row["jaccard"] == (both / either if either else 1)
        differ = int((here ^ there).sum())
        assert row["hamming"] == (differ / len(here) if len(here) else 0)


@given(pairs)
def test_the_overlap_is_the_same_from_both_sides(pair):
    one, other = (inspection.overlap(*pair), inspection.overlap(*reversed(pair)))
    swapped = other.rename(columns={"kept": "kept_other", "kept_other": "kept"})
    assert one.equals(swapped[one.columns])


@given(masks)
def test_masks_overlap_with_themselves_in_full(some):
    table = inspection.overlap(some, some)
    assert (table["jaccard"] == 1).all() and (table["hamming"] == 0).all()
    assert (table["both"] == table["kept"]).all()
    assert (table["chance_jaccard"] <= 1).all() and (table["chance_hamming"] >= 0).all()
    assert not (table["z"] < 0).any()


@given(pairs)
def test_chance_is_the_average_over_all_ways_to_draw_a_small_mask(pair):
    """Exact: both masks are of given sizes; shuffling one through every position averages to the other's density."""
    one, other = pair
    table = inspection.overlap(one, other)
    for name in one:
        n, there = one[name].numel(), other[name].view(-1)
        if not n:
            continue
        rolled = [one[name].view(-1).roll(k) for k in range(n)]
        both = sum(int((some & there).sum()) for some in rolled) / n
        differ = sum(int((some ^ there).sum()) for some in rolled) / n / n
        either = table.loc[name, "kept"] + table.loc[name, "kept_other"]
        row = table.loc[name]
        assert row["chance_hamming"] == pytest.approx(differ)
        expected = both / (either - both) if either else 1
        assert row["chance_jaccard"] == pytest.approx(expected)


def test_random_masks_overlap_as_chance_says():
    """300 pairs of random masks of fixed densities, layer by layer."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"a": (40, 12, 9), "b": (25, 20, 4)}  # weights, kept, kept by the other

    def random_mask(which):
        return Masks({n: torch.randperm(s[0], generator=generator) < s[which] for n, s in sizes.items()})

    tables = [inspection.overlap(random_mask(1), random_mask(2)) for _ in range(300)]
    for name in ("a", "b", "all"):
        rows = pandas.DataFrame([table.loc[name] for table in tables])
        assert abs(rows["z"].mean()) < 0.23  # four standard errors
        assert 0.84 < rows["z"].std() < 1.16
        chance = rows.iloc[0]
        assert rows["hamming"].mean() == pytest.approx(chance["chance_hamming"], abs=0.02)
        assert rows["jaccard"].mean() == pytest.approx(chance["chance_jaccard"], abs=0.02)


def test_where_chance_leaves_no_room_there_is_no_z():
    full, one = torch.ones(5, dtype=torch.bool), torch.ones(1, dtype=torch.bool)
    table = inspection.overlap(Masks({"a": full, "b": one}), Masks({"a": full, "b": one}))
    assert table["z"].isna().all()


def test_masks_of_other_parameters_have_no_overlap():
    one = Masks.ones({"a": torch.zeros(2, 3), "b": torch.zeros(2)})
    with pytest.raises(ValueError) as error:
        inspection.overlap(one, Masks.ones({"a": torch.zeros(3, 2)}))
    assert "a: (2, 3) in the first, (3, 2) in the second" in str(error.value)
    assert "b: only in the first" in str(error.value)


# Signs


@given(masks, st.integers(0, 10**6))
def test_signs_kept_are_counted_under_the_mask(some, seed):
    generator = torch.Generator().manual_seed(seed)
    start, trained = (
        {n: torch.randint(-1, 2, m.shape, generator=generator) for n, m in some.items()} for _ in range(2)
    )
    shares = inspection.signs_kept(some, start, trained)
    same = {n: (start[n] == trained[n])[m].tolist() for n, m in some.items()}
    same["all"] = [kept for layer in same.values() for kept in layer]
    assert list(shares.index) == list(same)
    for name, kept in same.items():
        expected = sum(kept) / len(kept) if kept else math.nan
        assert shares[name] == pytest.approx(expected, nan_ok=True)


def test_weights_that_lack_a_parameter_have_no_signs_of_it():
    some = Masks.ones({"a": torch.zeros(2, 3), "b": torch.zeros(2)})
    whole = {"a": torch.ones(2, 3), "b": torch.ones(2)}
    for lacking, named in (({"a": whole["a"]}, "b"), ({**whole, "a": torch.ones(3)}, "a")):
        for pair in ((whole, lacking), (lacking, whole)):
            with pytest.raises(ValueError, match=f"{named}: "):
                inspection.signs_kept(some, *pair)
