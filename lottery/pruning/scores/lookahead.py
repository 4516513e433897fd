"""Lookahead: magnitude together with that of the neighbouring layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lottery.foundations.names import parameters_of
from lottery.pruning.graph.calls import Call
from lottery.pruning.graph.neighbours import Neighbours, Norm, neighbours
from lottery.pruning.scores.context import Context
from lottery.pruning.scores.registry import register


@register("lookahead", "example_input")
@dataclass(frozen=True)
class Lookahead:
    """|w_jk| · ‖W_{i−1}[k, :]‖ · ‖W_{i+1}[:, j]‖: magnitude seen through the layers before and after.

    j is the output and k the input unit of w; the norms are of all weights into k and of all weights out of j. What
    comes from the network's input, and what the network gives back, has a factor less. Where layers join, as in a
    residual sum, all of them are neighbours; through a concatenation, a flatten or a shuffle each unit has its own.

    Which unit goes where is seen in one forward pass. Every scored parameter must be the weight of a linear layer or
    convolution that forward calls; layers that compute with weights of their own, such as recurrent ones, and functions
    that mix units, such as attention, are not followed.

    Args:
        fold_batchnorm: scale the rows of a layer by γ/√(σ² + ε) of a BatchNorm right after it.

    Source: Park, Lee, Mo & Shin, "Lookahead: A Far-sighted Alternative of Magnitude-based Pruning", ICLR 2020, section
        2.
    """

    fold_batchnorm: bool = True

    def __call__(self, context: Context) -> dict[str, Tensor]:
        """The score of each weight, in double precision.

        Raises:
            ValueError: forward cannot be followed, or a parameter is not the weight of such a layer; the message names
                the function or the parameter.
        """
        try:
            found = neighbours(context.module, context.masks, context.example_input)
        except ValueError as error:
            raise ValueError(
                f"lookahead needs the units that layers hand to each other: {error}. Choose another score."
            ) from error
        weights = {call.weight: call for call in found.calls}
        if missing := [name for name in context.masks if name not in weights]:
            raise ValueError(
                "lookahead scores the weights of linear layers and convolutions that forward calls, which these are"
                f" not: {missing}. Exclude them or choose another score."
            )
        parameters = parameters_of(context.module)
        squares = {
            name: _squares(call, parameters[name], found.norms.get(name) if self.fold_batchnorm else None)
            for name, call in weights.items()
        }
        into, out_of = _factors(found, squares)
        return {
            name: _score(weights[name], squares[name] * into[name] * out_of[name], mask.shape)
            for name, mask in context.masks.items()
        }


def _squares(call: Call, weight: Tensor, norm: Norm | None) -> Tensor:
    """Squared weights, shape (groups, outputs of a group, inputs of a group, kernel)."""
    weight = weight.detach().double()
    squares = (weight.transpose(0, 1) if call.column else weight).square()
    outputs, inputs = squares.shape[:2]
    if norm is not None:
        scale = (1 if norm.weight is None else norm.weight.square()) / norm.variance
        squares = squares * scale.reshape(-1, *[1] * (squares.ndim - 1))
    return squares.reshape(call.groups, outputs // call.groups, inputs, -1)


def _factors(found: Neighbours, squares: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Of each weight, ‖·‖² of all weights into each of its inputs, and out of each of its outputs.

    Shapes (groups, 1, inputs, 1) and (groups, outputs, 1, 1). 1 for what comes from the network's input or is given
    back, and 0 for what comes from nowhere or goes nowhere else, as a row that no layer takes does.
    """
    meetings, outside, given = found.meetings()
    into = {name: square.new_zeros(square.shape[0] * square.shape[2]) for name, square in squares.items()}
    out_of = {name: square.new_zeros(square.shape[0] * square.shape[1]) for name, square in squares.items()}
    for (before, after), pairs in meetings.items():
        rows, columns = pairs.to(squares[before].device).unbind(1)
        into[after].index_add_(0, columns, squares[before].sum((2, 3)).flatten()[rows])
        out_of[before].index_add_(0, rows, squares[after].sum((1, 3)).flatten()[columns])
    for factors, ends in ((into, outside), (out_of, given)):
        for name, factor in factors.items():
            factor[(factor == 0) & ends[name].to(factor.device)] = 1
    shaped_into = {n: f.reshape(len(squares[n]), 1, -1, 1) for n, f in into.items()}
    return shaped_into, {n: f.reshape(len(squares[n]), -1, 1, 1) for n, f in out_of.items()}


def _score(call: Call, squares: Tensor, shape: torch.Size) -> Tensor:
    """The root, in the shape of the weight."""
    score = squares.sqrt()
    if call.column:
        return score.flatten(0, 1).transpose(0, 1).reshape(shape)
    return score.reshape(shape)
