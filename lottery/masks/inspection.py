"""What masks look like in numbers: layers, units, overlap with other masks, signs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lottery.masks.masks import Masks

if TYPE_CHECKING:
    import pandas


def layers(masks: Masks) -> pandas.DataFrame:
    """One row per prunable parameter: shape, weights, kept, density."""
    densities = masks.densities()
    return _frame(
        {
            name: {
                "shape": tuple(mask.shape),
                "weights": mask.numel(),
                "kept": int(mask.sum()),
                "density": densities[name],
            }
            for name, mask in masks.items()
        },
        ["shape", "weights", "kept", "density"],
    )


def fan_in(mask: Tensor) -> Tensor:
    """Weights kept into each output unit: shape (outputs,). A weight is (outputs, inputs, ...)."""
    return mask.reshape(math.prod(mask.shape[:1]), math.prod(mask.shape[1:])).sum(1)


def fan_out(mask: Tensor) -> Tensor:
    """Weights kept out of each input: shape (inputs,); (1,) for a parameter of one dimension."""
    return (
        mask.reshape(*mask.shape[:2], math.prod(mask.shape[2:])).sum((0, 2)) if mask.ndim > 1 else mask.sum().reshape(1)
    )


def structure(masks: Masks) -> pandas.DataFrame:
    """The receptive structure of each parameter, of shape (outputs, inputs, ...).

    Columns: `outputs` and `inputs`; `dead_outputs` and `dead_inputs`, those without a kept weight in this parameter;
    `fan_in` and `fan_out`, the mean kept weights of those that are not dead; `nearest_dense`, the weights of the
    smallest dense layer that contains the sparse one (live outputs x live inputs x kernel), and `density_in_it`.
    """
    rows = {}
    for name, mask in masks.items():
        into, out = fan_in(mask), fan_out(mask)
        live_into, live_out = int((into > 0).sum()), int((out > 0).sum())
        kept, kernel = int(mask.sum()), math.prod(mask.shape[2:])
        dense = live_into * live_out * kernel
        rows[name] = {
            "outputs": len(into),
            "dead_outputs": len(into) - live_into,
            "inputs": len(out),
            "dead_inputs": len(out) - live_out,
            "fan_in": kept / live_into if live_into else 0.0,
            "fan_out": kept / live_out if live_out else 0.0,
            "nearest_dense": dense,
            "density_in_it": kept / dense if dense else 0.0,
        }
    columns = ["outputs", "dead_outputs", "inputs", "dead_inputs", "fan_in", "fan_out"]
    return _frame(rows, [*columns, "nearest_dense", "density_in_it"])


def overlap(masks: Masks, other: Masks) -> pandas.DataFrame:
    """How much two masks have in common, per parameter and in the row "all", and how much chance would give.

    Columns: `kept`, `kept_other`, `both`; `jaccard` (both / either) and `hamming` (the share of the weights on which
    they differ); `chance_jaccard` and `chance_hamming`, what two masks of the same densities, each drawn at random
    within its layers, would show on average (for Jaccard: of the average `both`); `z`, the standard deviations by
    which `both` exceeds chance, which is hypergeometric in each layer; NaN where chance leaves no room.

    Raises:
        ValueError: the masks are not of the same parameters.
    """
    masks.check_same(other)
    rows: dict[str, dict[str, float]] = {}
    total = dict.fromkeys(("weights", "kept", "kept_other", "both", "mean", "variance"), 0.0)
    for name, mask in masks.items():
        n, a, b = mask.numel(), int(mask.sum()), int(other[name].sum())
        counts = {
            "weights": n,
            "kept": a,
            "kept_other": b,
            "both": int((mask & other[name]).sum()),
            "mean": a * b / n if n else 0.0,
            "variance": a * b * (n - a) * (n - b) / (n * n * (n - 1)) if n > 1 else 0.0,
        }
        total = {key: total[key] + counts[key] for key in total}
        rows[name] = _overlap_row(**counts)
    rows["all"] = _overlap_row(**total)
    columns = ["kept", "kept_other", "both", "jaccard", "chance_jaccard"]
    return _frame(rows, [*columns, "hamming", "chance_hamming", "z"]).astype(
        dict.fromkeys(("kept", "kept_other", "both"), int)
    )


def _overlap_row(
    weights: float, kept: float, kept_other: float, both: float, mean: float, variance: float
) -> dict[str, float]:
    either = kept + kept_other
    return {
        "kept": kept,
        "kept_other": kept_other,
        "both": both,
        "jaccard": both / (either - both) if either else 1.0,
        "chance_jaccard": mean / (either - mean) if either else 1.0,
        "hamming": (either - 2 * both) / weights if weights else 0.0,
        "chance_hamming": (either - 2 * mean) / weights if weights else 0.0,
        "z": (both - mean) / math.sqrt(variance) if variance > 0 else math.nan,
    }


def signs_kept(masks: Masks, start: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> pandas.Series:
    """The share of kept weights whose sign in `weights` is that in `start`, per parameter and "all".

    A zero has a sign of its own; a parameter without kept weights gives NaN.

    Raises:
        ValueError: a parameter is missing in either, or has another shape.

    Source: Zhou et al., "Deconstructing Lottery Tickets", NeurIPS 2019, section 4.
    """
    import pandas

    for which in (start, weights):
        masks.check(which)
    same, kept = {}, {}
    for name, mask in masks.items():
        kept[name] = int(mask.sum())
        here, there = start[name].cpu()[mask], weights[name].cpu()[mask]
        same[name] = int((torch.sign(here) == torch.sign(there)).sum())
    same["all"], kept["all"] = sum(same.values()), sum(kept.values())
    shares = {n: same[n] / kept[n] if kept[n] else math.nan for n in kept}
    return pandas.Series(shares, name="signs_kept", dtype=float)


def _frame(rows: Mapping[str, Mapping[str, object]], columns: list[str]) -> pandas.DataFrame:
    import pandas

    named = [{"parameter": name, **row} for name, row in rows.items()]
    return pandas.DataFrame(named, columns=["parameter", *columns]).set_index("parameter")
