"""Linear layers that compute with sparse matrices, where that is measured to pay on this device."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor, nn

from lottery.deploy.distance import distance
from lottery.deploy.inputs import as_inputs, device_of
from lottery.deploy.sparse.choice import Format, LayerChoice, choose, density, matrix, stays
from lottery.deploy.sparse.linear import lacking, quiet
from lottery.foundations.tensors_in import outputs_in, read

if TYPE_CHECKING:
    import pandas

_CLOSE = {torch.float64: 1e-10, torch.float32: 1e-4}
_CLOSE_ENOUGH = 2e-2  # of 16 bits


@dataclass(frozen=True)
class Sparsified:
    """A network some of whose layers compute with sparse matrices.

    Args:
        module: a copy, for inference: in eval mode, and nothing in it requires gradients.
        layers: what became of each layer that has a weight matrix.
        difference: the largest distance from a dense output on the example, over the largest dense output.
    """

    module: nn.Module
    layers: tuple[LayerChoice, ...]
    difference: float

    def table(self) -> pandas.DataFrame:
        """A row per layer: shape, density, rows of input, microseconds per call dense and in the best of each format
        that was tried (NaN: not tried), what was chosen and why.
        """
        import pandas

        rows = [
            {
                "layer": layer.name,
                "shape": " x ".join(map(str, layer.shape)),
                "density": layer.density,
                "rows": layer.rows,
                **{f"{kind} us": 1e6 * layer.best(kind) for kind in ("dense", "csr", "bsr", "2:4")},
                "chosen": layer.chosen,
                "why": layer.why,
            }
            for layer in self.layers
        ]
        return pandas.DataFrame(rows).set_index("layer")


def sparsify(module: nn.Module, example_input: object, format: Format = "auto") -> Sparsified:
    """A copy of a module whose linear layers compute with sparse matrices.

    A zero weight counts as pruned. Each layer is timed with the input that it gets in a forward pass of
    `example_input`, with as many threads as torch is set to, each format in turns with dense, call by call, and the
    median ratio counts. What pays differs with device, batch size and density, so give an example of the size that will
    be served.

    The result is for inference: nothing in it has gradients; `torch.save` holds its state dict, but safetensors,
    `torch.export` and ONNX do not; and code that reads `weight` of a converted layer finds a sparse matrix.
    Convolutions and recurrent layers stay dense: torch has no sparse ones.

    Args:
        module: the pruned module; it is not changed.
        example_input: a tensor, or a tuple of them, that `forward` takes; the first dimension is the batch.
        format: "auto" takes for each layer the fastest, dense included. "csr", "bsr" (square blocks, of the fastest
            size) and "2:4" convert every layer that they can, whether it pays or not.

    Raises:
        ValueError: there is no such format; it can convert no layer, or the device lacks what it needs; or the outputs
            of the copy are not those of the module.

    Example:
        >>> net = nn.Sequential(nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 10))
        >>> with torch.no_grad():
        ...     _ = net[0].weight.mul_(torch.rand(200, 300) < 0.02)
        >>> sparse = sparsify(net, torch.randn(8, 300), format="csr")
        >>> sparse.module[0], sparse.difference < 1e-5, list(sparse.table()["chosen"])  # doctest: +ELLIPSIS
        (SparseLinear(in_features=300, ...), True, ['csr', 'csr'])
    """
    if format not in get_args(Format):
        raise ValueError(f"format={format!r}; choose from {', '.join(get_args(Format))}")
    if format == "2:4" and (missing := lacking(device_of(module))):
        raise ValueError(f"{missing}. format='auto' takes what pays here.")
    inputs = as_inputs(example_input)
    dense = copy.deepcopy(module).eval().requires_grad_(False)
    layers: list[LayerChoice] = []
    replacements: dict[nn.Module, nn.Module] = {}
    with torch.no_grad(), quiet():
        reasons = _staying(dense)
        seen, expected = _watched(dense, inputs, reasons)
        for name, part in dense.named_modules():
            weight = matrix(part)
            if weight is None:
                continue
            why = reasons.get(part, "")
            if isinstance(part, nn.Linear) and not why and part in seen:
                layer, form = choose(name, part, seen[part], format)
                if form is not part:
                    replacements[part] = form
            else:
                why = why or "forward does not call it with one tensor"
                shape = tuple(weight.shape)
                layer = LayerChoice(name, shape, density(weight), "dense", why)
            layers.append(layer)
        if format != "auto" and not replacements:
            listed = "".join(f"\n  {layer.name}: {layer.why}" for layer in layers)
            raise ValueError(f"format={format!r} can convert no layer of {type(module).__name__}:{listed}")
        sparse = _replaced(dense, replacements).eval()
        difference = _difference(_numbers(sparse, inputs), expected)
    return Sparsified(sparse, tuple(layers), difference)


def _staying(module: nn.Module) -> dict[nn.Module, str]:
    """The layers that must stay dense, and why."""
    reasons = {part: stays(part) for part in module.modules() if matrix(part) is not None}
    for block in module.modules():
        if isinstance(block, nn.TransformerEncoderLayer):  # a fused kernel, in eval mode
            for part in block.modules():
                if part in reasons and not reasons[part]:
                    reasons[part] = "nn.TransformerEncoderLayer reads its weights itself"
    return {part: why for part, why in reasons.items() if why}


def _watched(
    module: nn.Module, inputs: tuple[object, ...], reasons: Mapping[nn.Module, str]
) -> tuple[dict[nn.Module, Tensor], list[Tensor]]:
    """What each linear layer is given in a forward pass, the first time, and what comes out at the end."""
    seen: dict[nn.Module, Tensor] = {}

    def watch(layer: nn.Module, arguments: tuple[object, ...]) -> None:
        if len(arguments) == 1 and isinstance(arguments[0], Tensor):
            seen.setdefault(layer, arguments[0])

    hooks = [
        part.register_forward_pre_hook(watch)
        for part in module.modules()
        if isinstance(part, nn.Linear) and part not in reasons
    ]
    try:
        return seen, [x.clone() for x in _numbers(module, inputs)]
    finally:
        for hook in hooks:
            hook.remove()


def _numbers(module: nn.Module, inputs: tuple[object, ...]) -> list[Tensor]:
    """The floating tensors in what a module gives; those of whole numbers only where there are no others."""
    try:
        output = read(module(*inputs))
    except Exception as error:  # whatever forward does
        raise ValueError(f"{type(module).__name__}.forward stopped on the example input with: {error}") from error
    found = outputs_in(output, type(module).__name__)
    return [x for x in found if x.is_floating_point()] or found


def _replaced(module: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """The module with layers replaced, wherever they hang."""
    if module in replacements:
        return replacements[module]
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in replacements:
                setattr(parent, name, replacements[child])
    return module


def _difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest distance between outputs, over the largest expected one.

    Raises:
        ValueError: it is more than rounding explains.
    """
    most = 0.0
    for one, other in zip(found, expected, strict=True):
        apart, scale = distance(other, one)
        share = apart / (scale or 1)
        allowed = _CLOSE.get(other.dtype, _CLOSE_ENOUGH)
        if not share <= allowed:
            raise ValueError(
                f"the sparse copy gives other outputs: {share:.1e} of the largest away, {allowed:.0e} are allowed for"
                f" {other.dtype}. Does forward draw random numbers, give NaN, or read the weights of linear layers?"
            )
        most = max(most, share)
    return most
