"""What becomes of a network of which half of the units are pruned: by lottery, and by Torch-Pruning."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lottery import Masks, Pruning
from lottery.deploy import bake, compact
from lottery.foundations.tensors_in import tensors_in
from lottery.masks.prunable import prunable_parameters

from .made import make


def ours(name: str) -> dict[str, Any]:
    """What becomes of a network: how far it shrinks, and whether it gives the same."""
    module, inputs = make(name)
    parameters = prunable_parameters(module, (), ())
    masks = Masks.ones(parameters)
    scores = {n: p.detach().abs() for n, p in parameters.items()}
    pruning = Pruning(0.5, structure="channel", scope="layerwise", collapse="warn")
    example = inputs(2, 0)
    try:
        masks = pruning.next_masks(scores, masks, 1, module=module, example_input=example)
    except Exception as error:  # noqa: BLE001 (what is refused, and how, is what is measured)
        return {"outcome": "refused before training", "why": said(error)}
    bake(module, masks)
    before = count(module)
    promised = before - int(sum((~m).sum() for m in masks.values()))
    try:
        found = compact(module, example)
    except Exception as error:  # noqa: BLE001
        return {"outcome": "refused later", "why": said(error), "before": before, "promised": promised}
    small = found.module
    wrong = [f"batch {b}, size {s}" for b, s in ((2, 0), (3, 0), (2, 1), (1, 2)) if apart(module, small, inputs(b, s))]
    after = count(small)
    gone, asked = before - after, before - promised
    outcome = "fully" if gone >= 0.98 * asked else "partly" if gone > 0 else "nothing"
    if wrong:
        outcome = "WRONG"
    return {
        "outcome": outcome,
        "why": "; ".join([*wrong, *sorted({why for why in dict(found.stayed).values()})[:2]]),
        "before": before,
        "promised": promised,
        "after": after,
        "FLOPs": flops(small, example) / max(1, flops(module, example)),
        "trains": trains(small, inputs(4, 0)),
    }


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


def call(module: nn.Module, example: Any) -> object:
    return module(*example) if isinstance(example, tuple) else module(example)


def flops(module: nn.Module, example: object) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(module, example)
    return counter.get_total_flops()


def tensors(value: object) -> list[Tensor]:
    return [t for t in tensors_in(value) if t.is_floating_point()]


@torch.no_grad()
def apart(one: nn.Module, other: nn.Module, x: object) -> bool:
    """Whether two networks give other outputs, to 1e-8 of their scale; not where the first takes no such input."""
    try:
        expected = tensors(call(one, x))
    except Exception:  # noqa: BLE001
        return False
    try:
        found = tensors(call(other, x))
    except Exception:  # noqa: BLE001
        return True
    pairs = zip(expected, found, strict=True)
    return any(
        a.shape != b.shape or float((a - b).abs().max()) > 1e-8 * max(1.0, float(a.abs().max())) for a, b in pairs
    )


def trains(module: nn.Module, x: object) -> str:
    """ "yes", or why a step of training fails."""
    module.train()
    try:
        optimizer = torch.optim.SGD(module.parameters(), 1e-3)
        torch.stack([t.square().mean() for t in tensors(call(module, x))]).sum().backward()
        optimizer.step()
    except Exception as error:  # noqa: BLE001
        return said(error)
    return "yes"


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160]
