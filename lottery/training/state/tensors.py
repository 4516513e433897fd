"""The tensors that a module has registered: its parameters and buffers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy


@contextmanager
def tensors_kept(module: nn.Module) -> Iterator[None]:
    """A block after which the module's parameters and buffers are the tensors that they were, with the same values.

    Example:
        >>> embedding = nn.Embedding(2, 1, max_norm=0.5)  # which writes into its weight when it is called
        >>> nn.init.ones_(embedding.weight).flatten().tolist()
        [1.0, 1.0]
        >>> with tensors_kept(embedding):
        ...     _ = embedding(torch.tensor([0]))
        >>> embedding.weight.flatten().tolist()
        [1.0, 1.0]
    """
    buffers = [(part, name, buffer) for part in module.modules() for name, buffer in part._buffers.items()]
    values = [
        (tensor, tensor.detach().clone()) for tensor in (*module.parameters(), *module.buffers()) if not is_lazy(tensor)
    ]
    try:
        yield
    finally:
        for part, name, buffer in buffers:
            if getattr(part, name) is not buffer:
                setattr(part, name, buffer)
        with torch.no_grad():
            for tensor, value in values:
                tensor.copy_(value)
