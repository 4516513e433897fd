"""Lookahead: magnitude together with that of the neighbouring layers."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from lottery.foundations.names import parameters_of
from lottery.pruning.scores.context import Context
from lottery.pruning.scores.registry import register

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


@register("lookahead")
@dataclass(frozen=True)
class Lookahead:
    """|w_jk| · ‖W_{i−1}[k, :]‖ · ‖W_{i+1}[:, j]‖: magnitude seen through the layers before and after.

    j is the output and k the input unit of w; the norms are of all weights into k and of all weights out of j. The
    first and the last layer have a factor less. Where layers join, as in a residual sum, all of them are neighbours.

    The order of layers comes from `torch.fx`: forward must be traceable, every scored parameter the weight of a Linear
    or Conv layer that it calls, and the features of neighbours must line up, with or without a flatten between.

    Args:
        fold_batchnorm: scale the rows of a layer by γ/√(σ² + ε) of a BatchNorm right after it.

    Source: Park, Lee, Mo & Shin, "Lookahead: A Far-sighted Alternative of Magnitude-based Pruning", ICLR 2020, section
        2.
    """

    fold_batchnorm: bool = True

    def __call__(self, context: Context) -> dict[str, Tensor]:
        """The score of each weight, in double precision.

        Raises:
            ValueError: the module cannot be traced, a parameter is not the weight of such a layer, or neighbours do
                not line up.
        """
        layers = _layers(context.module, self.fold_batchnorm)
        if missing := [name for name in context.masks if name not in layers]:
            raise ValueError(
                "lookahead scores the weights of Linear and Conv layers that forward calls, which these are not:"
                f" {missing}. Exclude them or choose another score."
            )
        return {name: _score(name, layers).reshape(mask.shape) for name, mask in context.masks.items()}


@dataclass
class _Layer:
    """Squared weights, as (groups, outputs of a group, inputs of a group, kernel), and the names of the neighbours."""

    squares: Tensor
    before: set[str] = field(default_factory=set)
    after: set[str] = field(default_factory=set)


def _score(name: str, layers: dict[str, _Layer]) -> Tensor:
    layer = layers[name]
    score, (groups, outputs, inputs, _) = layer.squares, layer.squares.shape
    # sorted: sums are the same bits in every process
    before = [_into(n, groups * inputs, name, layers) for n in sorted(layer.before)]
    after = [_out_of(n, groups * outputs, name, layers) for n in sorted(layer.after)]
    if before:
        score = score * torch.stack(before).sum(0).reshape(groups, 1, inputs, 1)
    if after:
        score = score * torch.stack(after).sum(0).reshape(groups, outputs, 1, 1)
    return score.sqrt()


def _into(name: str, inputs: int, of: str, layers: dict[str, _Layer]) -> Tensor:
    """‖W[k, :]‖² of the layer `name` for each input k of the layer `of` after it."""
    norms = layers[name].squares.sum((2, 3)).flatten()
    _check(name, norms.numel(), of, inputs)
    return norms.repeat_interleave(inputs // norms.numel())


def _out_of(name: str, outputs: int, of: str, layers: dict[str, _Layer]) -> Tensor:
    """‖W[:, j]‖² of the layer `name` for each output j of the layer `of` before it."""
    norms = layers[name].squares.sum((1, 3)).flatten()
    _check(of, outputs, name, norms.numel())
    return norms.reshape(outputs, -1).sum(1)


def _check(before: str, outputs: int, after: str, inputs: int) -> None:
    # a flatten gives each output several inputs in a row
    if inputs % outputs:
        raise ValueError(
            f"lookahead cannot line up the {outputs} outputs of {before} with the {inputs} inputs of {after}: what lies"
            " between is no flatten. Choose another score."
        )


def _layers(module: nn.Module, fold: bool) -> dict[str, _Layer]:
    """The Linear and Conv layers that forward calls, by the name of their weight, and how they follow each other."""
    try:
        graph = fx.Tracer().trace(module)
    except Exception as error:  # whatever forward does with a proxy
        raise ValueError(
            f"lookahead needs the order of layers, and torch.fx cannot trace {type(module).__name__}.forward: {error}."
            " Choose another score."
        ) from error
    names = {id(p): name for name, p in parameters_of(module).items()}
    layers: dict[str, _Layer] = {}
    sources: dict[fx.Node, set[str]] = {}  # the layers that a node's value comes from
    for node in graph.nodes:
        sources[node] = set().union(*(sources[n] for n in node.all_input_nodes))
        part = module.get_submodule(node.target) if node.op == "call_module" else None
        if not isinstance(part, LAYERS) or id(part.weight) not in names:
            continue
        name = names[id(part.weight)]
        norm = _norm_after(node, module) if fold else None
        layer = layers.setdefault(name, _Layer(_squares(part, norm)))
        layer.before |= sources[node]
        for neighbour in sources[node]:
            layers[neighbour].after.add(name)
        sources[node] = {name}
    return layers


def _norm_after(node: fx.Node, module: nn.Module) -> _Norm | None:
    for user in node.users:
        if user.op == "call_module":
            part = module.get_submodule(str(user.target))
            if isinstance(part, _NORMS) and part.running_var is not None:
                return part
    return None


def _squares(part: nn.Module, norm: _Norm | None) -> Tensor:
    weight = part.get_parameter("weight").detach().double()
    squares = weight.square().flatten(1)
    if norm is not None:
        variance = norm.get_buffer("running_var").double() + norm.eps
        gamma = norm.get_parameter("weight").detach() if norm.affine else variance.new_ones(())
        squares = squares * (gamma.double().square() / variance)[:, None]
    groups = getattr(part, "groups", 1)
    return squares.reshape(groups, len(weight) // groups, weight.shape[1], -1)
