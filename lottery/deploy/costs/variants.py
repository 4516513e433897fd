"""The cost of a network in each of its forms, as values: dense, masked, compacted, sparse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from lottery.deploy.costs.flops import Flops
from lottery.deploy.costs.measure import Latency, Memory, Ratio

if TYPE_CHECKING:
    import pandas

DENSE, MASKED, COMPACTED, SPARSE, BOTH = ("dense", "masked", "compacted", "sparse", "both")


@dataclass(frozen=True)
class Variant:
    """One form of the network.

    Args:
        parameters: the numbers it stores.
        bytes: its file: plain safetensors, or what `save_sparse` writes of a sparse one.
        flops: of one sample; of a sparse one in theory.
        memory: peak of a forward pass, by batch size.
        latency: of a forward pass, by batch size. Empty where it would run as another variant does.
    """

    parameters: int
    bytes: int
    flops: int
    memory: Mapping[int, Memory] = field(default_factory=dict)
    latency: Mapping[int, Latency] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Cost:
    """What a network costs in each of its forms.

    Args:
        variants: by name: "dense", no weight pruned; "masked", the same with zeros; "compacted", without the dead
            units; "sparse", the masked one as a sparse file and on sparse kernels; "both", the compacted one so.
        kept: prunable weights that are kept.
        prunable: prunable weights.
        flops: of one sample of the masked network.
        units: output units of the prunable layers.
        removed: the units among them that compaction removed.
        stayed: layer to why dead units of it stay, in words.
        refused: variant that could not be made, and why, in words.
        encodings: of the masked weights, see `lottery.deploy.sparse.file.totals`.
        chosen: parameter to its smallest encoding.
        kernels: variant, then batch size, then layer to the kernel that was fastest, where sparse ones were tried.
        batch_sizes: those at which latency and memory were measured; empty where they were not.
        device: where, in words.
    """

    variants: Mapping[str, Variant]
    kept: int
    prunable: int
    flops: Flops
    units: int
    removed: int
    stayed: Mapping[str, str]
    refused: Mapping[str, str]
    encodings: pandas.DataFrame
    chosen: Mapping[str, str]
    kernels: Mapping[str, Mapping[int, Mapping[str, str]]]
    batch_sizes: tuple[int, ...]
    device: str

    @property
    def density(self) -> float:
        """Kept / prunable."""
        return self.kept / self.prunable

    def share(self, name: str, quantity: str) -> float:
        """The `parameters`, `bytes` or `flops` of a variant over the dense one's; NaN where that has none."""
        dense = getattr(self.variants[DENSE], quantity)
        mine = getattr(self.variants[name], quantity)
        return mine / dense if dense else float("nan")

    def slowness(self, name: str, batch_size: int) -> Ratio | None:
        """The latency of a variant over the dense one's; None where there is none of it, or it was not measured."""
        if name not in self.variants:
            return None
        mine = self.variants[name].latency.get(batch_size)
        dense = self.variants[DENSE].latency.get(batch_size)
        return None if mine is None or dense is None else mine.over(dense)

    def table(self) -> pandas.DataFrame:
        """One row per variant.

        Columns: `parameters`, `bytes`, `FLOPs` of one sample; by batch size n `memory at n` in bytes, `seconds at n`,
            the
        median, and its quartiles `from` and `to`. Those that begin with "x" are shares of the dense row; that of
        seconds has its 95 % interval, `low` and `high`. NaN where nothing was measured.
        """
        import pandas

        rows = {name: self._row(name) for name in self.variants}
        frame = pandas.DataFrame.from_dict(rows, orient="index")
        return frame.rename_axis("variant")

    def _row(self, name: str) -> dict[str, float]:
        one, dense = self.variants[name], self.variants[DENSE]
        row: dict[str, float] = {
            "parameters": one.parameters,
            "bytes": one.bytes,
            "FLOPs": one.flops,
            "x parameters": self.share(name, "parameters"),
            "x bytes": self.share(name, "bytes"),
            "x FLOPs": self.share(name, "flops"),
        }
        for size in self.batch_sizes:
            if memory := one.memory.get(size):
                row[f"memory at {size}"] = memory.peak
                row[f"x memory at {size}"] = memory.peak / dense.memory[size].peak
            latency, ratio = one.latency.get(size), self.slowness(name, size)
            if latency and ratio:
                lower, upper = latency.quartiles
                row |= {
                    f"seconds at {size}": latency.median,
                    f"from at {size}": lower,
                    f"to at {size}": upper,
                    f"x seconds at {size}": ratio.median,
                    f"low at {size}": ratio.low,
                    f"high at {size}": ratio.high,
                }
        return row

    def described(self) -> dict[str, object]:
        """Everything as plain data, for JSON; latencies with every block that was timed."""
        sizes = self.encodings["bytes"].dropna().astype(int).to_dict()
        return {
            "density": self.density,
            "kept": self.kept,
            "prunable": self.prunable,
            "units": self.units,
            "removed": self.removed,
            "stayed": dict(self.stayed),
            "refused": dict(self.refused),
            "flops": asdict(self.flops),
            "encodings": sizes,
            "chosen": dict(self.chosen),
            "kernels": self.kernels,
            "batch_sizes": list(self.batch_sizes),
            "device": self.device,
            "variants": {name: asdict(one) for name, one in self.variants.items()},
        }
