"""The masks of all rounds as one tensor."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lottery import Masks
from lottery.masks.history import MOST_ROUNDS, MaskHistory

names = st.text("abc._", min_size=1, max_size=6)
shapes = st.dictionaries(names, st.lists(st.integers(0, 6), max_size=4).map(tuple), max_size=4)


def drawn(shapes, rounds, seed, survival=0.7):
    """Nested masks, each weight that is alive surviving a round by chance."""
    generator = torch.Generator().manual_seed(seed)
    masks = [Masks.ones({name: torch.empty(shape) for name, shape in shapes.items()})]
    for _ in range(rounds):
        lives = {n: torch.rand(m.shape, generator=generator) < survival for n, m in masks[-1].items()}
        masks.append(masks[-1] & lives)
    return masks[1:]


chains = st.builds(drawn, shapes, st.integers(1, 9), st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 0.9, 1.0]))


def shapes_of(history):
    return {name: tuple(deaths.shape) for name, deaths in history.deaths.items()}


def again(history):
    return MaskHistory.unpack(history.pack(), shapes_of(history), len(history))


LENET = {"a": (300, 784), "b": (100, 300), "c": (10, 100)}
SOME = MaskHistory.of(drawn({"w": (20, 7), "v": (9,)}, 4, 0))
SHAPES = shapes_of(SOME)
PACKED = SOME.pack()


# Laws


@given(chains)
def test_a_history_that_is_unpacked_is_the_one_that_was_packed(masks):
    history = MaskHistory.of(masks)
    unpacked = again(history)
    assert unpacked == history
    assert list(unpacked.deaths) == list(history.deaths) == list(masks[0])
    assert shapes_of(unpacked) == shapes_of(history)


@given(chains)
def test_a_history_is_the_sequence_of_its_masks(masks):
    history = MaskHistory.of(masks)
    assert len(history) == len(masks)
    assert list(history) == masks
    assert [history[r] for r in range(len(masks))] == masks
    assert [history[r] for r in range(-len(masks), 0)] == masks
    assert history[1:3] == masks[1:3] and history[::-1] == masks[::-1]
    for beyond in (len(masks), -len(masks) - 1):
        with pytest.raises(IndexError, match=f"round {beyond} of {len(masks)}"):
            history[beyond]


@given(chains)
def test_a_history_grows_round_by_round(masks):
    history = MaskHistory.of(masks[:1])
    for number, following in enumerate(masks[1:], 2):
        longer = history.followed_by(following)
        assert longer == MaskHistory.of(masks[:number])
        assert len(history) == number - 1  # it is a value
        history = longer


@given(chains, chains)
def test_histories_are_equal_when_their_masks_are(one, other):
    first, second = MaskHistory.of(one), MaskHistory.of(other)
    assert (first == second) == (one == other and [*one[0]] == [*other[0]])


@given(chains)
def test_a_weight_dies_in_the_first_round_whose_mask_lacks_it(masks):
    for name, deaths in MaskHistory.of(masks).deaths.items():
        lived = sum(mask[name].long() for mask in masks)
        assert torch.equal(deaths.long(), lived)


@given(chains)
def test_the_entropy_is_that_of_the_death_round(masks):
    history = MaskHistory.of(masks)
    deaths = [d for tensor in history.deaths.values() for d in tensor.view(-1).tolist()]
    counts = Counter(deaths).values()
    bits = sum(n * math.log2(len(deaths) / n) for n in counts)
    assert history.entropy() == pytest.approx(bits / 8, abs=1e-9)


@given(chains, st.data())
def test_a_weight_that_comes_back_is_refused(masks, data):
    history = MaskHistory.of(masks)
    dead = [(n, i) for n, m in masks[-1].items() for i in (~m.view(-1)).nonzero()]
    if not dead:
        assert history.followed_by(masks[-1])[-1] == masks[-1]
        return
    name, position = data.draw(st.sampled_from(dead))
    back = {n: m.clone() for n, m in masks[-1].items()}
    back[name].view(-1)[position] = True
    with pytest.raises(ValueError, match=f"round {len(masks)} are not nested"):
        history.followed_by(Masks(back))


@pytest.mark.parametrize("survival", [0.8, 0.5])
def test_the_packed_masks_of_a_lenet_are_near_their_entropy(survival):
    history = MaskHistory.of(
        [Masks.ones({n: torch.empty(s) for n, s in LENET.items()})] + drawn(LENET, 14, 3, survival)
    )
    assert history.pack().numel() <= 1.05 * history.entropy() + 4096
    assert again(history) == history


def test_dense_rounds_take_next_to_nothing():
    dense = Masks.ones({name: torch.empty(shape) for name, shape in LENET.items()})
    history = MaskHistory.of([dense] * 15)
    assert history.entropy() == 0
    assert history.pack().numel() < 1000


def test_layers_emptied_at_once_and_empty_layers_are_packed_too():
    none = Masks({"w": torch.zeros(3, 4, dtype=torch.bool), "e": torch.ones(0, 2) > 0})
    history = MaskHistory.of([none, none, none])
    assert again(history) == history
    assert history[2].kept == 0


def test_a_history_says_how_long_and_how_sparse_it_is():
    assert repr(SOME).startswith("MaskHistory(4 rounds, 0.")


# Bad input


def test_masks_of_no_round_make_no_history():
    with pytest.raises(ValueError):
        MaskHistory.of([])


@pytest.mark.parametrize("shape", [(1, 7), (20, 1), (7, 20), (140,)])
def test_masks_of_other_shapes_do_not_follow(shape):
    other = Masks({**SOME[-1], "w": torch.zeros(shape, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"w: \(20, 7\) in the first"):
        SOME.followed_by(other)


def test_masks_of_other_names_do_not_follow():
    with pytest.raises(ValueError, match="v: only in the first"):
        SOME.followed_by(Masks({"w": SOME[-1]["w"]}))


@given(st.data())
@settings(max_examples=200)
def test_a_flipped_bit_in_packed_masks_is_noticed_or_gives_masks_of_the_same_kind(data):
    packed = PACKED.clone()
    position = data.draw(st.integers(0, len(packed) - 1), "position")
    packed[position] ^= 1 << data.draw(st.integers(0, 7), "bit")
    try:
        found = MaskHistory.unpack(packed, SHAPES, len(SOME))
    except ValueError:
        return
    assert len(found) == len(SOME) and shapes_of(found) == SHAPES


@given(st.data())
def test_packed_masks_that_are_cut_off_or_go_on_are_refused(data):
    cut = PACKED[: data.draw(st.integers(0, len(PACKED) - 1), "length")]
    more = list(data.draw(st.binary(min_size=1, max_size=9), "more"))
    for wrong in (cut, torch.cat([PACKED, torch.tensor(more, dtype=torch.uint8)])):
        with pytest.raises(ValueError, match="the packed masks"):
            MaskHistory.unpack(wrong, SHAPES, len(SOME))


@given(st.binary(max_size=100))
def test_bytes_from_elsewhere_are_refused(data):
    foreign = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
    with pytest.raises(ValueError, match="the packed masks"):
        MaskHistory.unpack(foreign, SHAPES, len(SOME))


sides = st.sampled_from([-1, 0, 1, 3, 7, 9, 20, 140, 2**31, 2**60, 2**63, 2**70])
lies = st.dictionaries(names, st.lists(sides, max_size=3).map(tuple), max_size=3)


@given(lies, st.integers(-1, 6) | st.just(2**40))
def test_shapes_that_lie_are_refused_or_give_masks_of_these_shapes(lie, rounds):
    """Before they take memory: 2**60 weights have none."""
    try:
        found = MaskHistory.unpack(PACKED, lie, rounds)
    except ValueError as error:
        assert "packed masks" in str(error) or "no masks have" in str(error)
    else:
        assert shapes_of(found) == lie and len(found) == rounds


@pytest.mark.parametrize("shape", [(2**60,), (2**70,), (0, 2**70), (2**40, 2**40)])
def test_shapes_beyond_all_memory_are_refused(shape):
    with pytest.raises(ValueError, match="packed masks|no masks have"):
        MaskHistory.unpack(PACKED, {"w": shape}, len(SOME))


@given(st.integers(-2, 40) | st.sampled_from([MOST_ROUNDS + 1, 2**60]))
def test_packed_masks_of_another_number_of_rounds_are_refused(rounds):
    if rounds == len(SOME):
        return
    with pytest.raises(ValueError, match="packed masks|no masks have"):
        MaskHistory.unpack(PACKED, SHAPES, rounds)


def test_a_code_that_wants_much_memory_is_refused():
    import lzma

    wide = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 27}]
    bits = b"".join(
        np.packbits(np.concatenate([now[n][before[n]].numpy() for n in SHAPES]))
        for before, now in itertools.pairwise([Masks.ones(SOME[0]), *SOME])
    )
    coded = lzma.compress(bits, check=lzma.CHECK_CRC32, filters=wide)
    with pytest.raises(ValueError, match="Memory usage limit"):
        MaskHistory.unpack(torch.tensor(list(coded)).byte(), SHAPES, len(SOME))


def test_a_history_shows_each_parameter_over_the_rounds_and_as_a_frame_every_weight() -> None:
    masks = [Masks({"a.weight": torch.rand(6, 5) < share, "b<c": torch.ones(3, dtype=torch.bool)}) for share in (2, 2)]
    masks.append(Masks({"a.weight": torch.arange(30).reshape(6, 5) < 15, "b<c": torch.tensor([True, False, False])}))
    history = MaskHistory.of(masks)
    shown = history._repr_html_()
    assert "<b>3 rounds, 48.5 % of the weights alive in the last</b>" in shown
    assert "<td>a.weight</td><td>50 %</td><td>██▄</td>" in shown and "b&lt;c" in shown
    frame = history.to_frame(initial={"a.weight": torch.arange(30.0).reshape(6, 5), "b<c": torch.zeros(3)})
    assert list(frame.columns) == ["parameter", "index", "died", "initial"] and len(frame) == 33
    rows = frame[frame["parameter"] == "a.weight"]
    assert (rows["initial"] == rows["index"]).all() and ((rows["died"] == 3) == (rows["index"] < 15)).all()
    with pytest.raises(ValueError, match=r"initial=.*a.weight of shape \(6, 5\) is missing"):
        history.to_frame(initial={"b<c": torch.zeros(3)})
    assert "<td>a.weight</td><td>6×5</td><td>15</td><td>50 %</td>" in masks[-1]._repr_html_()
    many = Masks({f"layer.{n}": torch.ones(2, dtype=torch.bool) for n in range(40)})
    assert "<details><summary>40 rows</summary>" in many._repr_html_()
