"""What Torch-Pruning makes of the same networks."""

from __future__ import annotations

from typing import Any

import torch
from architectures.halved import call, count, flops, said, tensors
from torch import Tensor, nn

from .made import make


def theirs(name: str) -> dict[str, Any]:
    """The parameters that Torch-Pruning leaves at the same share and the share of FLOPs, or its error."""
    module, inputs = make(name)
    example = inputs(2, 0)
    try:
        before = flops(module, example)
        words = name.startswith("transformers") and not example.is_floating_point()
        shrink(module, {"input_ids": example} if words else example)
        return {"torch-pruning": count(module), "its FLOPs": flops(module, example) / max(1, before)}
    except Exception as error:  # noqa: BLE001 (whatever stops it is what is shown)
        return {"torch-pruning": said(error)}


def shrink(module: nn.Module, example: Any) -> None:
    """Half of the units of each layer go, by magnitude, in place."""
    import torch_pruning as tp

    tp.pruner.MagnitudePruner(
        module, example, importance=tp.importance.MagnitudeImportance(), pruning_ratio=0.5,
        ignored_layers=last_layers(module, example), output_transform=lambda y: sum(t.sum() for t in tensors(y)),
    ).step()  # fmt: skip


def last_layers(module: nn.Module, example: object) -> list[nn.Module]:
    """The layers whose outputs the network gives: Torch-Pruning would prune classes, too, unless told otherwise."""
    gave: dict[int, nn.Module] = {}
    kept: list[Tensor] = []  # alive, so that no two outputs share an id

    def remember(layer: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor):
            gave[id(output)] = layer
            kept.append(output)

    hooks = [m.register_forward_hook(remember) for m in module.modules() if not list(m.children())]
    with torch.no_grad():
        outputs = tensors(call(module, example))
    for hook in hooks:
        hook.remove()
    heads = [m for m in module.modules() if isinstance(m, nn.Linear) and m.out_features == 10]
    return [gave[id(t)] for t in outputs if id(t) in gave] or heads
