"""Costs as text in tables: for the terminal and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from lottery.deploy.costs.measure import Ratio
from lottery.deploy.costs.variants import BOTH, COMPACTED, DENSE, MASKED, SPARSE, Cost
from lottery.text.numbers import number, percent
from lottery.text.tables import TextTable

NONE = "-"


def size_table(cost: Cost) -> TextTable:
    """Parameters, file and FLOPs of each variant."""
    rows = []
    for name, one in cost.variants.items():
        row = [name]
        for quantity, text in (
            ("parameters", f"{one.parameters:,}"),
            ("bytes", size(one.bytes)),
            ("flops", scaled(one.flops)),
        ):
            row += [text, _share(cost.share(name, quantity))]
        rows.append(row)
    caption = "x: share of dense. FLOPs of one sample; those of sparse and both in theory."
    header = ["", "parameters", "x", "file", "x", "FLOPs", "x"]
    return TextTable(header, rows, caption)


def encoding_table(cost: Cost) -> TextTable:
    """What the masked weights take in each encoding."""
    rows = [
        [
            str(name),
            NONE if math.isnan(row["bytes"]) else size(row["bytes"]),
            _share(row["x dense"]),
            _share(row["x bound"]),
        ]
        for name, row in cost.encodings.iterrows()
    ]
    caption = (
        "Prunable weights in each encoding. x dense: share of all these weights; x bound: of the values kept and the"
        f" entropy of the masks. {NONE}: some mask has not the pattern. auto: the best for each parameter."
    )
    return TextTable(["encoding", "bytes", "x dense", "x bound"], rows, caption)


def time_table(cost: Cost) -> TextTable:
    """Latency and peak memory of each variant at each batch size."""
    rows = []
    for batch_size in cost.batch_sizes:
        for name, one in cost.variants.items():
            latency, ratio = (one.latency.get(batch_size), cost.slowness(name, batch_size))
            if latency is None or ratio is None:
                continue
            lower, upper = latency.quartiles
            peak = one.memory[batch_size].peak
            dense = cost.variants[DENSE].memory[batch_size].peak
            rows.append(
                [
                    str(batch_size),
                    name,
                    f"{1e3 * latency.median:.3g} ms",
                    f"{50 * (upper - lower) / latency.median:.0f} %",
                    f"{ratio.median:.2f}",
                    "" if name == DENSE else f"{ratio.low:.2f} to {ratio.high:.2f}",
                    size(peak),
                    f"{peak / dense:.2f}",
                ]
            )
    caption = (
        f"Forward passes on {cost.device}. ±: half the distance of the quartiles; x: share of dense, its interval that"
        " of the median of ratios. Memory: weights and the peak of what torch allocates."
    )
    header = ["batch", "", "latency", "±", "x", "95 % interval", "memory", "x"]
    return TextTable(header, rows, caption)


def rounds_table(costs: Mapping[str, Cost], metric: str = "", values: Mapping[str, float] = {}) -> TextTable:
    """Sizes of several networks as shares of dense, a row each, beside the metric of those that have one."""
    rows = [
        [
            name,
            percent(cost.density),
            *([number(values[name]) if name in values else NONE] if metric else []),
            f"{cost.removed:,} of {cost.units:,}",
            *(
                _share(cost.share(variant, quantity)) if variant in cost.variants else NONE
                for quantity, variant in (
                    ("parameters", COMPACTED),
                    ("flops", COMPACTED),
                    ("flops", SPARSE),
                    ("bytes", SPARSE),
                    ("bytes", BOTH),
                )
            ),
        ]
        for name, cost in costs.items()
    ]
    caption = (
        "Shares of dense. Units that compaction removed; parameters and FLOPs after it; FLOPs that are possible in"
        " theory; bytes of the sparse file, and of that of the compacted network."
    )
    if metric:
        caption += f" {metric}: of the masked network."
    header = ["round", "density", *([metric] if metric else []), "units"]
    header += ["params", "FLOPs", "theory", "sparse", "both"]
    return TextTable(header, rows, caption)


def paces_table(costs: Mapping[str, Cost]) -> TextTable:
    """Latencies of several networks as shares of dense, a row for each batch size."""
    variants = (MASKED, COMPACTED, SPARSE, BOTH)

    def cells(name: str, cost: Cost) -> Iterator[list[str]]:
        for batch_size in cost.batch_sizes:
            found = [cost.slowness(variant, batch_size) for variant in variants]
            dense = cost.variants[DENSE].latency[batch_size].median
            yield [name, percent(cost.density), str(batch_size), f"{1e3 * dense:.3g} ms", *map(_pace, found)]

    rows = [row for name, cost in costs.items() for row in cells(name, cost)]
    device = next(iter(costs.values())).device
    caption = (
        f"Latency as a share of dense on {device}; *: not 1, at 95 %. {NONE}: as the one without dead units, or"
        " no sparse kernel pays."
    )
    return TextTable(["round", "density", "batch", "dense", *variants], rows, caption)


def size(count: float) -> str:
    """Bytes in words.

    Example:
        >>> size(900), size(135_151), size(1_066_920)
        ('900 B', '135 kB', '1.07 MB')
    """
    return f"{scaled(count)}B" if count >= 1000 else f"{count:.0f} B"


def scaled(count: float) -> str:
    """A count with three digits and a prefix.

    Example:
        >>> scaled(532_400), scaled(12)
        ('532 k', '12 ')
    """
    for prefix, unit in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= 0.9995 * unit:
            return f"{_three(count / unit)} {prefix}"
    return f"{count:.0f} "


def _three(value: float) -> str:
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def _share(share: float) -> str:
    """Two digits after the point, three where the share is small."""
    if math.isnan(share):
        return NONE
    return f"{share:.2f}" if share >= 0.1 else f"{share:.3f}"


def _pace(ratio: Ratio | None) -> str:
    if ratio is None:
        return NONE
    sure = ratio.high < 1 or ratio.low > 1
    return f"{ratio.median:.2f}{'*' if sure else ''}"
