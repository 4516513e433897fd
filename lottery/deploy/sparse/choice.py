"""Which format of matrix a layer computes fastest with, dense included: by timing them on this device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from lottery.deploy.clock import clock_of
from lottery.deploy.sparse.linear import BLOCKS, SparseLinear, TwoFourLinear, bsr, csr, two_four

Format = Literal["auto", "csr", "bsr", "2:4"]
PAYS = 0.9
"""Auto leaves a layer dense unless another format takes at most this share of the dense time: below it is noise."""
HOPELESS = 3.0
"""What takes this many times as long as dense is not timed further."""
_SECONDS = 0.05  # for each form
_FEWEST, _MOST = 9, 501  # calls of each form
_WARM = 3  # the first calls prepare what later ones reuse


@dataclass(frozen=True)
class LayerChoice:
    """What became of one layer.

    Args:
        name: of the module.
        shape: of its weight.
        density: non-zero / all.
        rows: how many rows the layer was given in the example; 0 where forward did not call it.
        seconds: per call on that input, for "dense" and each format that was tried; of processor time where one thread
            of the CPU does all, so that other processes do not count.
        chosen: "dense", "csr", "bsr 8x8", ..., "2:4".
        why: in words.
    """

    name: str
    shape: tuple[int, ...]
    density: float
    chosen: str
    why: str
    rows: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)

    def best(self, kind: str) -> float:
        """Seconds per call in a format, whatever its blocks; NaN where it was not timed."""
        times = (t for name, t in self.seconds.items() if name.split()[0] == kind)
        return min(times, default=float("nan"))


def matrix(part: nn.Module) -> Tensor | None:
    """The weight that makes a module a layer: of two or more dimensions, its own. None where there is none."""
    if isinstance(part, ParametrizationList):
        return None  # its layer has the weight
    own = [getattr(part, "weight", None), *part.parameters(recurse=False)]
    return next((w for w in own if isinstance(w, Tensor) and w.ndim > 1), None)


def stays(part: nn.Module) -> str:
    """Why a layer must stay dense, in words; empty where it need not."""
    if getattr(type(part), "forward", None) is not nn.Linear.forward:
        return f"torch has no sparse {type(part).__name__}"
    if part._forward_hooks or part._forward_pre_hooks:
        return "it has forward hooks"
    return ""


def choose(name: str, linear: nn.Linear, x: Tensor, format: Format) -> tuple[LayerChoice, nn.Module]:
    """The fastest form of a linear layer that a format allows, for one input.

    Args:
        name: of the layer.
        linear: the layer.
        x: what it is given, (..., in).
        format: "auto" allows all, dense included, and leaves it only for what takes at most `PAYS` of the time; others
            allow their own, and dense only where the layer cannot have it.

    Returns:
        What was chosen, and the layer in that form: `linear` itself where it stays dense.
    """
    forms, refused = _forms(linear, format)
    seconds, failed = _timed({"dense": linear, **forms}, x)
    tried = sorted(forms.keys() & seconds.keys(), key=seconds.__getitem__)
    chosen = "dense"
    if not tried:
        why = "; ".join({**refused, **failed}.values())
    else:
        share = seconds[tried[0]] / seconds["dense"]
        why = f"takes {share:.2f} x the dense time"
        if format != "auto":
            chosen, why = tried[0], f"asked for; {why}"
        elif share <= PAYS:
            chosen = tried[0]
        else:
            why = f"{tried[0]} {why}"
    layer = LayerChoice(
        name, tuple(linear.weight.shape), density(linear.weight), chosen, why, x.shape[:-1].numel(), seconds
    )
    return layer, {"dense": linear, **forms}[chosen]


def density(weight: Tensor) -> float:
    """Non-zero / all."""
    return int(weight.count_nonzero()) / max(1, weight.numel())


def _forms(linear: nn.Linear, format: Format) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The layer in each format that it can have, and why it cannot have others."""
    weight, bias = linear.weight, linear.bias
    ways: dict[str, Callable[[], nn.Module]] = {}
    if format in ("auto", "csr"):
        ways["csr"] = lambda: SparseLinear(csr(weight), bias)
    if format in ("auto", "bsr"):
        for side in BLOCKS:
            ways[f"bsr {side}x{side}"] = partial(_in_blocks, weight, bias, side)
    if format in ("auto", "2:4"):
        ways["2:4"] = lambda: TwoFourLinear(two_four(weight), bias)
    forms, refused = {}, {}
    for form, make in ways.items():
        try:
            forms[form] = make()
        except (ValueError, RuntimeError) as error:
            refused[form] = _first_line(error)
    return forms, refused


def _in_blocks(weight: Tensor, bias: Tensor | None, side: int) -> nn.Module:
    return SparseLinear(bsr(weight, side), bias)


def _timed(forms: Mapping[str, nn.Module], x: Tensor) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds per call of each form, and why others cannot compute `x`.

    Each form is called in turns with the dense one, as layers are called between others: in a loop of its own a small
    matrix would stay in the cache.
    """
    clock = clock_of(x.device)
    dense = forms["dense"]
    seconds = {"dense": min(_seconds(dense, x, clock) for _ in range(_WARM))}
    shares: dict[str, float] = {}
    failed: dict[str, str] = {}
    beside: list[float] = []
    for form, layer in forms.items():
        if layer is dense:
            continue
        try:
            once = min(_seconds(layer, x, clock) for _ in range(_WARM))
        except RuntimeError as error:
            failed[form] = f"{form}: {_first_line(error)}"
            continue
        shares[form] = once / seconds["dense"]
        if shares[form] > HOPELESS:
            continue
        turns = round(_SECONDS / (once + seconds["dense"]))
        pairs = [(_seconds(dense, x, clock), _seconds(layer, x, clock)) for _ in range(max(_FEWEST, min(_MOST, turns)))]
        shares[form] = median(own / other for other, own in pairs)
        beside += [other for other, _ in pairs]
    if beside:
        seconds["dense"] = median(beside)
    return seconds | {f: s * seconds["dense"] for f, s in shares.items()}, failed


def _seconds(layer: nn.Module, x: Tensor, clock: Callable[[], float]) -> float:
    start = clock()
    layer(x)
    return clock() - start


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
