"""Exactly k of n: the choice that every pruning decision comes down to."""

from __future__ import annotations

import torch
from torch import Tensor


def smallest(scores: Tensor, k: int) -> Tensor:
    """Mark the k smallest entries of a vector, ties going to the lowest positions.

    Args:
        scores: shape (n,), floating, finite.
        k: how many to mark, 0 <= k <= n.

    Returns:
        Boolean tensor of shape (n,) with exactly k entries True.

    Raises:
        ValueError: k is outside 0..n.

    Example:
        >>> smallest(torch.tensor([3.0, 1.0, 1.0, 1.0]), 2).tolist()
        [False, True, True, False]
    """
    n = scores.numel()
    if not 0 <= k <= n:
        raise ValueError(f"cannot choose {k} of {n} scores")
    if k == 0:
        return torch.zeros(n, dtype=torch.bool, device=scores.device)
    threshold = scores.kthvalue(k).values
    chosen = scores < threshold
    ties = (scores == threshold).nonzero().squeeze(1)
    chosen[ties[: k - int(chosen.sum())]] = True
    return chosen
