"""Masks as bytes and back, and how many bytes."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lottery.deploy.sparse import encodings, golomb_rice
from lottery.deploy.sparse.encodings import ENCODINGS, Coded, decode, encode

EVERY = ["auto", *ENCODINGS]
ALWAYS = ["bitmap", "delta", "lzma"]
HEADER = 64
"""Bytes that a code may take whatever the mask, far below the size of any mask here."""

shapes = st.lists(st.integers(0, 7), max_size=4).map(tuple)
seeds = st.integers(0, 10**6)
shares = st.sampled_from([0.0, 0.02, 0.3, 0.5, 0.9, 1.0])


def random_mask(shape, density, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator) < density


def crossing(shape, density, seed=0):
    """A mask that keeps what lies where live indices of all dimensions cross."""
    mask = torch.ones(shape, dtype=torch.bool)
    for axis, n in enumerate(shape):
        live = random_mask((n,), density, seed + axis)
        mask &= live.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return mask


def in_blocks(shape, block, density, seed=0):
    """A mask of whole blocks; those at the far edges are cut off."""
    grid = [-(-n // side) for n, side in zip(shape, block, strict=True)]
    mask = random_mask(grid, density, seed)
    for axis, side in enumerate(block):
        mask = mask.repeat_interleave(side, axis)
    return mask[tuple(slice(n) for n in shape)]


def assert_round_trip(mask, encoding):
    coded = encode(mask, encoding)
    back = decode(coded, mask.shape)
    assert back.dtype is torch.bool and back.shape == mask.shape
    assert torch.equal(back, mask)
    return len(coded.code)


# identity


@pytest.mark.parametrize("encoding", ["auto", *ALWAYS])
@given(shape=shapes, density=shares, seed=seeds)
@settings(max_examples=30)
def test_any_mask_comes_back_from_its_code(encoding, shape, density, seed):
    assert_round_trip(random_mask(shape, density, seed), encoding)


@given(shape=shapes, density=shares, seed=seeds)
def test_a_mask_that_has_a_pattern_comes_back_from_its_code(shape, density, seed):
    mask = random_mask(shape, density, seed)
    for encoding, size in encodings.sizes(mask).items():
        if size is None:
            with pytest.raises(ValueError, match=encoding):
                encode(mask, encoding)
        else:
            assert assert_round_trip(mask, encoding) == size


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (1, 1), (5, 8)])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("encoding", EVERY)
def test_all_or_nothing_comes_back_from_its_code(shape, kept, encoding):
    mask = torch.full(shape, kept)
    size = encodings.sizes(mask).get(encoding, 0)
    if size is not None:
        assert_round_trip(mask, encoding)


@given(shape=st.lists(st.integers(1, 9), min_size=1, max_size=4), density=shares, seed=seeds)
def test_a_grid_is_coded_as_its_sides(shape, density, seed):
    mask = crossing(shape, density, seed)
    assert assert_round_trip(mask, "grid") == -(-sum(shape) // 8)


@given(
    shape=st.lists(st.integers(1, 13), min_size=1, max_size=3),
    block=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    seed=seeds,
)
def test_blocks_are_found_whatever_their_shape(shape, block, seed):
    mask = in_blocks(shape, block[: len(shape)], 0.4, seed)
    sides = [encodings._side(mask.numpy(), axis) for axis in range(mask.ndim)]
    for side, known, n in zip(sides, block, shape, strict=False):
        assert side % known == 0 or side == n
    assume(np.prod(sides) > 1)
    assert_round_trip(mask, "blocks")


def test_a_mask_that_is_not_contiguous_comes_back_from_its_code():
    mask = random_mask((40, 30), 0.2).T
    for encoding in ALWAYS:
        assert_round_trip(mask, encoding)


@given(st.sets(st.integers(0, 2**40), max_size=40))
def test_any_positions_come_back_from_their_code(positions):
    ordered = np.array(sorted(positions), np.int64)
    assert np.array_equal(golomb_rice.decode(golomb_rice.encode(ordered)), ordered)


def test_a_mask_that_an_earlier_version_coded_as_indices_still_opens():
    mask = torch.zeros(300, 784, dtype=torch.bool)
    mask[[3, 299], [700, 1]] = True
    code = np.array([3, 299, 700, 1], "<u2").tobytes()
    assert torch.equal(decode(Coded("coo", code), mask.shape), mask)
    assert not decode(Coded("coo", b""), mask.shape).any()
    with pytest.raises(ValueError):
        decode(Coded("coo", code[:-3]), mask.shape)
    with pytest.raises(ValueError):
        decode(Coded("coo", code), (4, 4))


# size


@pytest.mark.parametrize("density", [0.5, 0.1, 0.03, 0.01])
@pytest.mark.parametrize("shape", [(300, 784), (256, 64, 3, 3)])
def test_a_random_mask_takes_little_more_than_its_entropy(density, shape):
    mask = random_mask(shape, density)
    entropy = encodings.entropy(mask)
    delta = assert_round_trip(mask, "delta")
    assert 0.999 * entropy < delta <= 1.03 * entropy + HEADER
    assert assert_round_trip(mask, "auto") <= delta


@pytest.mark.parametrize("density", [0.5, 0.9, 0.97, 0.99])
def test_few_pruned_weights_cost_what_few_kept_ones_do(density):
    mask = random_mask((400, 500), density)
    kept, pruned = (len(encode(m, "delta").code) for m in (mask, ~mask))
    assert kept == pruned <= 1.03 * encodings.entropy(mask) + HEADER


def test_entropy_is_that_of_so_many_coins():
    mask = torch.zeros(80, 100, dtype=torch.bool)
    mask[:20] = True
    expected = -8000 * (0.25 * np.log2(0.25) + 0.75 * np.log2(0.75)) / 8
    assert encodings.entropy(mask) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("dense", None), ("bitmap", 300 * 784 // 8)],
)
def test_the_plain_encodings_take_what_they_are_known_to(encoding, expected):
    mask = torch.zeros(300 * 784, dtype=torch.bool)
    mask[torch.randperm(mask.numel())[:6000]] = True
    assert encodings.sizes(mask.reshape(300, 784))[encoding] == expected


@pytest.mark.parametrize("shape", [(300, 784), (128, 64, 3, 3), (64, 800)])
def test_pruned_channels_cost_next_to_nothing(shape):
    rows, columns = random_mask((shape[0],), 0.3, 1), random_mask((shape[1],), 0.3, 2)
    mask = torch.zeros(shape, dtype=torch.bool)
    mask |= (rows[:, None] & columns).reshape(*shape[:2], *[1] * (len(shape) - 2))
    size = assert_round_trip(mask, "auto")
    assert size <= sum(shape) / 8 + HEADER < 0.02 * encodings.entropy(mask) + 2 * HEADER


@pytest.mark.parametrize(
    ("shape", "block"), [((256, 512), (1, 4)), ((256, 512), (4, 4)), ((128, 64, 3, 3), (1, 1, 3, 3))]
)
def test_blocks_cost_what_one_weight_per_block_does(shape, block):
    mask = in_blocks(shape, block, 0.1)
    single = mask[tuple(slice(None, None, side) for side in block)]
    size = assert_round_trip(mask, "auto")
    assert encode(mask).encoding == "blocks"
    assert size <= 1.03 * encodings.entropy(single) + HEADER


def test_a_pattern_of_2_of_4_costs_less_than_weights_kept_at_random():
    ways = torch.tensor(list(itertools.combinations(range(4), 2)))
    chosen = ways[torch.randint(len(ways), (50_000,), generator=torch.Generator().manual_seed(0))]
    mask = torch.zeros(50_000, 4, dtype=torch.bool).scatter(1, chosen, True).reshape(400, 500)
    size = assert_round_trip(mask, "auto")
    assert size < 1.06 * 50_000 * np.log2(6) / 8 < 0.7 * encodings.entropy(mask)


@given(shape=st.lists(st.integers(1, 30), min_size=1, max_size=3), density=shares, seed=seeds)
def test_auto_is_the_shortest(shape, density, seed):
    mask = random_mask(shape, density, seed)
    found = [size for size in encodings.sizes(mask).values() if size is not None]
    assert len(encode(mask).code) == min(found)


# bad input


def test_an_unknown_encoding_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="encoding='huffman'; choose from auto, dense, grid"):
        encode(torch.ones(2, dtype=torch.bool), "huffman")
    with pytest.raises(ValueError, match="choose from"):
        decode(Coded("huffman", b""), (2,))


@pytest.mark.parametrize("encoding", ["grid", "bitmap", "delta", "lzma", "blocks"])
def test_a_code_that_is_cut_off_is_refused(encoding):
    mask = in_blocks((64, 64), (2, 2), 0.3)
    mask = crossing((64, 64), 0.5) if encoding == "grid" else mask
    coded = encode(mask, encoding)
    with pytest.raises(ValueError):
        decode(Coded(encoding, coded.code[:-3]), mask.shape)
    with pytest.raises(ValueError):
        decode(Coded(encoding, b""), mask.shape)


@pytest.mark.parametrize("encoding", ["grid", "bitmap", "delta", "lzma"])
def test_a_code_of_another_shape_is_refused(encoding):
    mask = crossing((64, 64), 0.5)
    with pytest.raises(ValueError):
        decode(encode(mask, encoding), (16, 16))


# large


@pytest.mark.slow
def test_ten_million_weights_come_back_from_each_code():
    mask = random_mask((2500, 4000), 0.05)
    for encoding in ["auto", *ALWAYS]:
        assert_round_trip(mask, encoding)
