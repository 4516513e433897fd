"""What `forward` takes: an example of it, at any batch size, on any device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Inputs = tuple[object, ...]


def as_inputs(example_input: object) -> Inputs:
    """The arguments of forward: a tensor becomes the only one."""
    if isinstance(example_input, (tuple, list)):
        return tuple(example_input)
    return (example_input,)


def batch_of(inputs: Inputs, size: int) -> Inputs:
    """Inputs of `size` samples, from the first on and over again; what is no tensor stays as it is."""

    def sized(x: Tensor) -> Tensor:
        return x[torch.arange(size, device=x.device) % len(x)].contiguous()

    return tuple(sized(x) if isinstance(x, Tensor) and x.ndim and len(x) else x for x in inputs)


def sample_of(module: nn.Module, inputs: Inputs) -> Inputs:
    """The first sample; of inputs that are no batch, such as the nodes and edges of a graph, all there is."""
    one = batch_of(inputs, 1)
    try:
        with torch.no_grad():
            module(*one)
    except Exception:  # noqa: BLE001 (whatever forward makes of half a graph)
        return inputs
    return one


def moved(inputs: Inputs, device: str | torch.device) -> Inputs:
    """Inputs on a device."""
    return tuple(x.to(device) if isinstance(x, Tensor) else x for x in inputs)


def has_samples(inputs: Inputs) -> bool:
    """Whether there is a tensor with a sample along its first dimension."""
    return any(isinstance(x, Tensor) and x.ndim and len(x) for x in inputs)


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters are; the CPU where it has none."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))
