"""Scores of the second derivatives: OBD with the exact or the Fisher diagonal, and OBS in blocks.

L is the loss, H its Hessian, g_n the gradient of one sample's loss, m the mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.func import grad, vmap

from lottery.foundations.substitution import substituted
from lottery.foundations.undisturbed import attributes_kept
from lottery.pruning.scores.context import Context
from lottery.pruning.scores.derivatives import differentiable_twice
from lottery.pruning.scores.gradient import gradients, summed
from lottery.pruning.scores.registry import register

_CHUNK = 32  # samples, or rows of a Hessian, at once
_NUMBERS = 2**27  # that gradients of single samples may take in memory at once


@register("obd", "batches")
@dataclass(frozen=True)
class OBD:
    """½ θ² H_kk with the exact diagonal of the Hessian: one backward pass per weight, for small networks.

    Args:
        batches: how many batches to take; H is the mean of theirs.
        limit: the most surviving weights it takes on.

    Source: LeCun, Denker & Solla, "Optimal Brain Damage", NeurIPS 1989, section 2.
    """

    batches: int = 1
    limit: int = 100_000

    def __call__(self, context: Context) -> dict[str, Tensor]:
        """The score of each weight.

        Raises:
            ValueError: there are more weights than `limit`.
        """
        if context.masks.kept > self.limit:
            raise ValueError(
                f"obd takes a backward pass for each of {context.masks.kept:,} weights, more than limit={self.limit:,}."
                " Take 'fisher', or raise the limit."
            )
        taken = context.take(self.batches)
        with differentiable_twice():
            diagonal = _mean(((1, _hessian_diagonal(b, context)) for b in taken), context)
        return {n: w.square() * diagonal[n] / 2 for n, w in context.weights.items()}


@register("fisher", "batches")
@dataclass(frozen=True)
class Fisher:
    """½ θ² · mean of g_n² over samples: OBD with the diagonal of the empirical Fisher matrix for the Hessian's.

    Args:
        batches: how many batches to take.

    Source: Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", 2018, section 2.
    """

    batches: int = 10

    def __call__(self, context: Context) -> dict[str, Tensor]:
        """The score of each weight."""
        means = _mean(
            (
                (count, {name: g.square().sum(0) for name, g in found.items()})
                for batch in context.take(self.batches)
                for count, found in sample_gradients(batch, context)
            ),
            context,
        )
        return {n: w.square() * means[n] / 2 for n, w in context.weights.items()}


@register("obs", "batches")
@dataclass(frozen=True)
class OBS:
    """θ² / (2 [H⁻¹]_kk) with H = λI + mean of g_n g_nᵀ over samples, in blocks along each flattened parameter.

    Pruned weights have no part in H. Takes `block` doubles of memory per weight.

    Args:
        block: how many weights form a block.
        batches: how many batches to take.
        damping: λ.

    Raises:
        ValueError: block or damping is not positive.

    Source: Kurtic et al., "The Optimal BERT Surgeon", EMNLP 2022, section 3; Hassibi & Stork, "Second order derivatives
    for network pruning: Optimal Brain Surgeon", NeurIPS 1992.
    """

    block: int = 50
    batches: int = 10
    damping: float = 1e-7

    def __post_init__(self) -> None:
        if self.block < 1 or self.damping <= 0:
            raise ValueError(f"block={self.block} must be at least 1, and damping={self.damping} greater than 0")

    def __call__(self, context: Context) -> dict[str, Tensor]:
        """The score of each weight, in double precision."""
        means = _mean(
            (
                (count, {n: self._outer(n, g, context) for n, g in found.items()})
                for batch in context.take(self.batches)
                for count, found in sample_gradients(batch, context)
            ),
            context,
        )
        return {
            name: weight.double().square() / (2 * self._inverse(means[name], weight))
            for name, weight in context.weights.items()
        }

    def _outer(self, name: str, samples: Tensor, context: Context) -> Tensor:
        """Σ g gᵀ over samples, shape (blocks, block, block)."""
        rows = (samples * context.masks[name].to(samples.device)).double().flatten(1)
        blocks = F.pad(rows, (0, -rows.shape[1] % self.block))
        blocks = blocks.reshape(len(rows), -1, self.block).transpose(0, 1)
        return blocks.mT @ blocks

    def _inverse(self, fisher: Tensor, weight: Tensor) -> Tensor:
        """The diagonal of H⁻¹, of the weight's shape."""
        eye = torch.eye(self.block, dtype=fisher.dtype, device=fisher.device)
        lower, failed = torch.linalg.cholesky_ex(fisher + self.damping * eye)
        half = torch.linalg.solve_triangular(lower, eye, upper=False)
        diagonal = half.square().sum(-2)
        diagonal[failed > 0] = torch.nan  # as the gradients there are
        return diagonal.flatten()[: weight.numel()].reshape(weight.shape)


def sample_gradients(batch: object, context: Context) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """The gradients of each sample's own loss, some samples at a time: how many, and tensors of shape (n, *shape).

    A sample is a position in the first dimension of the batch's tensors. Its loss is that of a batch of one.

    Raises:
        ValueError: the batch has no tensors, or of different lengths.
    """
    lengths: set[int] = set()
    apply_to_collection(batch, Tensor, lambda t: lengths.add(len(t) if t.ndim else -1))
    if len(lengths) != 1 or -1 in lengths:
        raise ValueError(
            "scores of single samples need batches whose tensors have one length in their first dimension; these have"
            f" {sorted(lengths) or 'no tensors'}"
        )
    chunk = min(_CHUNK, max(1, _NUMBERS // context.masks.total))
    for indices in torch.arange(lengths.pop()).split(chunk):
        try:
            found = _together(batch, indices, context)
        except (RuntimeError, ValueError):
            # vmap cannot take everything (recurrent layers, control flow on values): one by one
            found = _one_by_one(batch, indices, context)
        yield len(indices), found


def _together(batch: object, indices: Tensor, context: Context) -> dict[str, Tensor]:
    def loss(weights: dict[str, Tensor], index: Tensor) -> Tensor:
        with substituted(context.module, weights):
            return context.loss(context.module, _sample(batch, index))

    with attributes_kept(context.module):  # a tensor of this pass is of no use after it
        return vmap(grad(loss), in_dims=(None, 0))(context.weights, indices)


def _one_by_one(batch: object, indices: Tensor, context: Context) -> dict[str, Tensor]:
    found = [gradients(context.loss(context.module, _sample(batch, index)), context) for index in indices]
    return {name: torch.stack([g[name] for g in found]) for name in context.masks}


def _sample(batch: object, index: Tensor) -> object:
    return apply_to_collection(batch, Tensor, lambda t: t.index_select(0, index.reshape(1).to(t.device)))


def _hessian_diagonal(batch: object, context: Context) -> dict[str, Tensor]:
    """∂²L/∂θ_k² of each surviving weight, zeros elsewhere."""
    found = gradients(context.loss(context.module, batch), context, graph=True)
    diagonals = {name: torch.zeros_like(g) for name, g in found.items()}
    parameters = context.parameters
    for name, gradient in found.items():
        if not gradient.requires_grad:
            continue  # the loss is at most linear in this parameter
        mask = context.masks[name].to(gradient.device)
        for chunk in mask.flatten().nonzero().squeeze(1).split(_CHUNK):
            rows = F.one_hot(chunk, gradient.numel()).to(gradient)
            (products,) = torch.autograd.grad(
                gradient,
                parameters[name],
                rows.reshape(-1, *gradient.shape),
                retain_graph=True,
                is_grads_batched=True,
                allow_unused=True,
            )
            if products is None:
                break  # it is linear in it, too
            entries = products.flatten(1).gather(1, chunk[:, None]).squeeze(1)
            diagonals[name].view(-1)[chunk] = entries
    return diagonals


def _mean(terms: Iterable[tuple[int, dict[str, Tensor]]], context: Context) -> dict[str, Tensor]:
    """The mean of sums over so many samples (or batches) each, over all of them and all ranks."""
    count = ""  # no parameter has this name
    total = summed(({**sums, count: next(iter(sums.values())).new_tensor(float(n))} for n, sums in terms), context)
    whole = total.pop(count)
    return {name: value / whole for name, value in total.items()}
