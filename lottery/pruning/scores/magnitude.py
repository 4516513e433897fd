"""Scores of the weights alone: magnitude, random, and the criteria of Zhou et al. on initial and final weights.

θ are the weights, θ₀ those before training. Sources: Zhou et al., "Deconstructing Lottery Tickets: Zeros, Signs, and
the Supermask", NeurIPS 2019, section 2 (mask criteria) and section 5 (signs), and its authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lottery.foundations.streams import derive
from lottery.pruning.scores.context import Context
from lottery.pruning.scores.registry import register


@register("magnitude")
def magnitude(context: Context) -> dict[str, Tensor]:
    """|θ|: large weights stay (Zhou's "large final").

    Source: Janowsky, "Pruning versus clipping in neural networks", Physical Review A 1989; Han et al., "Learning both
    Weights and Connections", NeurIPS 2015, section 3.
    """
    return {name: weight.abs() for name, weight in context.weights.items()}


@register("random", "generator")
def random(context: Context) -> dict[str, Tensor]:
    """Uniform in [0, 1): the control; equal on all ranks, whatever the order of parameters and their dtype."""
    assert context.generator is not None
    base = int(torch.randint(2**62, (), generator=context.generator))
    return {
        name: torch.rand(
            weight.shape,
            generator=torch.Generator().manual_seed(derive(base, name)),
            dtype=torch.float64,  # float32 has 2²⁴ values: many ties in a large layer
        ).to(weight.device)
        for name, weight in context.weights.items()
    }


@register("small_final")
def small_final(context: Context) -> dict[str, Tensor]:
    """−|θ|: small weights stay, the opposite of magnitude."""
    return {name: -weight.abs() for name, weight in context.weights.items()}


@register("large_init", "initial")
def large_init(context: Context) -> dict[str, Tensor]:
    """|θ₀|: weights that began large stay."""
    return {name: weight.abs() for name, weight in context.initial_weights.items()}


@register("small_init", "initial")
def small_init(context: Context) -> dict[str, Tensor]:
    """−|θ₀|: weights that began small stay."""
    return {name: -weight.abs() for name, weight in context.initial_weights.items()}


@register("large_init_large_final", "initial")
def large_init_large_final(context: Context) -> dict[str, Tensor]:
    """min(rank |θ₀|, rank |θ|): weights that began and ended large stay.

    The paper's min(α|θ|, |θ₀|) with α as its code takes it: both thresholds at one percentile of the layer's surviving
    weights. The ranks are those percentiles, in (0, 1].
    """
    return _lower_rank(context, sign=1)


@register("small_init_small_final", "initial")
def small_init_small_final(context: Context) -> dict[str, Tensor]:
    """min(rank −|θ₀|, rank −|θ|): weights that began and ended small stay."""
    return _lower_rank(context, sign=-1)


@register("magnitude_increase", "initial")
def magnitude_increase(context: Context) -> dict[str, Tensor]:
    """|θ| − |θ₀|: weights that grew stay."""
    initial = context.initial_weights
    return {n: w.abs() - initial[n].abs() for n, w in context.weights.items()}


@register("distance", "initial")
def distance(context: Context) -> dict[str, Tensor]:
    """|θ − θ₀|: weights that went far stay (Zhou's "movement", which is not Sanh's)."""
    initial = context.initial_weights
    return {n: (w - initial[n]).abs() for n, w in context.weights.items()}


@register("large_final_same_sign", "initial")
def large_final_same_sign(context: Context) -> dict[str, Tensor]:
    """max(0, θ·sign θ₀): large weights that kept their sign stay."""
    initial = context.initial_weights
    return {n: (w * initial[n].sign()).relu() for n, w in context.weights.items()}


@register("large_final_diff_sign", "initial")
def large_final_diff_sign(context: Context) -> dict[str, Tensor]:
    """max(0, −θ·sign θ₀): large weights that changed sign stay, the control of the one above."""
    initial = context.initial_weights
    return {n: (-w * initial[n].sign()).relu() for n, w in context.weights.items()}


def _lower_rank(context: Context, sign: int) -> dict[str, Tensor]:
    initial = context.initial_weights
    scores = {}
    for name, weight in context.weights.items():
        mask = context.masks[name].to(weight.device)
        ranks = [_ranks(sign * w[mask].abs()) for w in (weight, initial[name])]
        scores[name] = torch.zeros_like(weight, dtype=torch.float64)
        scores[name][mask] = torch.minimum(*ranks)
    return scores


def _ranks(values: Tensor) -> Tensor:
    """The fraction of `values` that are no greater than each."""
    ascending = values.sort().values
    counts = torch.searchsorted(ascending, values, right=True)
    return counts.double() / max(1, values.numel())
