"""Exactly k of n: the choice that every pruning decision comes down to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

CHUNK = 2**18  # values at a time: bounds temporary memory, and fits a cache
BINS = 2**16


def smallest(scores: Sequence[Tensor], k: int, masks: Sequence[Tensor] | None = None) -> list[Tensor]:
    """Mark the k smallest entries of several tensors together, ties going to the lowest positions.

    Radix selection: the bits of positive floats are ordered as the floats are, those of negative ones the other way
    round. One pass over the scores counts their upper 16 bits, which tells in which of 65,536 bins the k-th smallest
    lies; the next counts the following 16 bits of what is in that bin, and so on until all of its bits are known (two
    passes for 32). Then what is smaller is marked, and as many of its equals as are missing. Nothing is sorted,
    concatenated or copied whole: beside the result this takes a few MB.

    Args:
        scores: floating tensors of any shape, without NaN. Positions run through the tensors in turn, row by row.
        k: how many to mark, from 0 to the number of candidates.
        masks: boolean tensors of the same shapes; entries where they are True are candidates. Default: all are.

    Returns:
        Boolean tensors of the same shapes, on the CPU, with k entries True in all.

    Raises:
        TypeError: scores are not floating, or masks not boolean.
        ValueError: k is out of range, masks do not fit the scores, or too few scores are numbers.

    Example:
        >>> smallest([torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0])], 2)
        [tensor([False,  True]), tensor([ True, False])]
    """
    scores = [score.detach() for score in scores]
    if masks is None:
        masks = [torch.ones((), dtype=torch.bool).expand(s.shape) for s in scores]
    _check(scores, k, masks)
    chosen = [torch.zeros(score.shape, dtype=torch.bool) for score in scores]
    if k == 0:
        return chosen
    # narrower floats are exact in 32 bits
    wide = any(score.dtype is torch.float64 for score in scores)
    dtype = torch.float64 if wide else torch.float32
    kind, word = np.dtype(f"f{dtype.itemsize}"), np.dtype(f"u{dtype.itemsize}")
    nan = np.array(np.nan, kind).view(word)

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for tensors in zip(scores, masks, chosen, strict=True):
            for score, mask, marks in zip(*map(_flat, tensors), strict=True):
                bits = score.cpu().to(dtype).numpy().view(word)
                kept = np.ascontiguousarray(mask.cpu().numpy())
                if not kept.all():
                    # NaN is neither smaller than a number nor equal to one, and its bits come last.
                    # This is np.where without its branches, which take three times as long
                    bits = bits * kept | ~kept * nan
                yield bits, marks.numpy()

    threshold = _kth(k, lambda: (bits for bits, _ in pieces()), word).view(kind)
    missing = k
    for bits, marks in pieces():
        np.less(bits.view(kind), threshold, out=marks)
        missing -= np.count_nonzero(marks)
    for bits, marks in pieces():
        if missing == 0:
            break
        ties = np.flatnonzero(bits.view(kind) == threshold)[:missing]
        marks[ties] = True
        missing -= len(ties)
    if missing:
        raise ValueError(f"cannot choose {k} scores: {missing} of them would be NaN")
    return chosen


def by_position(scores: Sequence[Tensor], masks: Sequence[Tensor], left: Sequence[Tensor]) -> list[int]:
    """How many entries of each tensor stayed for their position alone, since others of the same score went.

    Args:
        scores: what `smallest` was given.
        masks: the candidates.
        left: those that stayed, boolean tensors within `masks`.

    Example:
        >>> scores, masks = [torch.zeros(3)], [torch.ones(3, dtype=torch.bool)]
        >>> by_position(scores, masks, [torch.tensor([False, True, True])])
        [2]
    """
    apart = [(s.detach().cpu(), m.cpu(), stay.cpu()) for s, m, stay in zip(scores, masks, left, strict=True)]
    worst = [score[mask & ~stay].max() for score, mask, stay in apart if (mask & ~stay).any()]
    if not worst:
        return [0] * len(apart)
    level = torch.stack([score.double() for score in worst]).max()
    return [int(((score == level) & stay).sum()) for score, _, stay in apart]


def _kth(k: int, pieces: Callable[[], Iterator[np.ndarray]], word: np.dtype) -> np.ndarray:
    """The bits, a `word`, of the k-th smallest (from 1) of the floats whose bits each call of `pieces` goes through."""
    rising, falling = np.arange(BINS), np.arange(BINS)[::-1]
    order = np.concatenate([falling[: BINS // 2], rising[: BINS // 2]])
    known, top = 0, 8 * word.itemsize - 16
    for shift in range(top, -1, -16):
        counts = np.zeros(BINS, np.int64)
        for bits in pieces():
            digits = bits >> shift
            if shift < top:
                digits = digits[digits >> 16 == known] & (BINS - 1)
            counts += np.bincount(digits.astype(np.intp), minlength=BINS)
        reached = counts[order].cumsum()
        place = np.searchsorted(reached, k)
        digit = int(order[place])
        k -= int(reached[place] - counts[digit])
        known = known << 16 | digit
        if shift == top:
            order = rising if digit < BINS // 2 else falling
    return np.array(known, word)


def _flat(tensor: Tensor) -> Iterator[Tensor]:
    """The entries of a tensor in order, as vectors of at most CHUNK; only what is not contiguous is copied."""
    if tensor.numel() <= CHUNK:
        yield tensor.reshape(-1)
        return
    rows = max(1, CHUNK * len(tensor) // tensor.numel())
    for part in tensor.split(rows):
        yield from _flat(part if len(part) > 1 else part[0])


def _check(scores: Sequence[Tensor], k: int, masks: Sequence[Tensor]) -> None:
    if len(masks) != len(scores):
        raise ValueError(f"{len(masks)} masks for {len(scores)} tensors of scores")
    for i, (score, mask) in enumerate(zip(scores, masks, strict=True)):
        if not score.is_floating_point() or mask.dtype is not torch.bool:
            raise TypeError(
                f"scores[{i}] is {score.dtype} and its mask {mask.dtype}; scores must be floating and masks torch.bool"
            )
        if mask.shape != score.shape:
            raise ValueError(f"scores[{i}] has shape {tuple(score.shape)}, its mask {tuple(mask.shape)}")
    n = sum(int(mask.count_nonzero()) for mask in masks)
    if not 0 <= k <= n:
        raise ValueError(f"cannot choose {k} of {n} scores")
