"""Latency and peak memory of forward passes, measured on this device."""

from __future__ import annotations

import json
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer

from lottery.deploy.clock import clock_of

BLOCKS = 21  # of each module
FEWEST = 7  # blocks, where a pass is long
_HELD = 6  # what torch's profiler calls a level above all its messages


@dataclass(frozen=True)
class Ratio:
    """A median of ratios and its 95 % interval.

    The interval needs no distribution: a median lies between two order statistics as often as a fair coin says.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Ratio:
        ordered, rank, tail = sorted(values), 0, 2.0 ** -len(values)
        while tail <= 0.025 and rank < len(ordered) // 2:
            rank += 1
            tail += math.comb(len(ordered), rank) * 2.0 ** -len(ordered)
        rank = max(rank - 1, 0)
        return cls(statistics.median(ordered), ordered[rank], ordered[len(ordered) - 1 - rank])


@dataclass(frozen=True)
class Latency:
    """Seconds of a forward pass, in blocks that alternate with those of the modules it is compared with."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Half of the blocks lie between these."""
        lower, _, upper = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return lower, upper

    def over(self, other: Latency) -> Ratio:
        """This latency as a share of another's, block by block."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return Ratio.of([mine / theirs for mine, theirs in pairs])


def latencies(
    modules: Mapping[str, nn.Module],
    inputs: tuple[object, ...],
    *,
    seconds: float = 3.0,
    say: Callable[[str], None] = lambda what: None,
) -> dict[str, Latency]:
    """Time modules side by side: block by block, each module in turn, after a warm-up.

    The blocks of one turn see the same state of the machine, and another module begins each turn. On one thread of the
    CPU it is processor time that counts, which equals time on an idle machine and leaves out what other processes take;
    else it is time by the clock.

    Args:
        modules: in eval mode, on the device of the inputs.
        inputs: what each takes.
        seconds: how long to measure in all, about.
        say: told what is being timed.

    Returns:
        A latency per module, of 21 blocks each, or down to 7 where a pass is long. Threads are those of torch.
    """
    clock = clock_of(_device(inputs))
    timers = {
        name: Timer(
            "module(*inputs)",
            globals={"module": module, "inputs": inputs},
            num_threads=torch.get_num_threads(),
            timer=clock,
        )
        for name, module in modules.items()
    }
    block = seconds / len(timers) / BLOCKS
    with torch.no_grad():
        once = {}
        for name, own in timers.items():
            say(f"warming up {name}")
            own.timeit(1)  # the first passes prepare what later ones reuse
            once[name] = own.timeit(3).median
        passes = {name: max(1, round(block / once[name])) for name in timers}
        turn = sum((passes[name] + 2) * once[name] for name in timers)
        turns = min(BLOCKS, max(FEWEST, int(seconds / turn)))
        names = list(timers)
        found: dict[str, list[float]] = {name: [] for name in names}
        for number in range(turns):
            say(f"timing, turn {number + 1} of {turns}")
            first = number % len(names)
            for name in names[first:] + names[:first]:
                found[name].append(timers[name].timeit(passes[name]).median)
    return {name: Latency(tuple(values)) for name, values in found.items()}


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a forward pass.

    Args:
        weights: of parameters and buffers.
        activations: the most that torch's allocator held at once beside weights and inputs: features, the output, and
            the workspace of kernels that ask torch for it. What a library such as oneDNN or MKL takes for itself is not
            seen.
    """

    weights: int
    activations: int

    @property
    def peak(self) -> int:
        return self.weights + self.activations


def peak_memory(module: nn.Module, inputs: tuple[object, ...]) -> Memory:
    """Measure the memory of a forward pass without gradients, after a first one.

    On CUDA by `torch.cuda.max_memory_allocated`; on the CPU by torch's profiler, which notes each allocation.
    """
    device = _device(inputs)
    with torch.no_grad():
        module(*inputs)
        if device.type != "cuda":
            return Memory(held(module), _peak_on_cpu(module, inputs))
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        module(*inputs)
        torch.cuda.synchronize(device)
        return Memory(held(module), torch.cuda.max_memory_allocated(device) - before)


def held(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers; what is shared counts once."""
    sizes = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        for part in _parts(tensor):
            storage = part.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())


def _device(inputs: tuple[object, ...]) -> torch.device:
    return next(x.device for x in inputs if isinstance(x, Tensor))


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """The strided tensors that hold a tensor: itself, or the indices and values of a sparse one."""
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        yield from (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    elif hasattr(tensor, "__tensor_flatten__"):  # of a subclass, such as 2:4 ones
        for name in tensor.__tensor_flatten__()[0]:
            yield from _parts(getattr(tensor, name))
    else:
        yield tensor


def _peak_on_cpu(module: nn.Module, inputs: tuple[object, ...]) -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", str(_HELD))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        output = module(*inputs)  # held to the end
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_bytes())["traceEvents"]
    del output
    notes = [event for event in events if event.get("name") == "[memory]"]
    now = peak = 0
    for note in sorted(notes, key=lambda event: event["args"]["Ev Idx"]):
        now += note["args"]["Bytes"] if note["args"]["Device Type"] == 0 else 0
        peak = max(peak, now)
    return peak
