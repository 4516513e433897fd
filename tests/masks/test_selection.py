"""Exactly k of n over many tensors, ties by position."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lottery.masks import selection
from lottery.masks.selection import smallest

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INF = math.inf
# zeros of both signs, infinities, neighbours, and denormals of 16, 32 and 64 bits
EXTREMES = [0.0, -0.0, INF, -INF, 1.0, math.nextafter(1.0, 2.0), 1 + 2**-23, -1.0]
EXTREMES += [5e-324, -5e-324, 1.5e-45, -1.5e-45, 6e-8, -6e-8, 6e4, -6e4, 1e300]

anything = st.floats(allow_nan=False) | st.sampled_from(EXTREMES)
alike = st.sampled_from([0.0, -0.0, 1.0, -1.0, INF, -INF])
close = st.integers(-300, 300).map(lambda i: 1.0 + i * 2**-23)
closer = st.integers(-300, 300).map(lambda i: 1.0 + i * 2**-52)
sizes = st.lists(st.integers(0, 5), max_size=3).map(tuple)
layouts = st.sampled_from(["plain", "transposed", "strided", "reversed dims"])


def words(width: int) -> st.SearchStrategy[int]:
    return st.integers(0, 2**width - 1)


def laid_out(values: torch.Tensor, layout: str) -> torch.Tensor:
    """The same tensor, differently in memory."""
    if layout == "transposed" and values.dim() > 1:
        return values.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == "strided" and values.dim():
        return values.repeat_interleave(2, dim=-1)[..., ::2]
    if layout == "reversed dims" and values.dim():
        order = tuple(reversed(range(values.dim())))
        return values.permute(order).contiguous().permute(order)
    return values


@st.composite
def tensors(draw: st.DrawFn) -> list[torch.Tensor]:
    """Scores of odd shapes, dtypes and layouts, often with many ties."""
    values = draw(st.sampled_from([anything, alike, close, closer]))
    mixed = draw(st.booleans())
    dtype = draw(st.sampled_from(DTYPES))
    found = []
    for shape in draw(st.lists(sizes, min_size=1, max_size=4)):
        n = math.prod(shape)
        drawn = draw(st.lists(values, min_size=n, max_size=n))
        dtype = draw(st.sampled_from(DTYPES)) if mixed else dtype
        score = torch.tensor(drawn, dtype=torch.float64).to(dtype).reshape(shape)
        found.append(laid_out(score, draw(layouts)))
    return found


@st.composite
def choices(draw: st.DrawFn) -> tuple[list[torch.Tensor], int, list[torch.Tensor] | None]:
    """Scores, how many to choose, and perhaps masks of which to choose from."""
    scores = draw(tensors())
    masks = None
    if draw(st.booleans()):
        bits = [draw(st.lists(st.booleans(), min_size=s.numel(), max_size=s.numel())) for s in scores]
        masks = [
            laid_out(torch.tensor(b, dtype=torch.bool).reshape(s.shape), draw(layouts))
            for b, s in zip(bits, scores, strict=True)
        ]
    n = sum(s.numel() for s in scores) if masks is None else int(flat(masks).sum())
    return scores, draw(st.integers(0, n)), masks


def flat(found: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([t.reshape(-1) for t in found])


@contextmanager
def chunks_of(size: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "CHUNK", size)
        yield


def by_sorting(scores: list[torch.Tensor], k: int, masks: list[torch.Tensor] | None) -> list[int]:
    """The positions of the first k candidates of a stable sort."""
    values = flat([s.double() for s in scores]).tolist()
    kept = [True] * len(values) if masks is None else flat(masks).tolist()
    order = sorted((i for i, keep in enumerate(kept) if keep), key=values.__getitem__)
    return sorted(order[:k])


@given(choices(), st.integers(1, 7) | st.just(selection.CHUNK))
def test_the_chosen_are_the_first_k_of_a_stable_sort(choice, chunk):
    scores, k, masks = choice
    with chunks_of(chunk):
        chosen = smallest(scores, k, masks)
    assert [c.shape for c in chosen] == [s.shape for s in scores]
    assert flat(chosen).dtype is torch.bool
    assert flat(chosen).nonzero().flatten().tolist() == by_sorting(scores, k, masks)


@pytest.mark.parametrize("width", [32, 64])
@given(data=st.data())
def test_every_bit_of_a_float_counts(width, data):
    """Also in negative numbers and denormals: words that differ in one bit from one of these."""
    base = data.draw(st.sampled_from([0, 2 ** (width - 1)]) | words(width))
    flipped = data.draw(st.permutations([base ^ 2**bit for bit in range(width)]))
    scores = torch.from_numpy(np.array(flipped, f"u{width // 8}").view(f"f{width // 8}"))
    scores = scores.masked_fill(scores.isnan(), 0.0)
    k = data.draw(st.integers(0, width))
    chosen = smallest([scores], k)[0].nonzero().flatten().tolist()
    assert chosen == by_sorting([scores], k, None)


@given(choices())
def test_choosing_more_keeps_what_was_chosen(choice):
    scores, k, masks = choice
    if k:
        fewer, more = smallest(scores, k - 1, masks), smallest(scores, k, masks)
        assert not (flat(fewer) & ~flat(more)).any()


@given(choices())
def test_choosing_twice_chooses_the_same_and_changes_nothing(choice):
    scores, k, masks = choice
    before = [s.clone() for s in scores]
    first, second = smallest(scores, k, masks), smallest(scores, k, masks)
    assert torch.equal(flat(first), flat(second))
    for score, copy in zip(scores, before, strict=True):
        assert torch.equal(score, copy)
        assert torch.equal(score.signbit(), copy.signbit())


@given(choices())
def test_the_choice_is_the_same_in_double_precision(choice):
    scores, k, masks = choice
    doubled = smallest([s.double() for s in scores], k, masks)
    assert torch.equal(flat(smallest(scores, k, masks)), flat(doubled))


@given(choices())
def test_what_the_masks_exclude_may_hold_anything(choice):
    scores, k, masks = choice
    masks = masks or [torch.ones_like(s, dtype=torch.bool) for s in scores]
    chosen = smallest(scores, k, masks)
    for rubbish in (math.nan, -INF, -math.nan):
        spoiled = [s.masked_fill(~m, rubbish) for s, m in zip(scores, masks, strict=True)]
        assert torch.equal(flat(chosen), flat(smallest(spoiled, k, masks)))


@given(st.integers(1, 50), st.data(), st.sampled_from(DTYPES))
def test_equal_scores_go_from_the_front(n, data, dtype):
    k = data.draw(st.integers(0, n))
    (chosen,) = smallest([torch.full((n,), 0.5, dtype=dtype)], k)
    assert chosen.tolist() == [True] * k + [False] * (n - k)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 2**18, 2**18 + 1, 333_333, 600_000])
def test_many_weights_are_chosen_as_kthvalue_would(dtype, k):
    """Across the borders of real chunks: two tensors of more than one, one of a row more than fits."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 2**17 + 1), (2**18 + 5,), (7, 11)]
    scores = [torch.randn(s, generator=generator, dtype=dtype) for s in shapes]
    threshold = flat(scores).kthvalue(k).values
    assert int((flat(scores) == threshold).sum()) == 1
    assert torch.equal(flat(smallest(scores, k)), flat(scores) <= threshold)


def test_negative_zero_ties_with_zero():
    scores = [torch.tensor([0.0, -0.0]), torch.tensor([0.0, -0.0])]
    assert flat(smallest(scores, 1)).tolist() == [True, False, False, False]
    assert flat(smallest(scores, 3)).tolist() == [True, True, True, False]


def test_minus_infinity_goes_first_and_infinity_last():
    scores = [torch.tensor([INF, 0.0, -INF])]
    assert smallest(scores, 1)[0].tolist() == [False, False, True]
    assert smallest(scores, 2)[0].tolist() == [False, True, True]


def test_parameters_are_chosen_from_as_they_are():
    weight = torch.nn.Parameter(torch.tensor([[2.0, -1.0]]))
    assert smallest([weight], 1)[0].tolist() == [[False, True]]


def test_none_can_be_chosen_of_nothing():
    assert smallest([], 0) == []
    assert smallest([torch.zeros(0, 3)], 0)[0].shape == (0, 3)


@pytest.mark.parametrize("k", [-1, 4])
def test_more_or_fewer_than_there_are_cannot_be_chosen(k):
    with pytest.raises(ValueError, match=f"cannot choose {k} of 3"):
        smallest([torch.zeros(3)], k)
    with pytest.raises(ValueError, match=f"cannot choose {k} of 3"):
        smallest([torch.zeros(4)], k, [torch.tensor([True, False, True, True])])


@pytest.mark.parametrize("nan", [math.nan, -math.nan])
def test_nan_is_never_chosen(nan):
    scores = [torch.tensor([nan, 1.0, INF])]
    with pytest.raises(ValueError, match="cannot choose 3 scores: .* NaN"):
        smallest(scores, 3)


def test_masks_must_fit_their_scores():
    with pytest.raises(ValueError, match="1 masks for 2 tensors"):
        smallest([torch.zeros(3)] * 2, 1, [torch.ones(3, dtype=torch.bool)])
    with pytest.raises(ValueError, match=r"scores\[0\] has shape \(3,\).*\(2,\)"):
        smallest([torch.zeros(3)], 1, [torch.ones(2, dtype=torch.bool)])


def test_scores_are_floating_and_masks_boolean():
    with pytest.raises(TypeError, match=r"scores\[1\] is torch.int64"):
        smallest([torch.zeros(3), torch.arange(3)], 1)
    with pytest.raises(TypeError, match=r"mask torch.float32"):
        smallest([torch.zeros(3)], 1, [torch.ones(3)])
