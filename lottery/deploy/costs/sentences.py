"""What a cost table says, in sentences: what was gained, and what was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from lottery.deploy.costs.measure import Ratio
from lottery.deploy.costs.variants import BOTH, COMPACTED, DENSE, MASKED, SPARSE, Cost
from lottery.text.numbers import percent
from lottery.text.wording import listed

NOTICED = 0.1  # a smaller difference in speed may be where weights lie in memory


def sentences(cost: Cost) -> list[str]:
    """Every sentence that the figures allow."""
    if cost.kept == cost.prunable and not cost.removed:
        return ["No weight is pruned: there is nothing to gain."]
    return [
        *_kept(cost),
        *_zeros(cost),
        *_compacted(cost),
        *_files(cost),
        *_kernels(cost),
        *_uncounted(cost),
        *_balance(cost),
    ]


def speed(ratio: Ratio) -> str:
    """A latency in words, given as a share of the dense one's.

    Example:
        >>> speed(Ratio(0.5, 0.45, 0.55)), speed(Ratio(1.02, 0.97, 1.1)), speed(Ratio(2.0, 1.9, 2.2))
        ('2.00 x faster', 'as fast', '2.00 x slower')
    """
    if faster(ratio):
        return f"{times(1 / ratio.median)} faster"
    if ratio.low > 1 and ratio.median > 1 + NOTICED:
        return f"{times(ratio.median)} slower"
    return "as fast"


def faster(ratio: Ratio) -> bool:
    """Whether a latency is surely and noticeably below the dense one's."""
    return ratio.high < 1 and ratio.median < 1 - NOTICED


def times(factor: float) -> str:
    """A factor with three digits or more.

    Example:
        >>> times(17.234), times(1.001), times(1234.5)
        ('17.2 x', '1.00 x', '1,234 x')
    """
    digits = 2 if factor < 10 else 1 if factor < 100 else 0
    return f"{factor:,.{digits}f} x"


def _kept(cost: Cost) -> Iterator[str]:
    fewer = f", {times(1 / cost.density)} fewer" if cost.kept else ""
    yield (f"{cost.kept:,} of {cost.prunable:,} prunable weights are kept: {percent(cost.density)}{fewer}.")


def _zeros(cost: Cost) -> Iterator[str]:
    ratios = _measured(cost, MASKED)
    if not ratios:
        return
    figures = _by_size({n: f"{ratio.median:.2f} of dense" for n, ratio in ratios.items()})
    if all(speed(ratio) == "as fast" for ratio in ratios.values()):
        yield f"Zeros save no time in dense kernels: masked latency is {figures}."
    else:
        yield f"With zeros in dense kernels, latency is {figures}."


def _compacted(cost: Cost) -> Iterator[str]:
    if COMPACTED not in cost.variants:
        yield f"Compaction was refused: {cost.refused[COMPACTED]}"
        return
    if not cost.removed:
        yield f"Compaction removed none of {cost.units:,} units: no FLOPs fall{_in_theory(cost)}."
    else:
        yield (
            f"Compaction removed {cost.removed:,} of {cost.units:,} units: parameters fall by"
            f" {_fall(cost, COMPACTED, 'parameters')}, FLOPs fall by"
            f" {_fall(cost, COMPACTED, 'flops')}{_in_theory(cost)}."
        )
        yield from _pace(cost, COMPACTED, "The compacted network is")
        memory = cost.variants[COMPACTED].memory
        if memory:
            dense = cost.variants[DENSE].memory
            shares = {size: f"{found.peak / dense[size].peak:.2f} of dense" for size, found in memory.items()}
            yield f"Its peak memory is {_by_size(shares)}."
    for layer, why in cost.stayed.items():
        yield why if why.startswith(layer) else f"{layer}: {why}"


def _files(cost: Cost) -> Iterator[str]:
    sizes = [f"the sparse file is {_smaller(cost, SPARSE)} than dense"]
    if cost.removed:
        sizes.append(f"the compacted one {_smaller(cost, COMPACTED)}")
    if BOTH in cost.variants:
        sizes.append(f"both together {_smaller(cost, BOTH)}")
    codes = listed([name for name, _ in Counter(cost.chosen.values()).most_common()])
    yield f"On disk {', '.join(sizes)}; masks are coded by {codes}."


def _kernels(cost: Cost) -> Iterator[str]:
    idle: dict[int, list[str]] = {}
    for name, of in ((SPARSE, MASKED), (BOTH, COMPACTED)):
        for size, kernels in cost.kernels.get(name, {}).items():
            if all(kernel == "dense" for kernel in kernels.values()):
                idle.setdefault(size, []).append(of)
        yield from _pace(cost, name, f"With sparse kernels the {of} network is")
        if name in cost.refused:
            yield f"Sparse kernels could not be tried: {cost.refused[name]}"
    if idle:
        which = {size: f"the {listed(of)} network" for size, of in idle.items()}
        yield f"No sparse kernel pays in {_by_size(which)}."


def _uncounted(cost: Cost) -> Iterator[str]:
    flops = cost.flops
    if flops.of_weights < flops.dense:
        yield (
            f"{percent(1 - flops.of_weights / flops.dense)} of the FLOPs are of features alone, such as attention, or"
            " of weights without a mask; no mask saves them."
        )
    if flops.uncounted:
        yield f"No FLOPs are counted for {listed(flops.uncounted)}."


def _balance(cost: Cost) -> Iterator[str]:
    """Theory beside the clock."""
    if not cost.batch_sizes:
        return
    gains = {}
    for size in cost.batch_sizes:
        ratios = {name: cost.slowness(name, size) for name in cost.variants}
        sure = {name: r for name, r in ratios.items() if r is not None and faster(r)}
        best = min(sure, key=lambda name: sure[name].median, default=None)
        gains[size] = "nothing" if best is None else f"{times(1 / sure[best].median)} ({best})"
    yield f"Time won in all: {_by_size(gains)}{_in_theory(cost)}."


def _pace(cost: Cost, name: str, subject: str) -> Iterator[str]:
    found = {size: speed(ratio) for size, ratio in _measured(cost, name).items()}
    if found:
        yield f"{subject} {_by_size(found)}."


def _measured(cost: Cost, name: str) -> dict[int, Ratio]:
    """The latency of a variant over the dense one's, by batch size, where it was measured."""
    found = {size: cost.slowness(name, size) for size in cost.batch_sizes}
    return {size: ratio for size, ratio in found.items() if ratio is not None}


def _in_theory(cost: Cost) -> str:
    share = cost.share(SPARSE, "flops")
    return f", where {times(1 / share)} fewer FLOPs are possible in theory" if share > 0 else ""


def _fall(cost: Cost, name: str, quantity: str) -> str:
    share = cost.share(name, quantity)
    return times(1 / share) if share > 0 else "to none"


def _smaller(cost: Cost, name: str) -> str:
    share = cost.share(name, "bytes")
    return f"{times(share)} larger" if share > 1 else f"{times(1 / share)} smaller"


def _by_size(said: Mapping[int, str]) -> str:
    """What is said of each batch size, the same only once.

    Example:
        >>> _by_size({1: "as fast", 8: "2 x faster", 64: "2 x faster"})
        'as fast at batch size 1, 2 x faster at batch sizes 8 and 64'
    """
    sizes: dict[str, list[str]] = {}
    for size, text in said.items():
        sizes.setdefault(text, []).append(str(size))
    return ", ".join(f"{text} at batch size{'s' if len(of) > 1 else ''} {listed(of)}" for text, of in sizes.items())
