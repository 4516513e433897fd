"""Exactly k of n, ties by position."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lottery.selection import smallest

dtypes = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])
extremes = [0.0, -0.0, float("inf"), -float("inf"), 1e-8, -1e-8, 6e4, -6e4]
anything = st.floats(allow_nan=False) | st.sampled_from(extremes)
tied = st.sampled_from([0.0, -0.0, 1.0, -1.0, float("inf"), -float("inf")])


@st.composite
def choices(draw):
    """A vector, often with many ties, and how many to choose from it."""
    values = draw(st.lists(anything, max_size=40) | st.lists(tied, max_size=40))
    scores = torch.tensor(values, dtype=torch.float64).to(draw(dtypes))
    return scores, draw(st.integers(0, len(values)))


@given(choices())
def test_exactly_k_are_chosen_whatever_the_values(choice):
    scores, k = choice
    chosen = smallest(scores, k)
    assert chosen.dtype is torch.bool
    assert chosen.shape == scores.shape
    assert int(chosen.sum()) == k


@given(choices())
def test_the_chosen_are_the_first_k_of_a_stable_sort(choice):
    scores, k = choice
    order = sorted(range(len(scores)), key=lambda i: scores[i].item())
    assert smallest(scores, k).nonzero().flatten().tolist() == sorted(order[:k])


@given(choices())
def test_choosing_more_keeps_what_was_chosen(choice):
    scores, k = choice
    if k:
        assert not (smallest(scores, k - 1) & ~smallest(scores, k)).any()


@given(choices())
def test_no_score_is_changed(choice):
    scores, k = choice
    before = scores.clone()
    smallest(scores, k)
    assert torch.equal(scores.view(torch.uint8), before.view(torch.uint8))


@given(choices())
def test_the_choice_is_the_same_in_double_precision(choice):
    scores, k = choice
    assert torch.equal(smallest(scores, k), smallest(scores.double(), k))


@given(st.integers(1, 50), st.data(), dtypes)
def test_equal_scores_go_from_the_front(n, data, dtype):
    k = data.draw(st.integers(0, n))
    assert smallest(torch.full((n,), 0.5, dtype=dtype), k).tolist() == [True] * k + [
        False
    ] * (n - k)


def test_negative_zero_ties_with_zero():
    scores = torch.tensor([0.0, -0.0, 0.0, -0.0])
    assert smallest(scores, 1).tolist() == [True, False, False, False]


def test_minus_infinity_goes_first_and_infinity_last():
    scores = torch.tensor([float("inf"), 0.0, -float("inf")])
    assert smallest(scores, 1).tolist() == [False, False, True]
    assert smallest(scores, 2).tolist() == [False, True, True]


@pytest.mark.parametrize("k", [-1, 4])
def test_more_or_fewer_than_there_are_cannot_be_chosen(k):
    with pytest.raises(ValueError, match=f"cannot choose {k} of 3"):
        smallest(torch.zeros(3), k)
