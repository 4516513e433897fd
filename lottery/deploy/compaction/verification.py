"""Makes sure that a smaller module computes what the larger one does, and finds where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from lottery.deploy.compaction.removal import Removal
from lottery.deploy.distance import distance
from lottery.foundations.tensors_in import outputs_in, tensors_in
from lottery.pruning.graph.tracer import UnitTracer

TOLERANCE = 1e-12  # of the largest entry of an output


def verify(module: nn.Module, small: nn.Module, inputs: Sequence[object], removal: Removal) -> None:
    """Run both on inputs, and on random ones of their shapes, where the larger module takes such.

    Args:
        module: in eval mode and double precision.
        small: what was made from it.
        inputs: what forward takes.
        removal: by which it was made.

    Raises:
        ValueError: an output differs, or the smaller module's forward stops; the message names the layer.
    """
    random = [_random(x) if isinstance(x, Tensor) else x for x in inputs]
    for given in (inputs, random):
        try:
            expected = _run(module, given)
        except Exception:
            if given is inputs:
                raise
            continue
        try:
            found = _run(small, given)
        except Exception:  # noqa: BLE001 (whatever forward does)
            found = []
        if len(found) != len(expected) or not all(_agree(a, b) for a, b in zip(expected, found, strict=True)):
            raise ValueError(
                f"{type(module).__name__} would compute something else without its dead units:"
                f" {_difference(module, small, given, removal)}"
            )


def _random(x: Tensor) -> Tensor:
    """Normal numbers; whole numbers between the least and the greatest that are there; truth values stay."""
    if x.is_floating_point():
        return torch.randn_like(x)
    if x.dtype == torch.bool or not x.numel():
        return x
    return torch.randint_like(x, int(x.min()), int(x.max()) + 1)


def _run(module: nn.Module, inputs: Sequence[object]) -> list[Tensor]:
    torch.manual_seed(0)
    with torch.no_grad():
        return outputs_in(module(*_clones(inputs)), type(module).__name__)


def _clones(inputs: Sequence[object]) -> list[object]:
    """So that what works in place finds them as they were."""
    return [x.clone() if isinstance(x, Tensor) else x for x in inputs]


def _agree(expected: Tensor, found: Tensor) -> bool:
    apart, scale = distance(expected, found)
    rounds = expected.is_floating_point() or expected.is_complex()
    return apart <= (TOLERANCE * scale if rounds else 0)


class _Watching(UnitTracer):
    """Also notes what each part of the network gives, and the labels of that."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.given: list[tuple[str, Tensor, Tensor | None]] = []

    def _leave(self, part: nn.Module, inputs: object, output: object) -> None:
        for x in tensors_in(output):
            labels = self.of.get(x)
            self.given.append((self.path[-1], x.detach().clone(), labels))
        super()._leave(part, inputs, output)


def _difference(module: nn.Module, small: nn.Module, inputs: Sequence[object], removal: Removal) -> str:
    """Where one sample takes another way, and what to do about it, in words."""
    sample = [x[:1] if isinstance(x, Tensor) else x for x in inputs]
    follower = _Watching(module, removal.units.owned, exact=True)
    follower.run(module, _clones(sample))
    names = {part: path or type(small).__name__ for path, part in small.named_modules()}
    inside, entered = [names[small]], [""]
    found: list[tuple[str, Tensor]] = []

    def enter(part: nn.Module, _: object) -> None:
        inside.append(names[part])
        entered.append(names[part])

    def leave(part: nn.Module, _: object, output: object) -> None:
        inside.pop()
        found.extend((names[part], x.clone()) for x in tensors_in(output))

    where = "the outputs differ"
    with ExitStack() as stack:
        for part in names:
            stack.callback(part.register_forward_pre_hook(enter).remove)
            stack.callback(part.register_forward_hook(leave).remove)
        try:
            torch.manual_seed(0)
            with torch.no_grad():
                small(*_clones(sample))
        except Exception as error:  # noqa: BLE001 (whatever forward does)
            where = f"forward of {inside[-1]} stopped after {entered[-1]}: {error}"
    for (path, x, labels), (_, y) in zip(follower.given, found, strict=False):
        if not _same(x, labels, y, removal):
            where = f"{path} is the first to give something else"
            entered = entered[: entered.index(path) + 1]
            break
    before = [name for name in dict.fromkeys(entered) if name in removal.removed()]
    names_to_keep = before[-1:] or list(removal.removed())
    return (
        f"{where}. Its code counts on sizes that shrink, as x.view(-1, 400) does where x.flatten(1) would not: rewrite"
        f" it, or let the units stay, keep={names_to_keep}"
    )


def _same(x: Tensor, labels: Tensor | None, y: Tensor, removal: Removal) -> bool:
    """Whether the smaller module gives what stays of a feature; what nothing reads may differ."""
    if labels is None or not x.is_floating_point():
        return labels is not None or _agree(x, y)
    number = labels.expand(x.shape).long()
    stays = removal.stays[number]
    read = removal.units.read[number][stays]
    return int(stays.sum()) == y.numel() and _agree(x[stays][read], y.flatten()[read])
