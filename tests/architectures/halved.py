"""What becomes of a network of which half of the units are pruned: how small it gets, and whether it gives the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from architectures.made import Inputs
from lottery import Masks, Pruning
from lottery.deploy import bake, compact
from lottery.foundations.tensors_in import tensors_in
from lottery.masks.prunable import prunable_parameters


def half(module: nn.Module, example: object) -> Masks:
    """Masks of half of the units of each layer, by magnitude."""
    parameters = prunable_parameters(module, (), ())
    scores = {name: p.detach().abs() for name, p in parameters.items()}
    pruning = Pruning(0.5, structure="channel", scope="layerwise", collapse="warn")
    return pruning.next_masks(scores, Masks.ones(parameters), 1, module=module, example_input=example)


def halved(module: nn.Module, inputs: Inputs) -> dict[str, Any]:
    """Half of the units of each layer go, as the structure allows; at two sizes and three batch sizes it is compared.

    Args:
        module: in eval mode and double precision.

    Returns:
        "outcome": "fully" (as many parameters as the masks promise, to 2 %), "partly", "nothing", "refused before
        training", "refused later" (by `compact`) or "WRONG" (other outputs); with the numbers of parameters "before",
        "promised" and "after", the share of "FLOPs" left, whether it "trains" a step further, and "why".
    """
    example = inputs(2, 0)
    try:
        masks = half(module, example)
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
    outcome = "nothing" if gone <= 0 else "fully" if gone >= 0.98 * asked else "partly"
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


def call(module: nn.Module, example: Any) -> object:
    if isinstance(example, dict):
        return module(**example)
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
