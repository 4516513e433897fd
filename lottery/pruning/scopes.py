"""Which weights compete: how a density is shared out between layers, and rows that compete within themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lottery.pruning.ties import note_choices


def erdos_renyi(shapes: Mapping[str, Sequence[int]], density: float, kernel: bool = True) -> dict[str, float]:
    """Densities that grow with a layer's units and not with its weights: ERK, or plain Erdős–Rényi.

    The density of a layer is ε·Σshape/Πshape; with kernel=False ε·(out + in)/(out·in), whatever the kernel. Layers that
    would pass 1 stay dense, and ε is solved again for the others until none does, so that the whole has `density`.

    Args:
        shapes: parameter name to shape, of two or more dimensions: (out, in, *kernel).
        density: kept / prunable over all layers, in (0, 1].
        kernel: whether kernel sizes count (ERK).

    Returns:
        Parameter name to density in (0, 1].

    Raises:
        ValueError: density is outside (0, 1], or a shape has fewer than two dimensions or an empty one.

    Source: Evci et al., "Rigging the Lottery: Making All Tickets Winners", ICML 2020, section 3 (ERK); Mocanu et al.,
    "Scalable training of artificial neural networks with adaptive sparse connectivity", Nature Communications 2018
    (Erdős–Rényi).

    Example:
        >>> erdos_renyi({"wide": (32, 32), "head": (4, 4)}, density=0.25)
        {'wide': 0.23828125, 'head': 1.0}
    """
    if not 0 < density <= 1:
        raise ValueError(f"density={density!r} must be in (0, 1]")
    for name, shape in shapes.items():
        if len(shape) < 2 or min(shape) < 1:
            raise ValueError(
                f"{name} has shape {tuple(shape)}; Erdős–Rényi densities need (out, in, *kernel), none of them 0"
            )
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    counted = {n: tuple(shape) if kernel else tuple(shape[:2]) for n, shape in shapes.items()}
    raw = {name: sum(shape) / math.prod(shape) for name, shape in counted.items()}
    budget = density * sum(sizes.values())
    dense: set[str] = set()
    while True:
        sparse = [name for name in shapes if name not in dense]
        units = sum(raw[name] * sizes[name] for name in sparse)
        left = budget - sum(sizes[name] for name in dense)
        found = {name: raw[name] * left / units for name in sparse}
        full = {name for name, value in found.items() if value >= 1}
        if not full:
            return {name: found.get(name, 1.0) for name in shapes}
        dense |= full


def within_rows(name: str, scores: Tensor, mask: Tensor, left: Tensor) -> Tensor:
    """Scores that are at least 0 for the best weights of each output row, as many as it keeps, and below for others.

    Equal scores are in the order of their positions, which is noted.

    Args:
        name: the parameter's.
        scores: shape (out, in, *kernel); high = keep.
        mask: boolean, of the same shape.
        left: how many weights of each row are to stay, shape (out,).

    Source: Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024, section 3.

    Example:
        >>> scores = torch.tensor([[1.0, 2.0, 3.0], [7.0, 9.0, 8.0]])
        >>> within_rows("w", scores, scores > 0, torch.tensor([1, 2]))
        tensor([[-2., -1.,  0.],
                [-1.,  1.,  0.]])
    """
    rows = scores.detach().cpu().double().masked_fill(~mask.cpu(), -torch.inf).flatten(1)
    ranks = torch.arange(rows.shape[1] - 1, -1, -1, dtype=torch.float32).expand(rows.shape)
    places = torch.empty(rows.shape).scatter_(1, rows.argsort(stable=True), ranks)
    found = left.cpu()[:, None] - 1 - places
    note_choices(name, rows, mask.cpu().flatten(1), found >= 0, dim=1)
    return found.reshape(scores.shape)
