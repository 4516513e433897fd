"""What Torch-Pruning makes of the same networks."""

from __future__ import annotations

from typing import Any

import torch
from architectures.halved import call, count, flops, said, tensors
from torch import Tensor, nn

from .made import make


def theirs(name: str) -> dict[str, Any]:
    """The parameters that Torch-Pruning leaves at the same share and the share of FLOPs, or its error."""
    import torch_pruning as tp

    module, inputs = make(name)
    try:
        example = inputs(2, 0)
        head, before = last_layers(module, example), flops(module, example)
        named = (
            {"input_ids": example} if name.startswith("transformers") and not example.is_floating_point() else example
        )
        pruner = tp.pruner.MagnitudePruner(
            module, named, importance=tp.importance.MagnitudeImportance(), pruning_ratio=0.5, ignored_layers=head,
            output_transform=lambda y: sum(t.sum() for t in tensors(y)),
        )  # fmt: skip
        pruner.step()
        call(module, example)
    except Exception as error:  # noqa: BLE001
        return {"torch-pruning": said(error)}
    return {"torch-pruning": count(module), "its FLOPs": flops(module, example) / max(1, before)}


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
