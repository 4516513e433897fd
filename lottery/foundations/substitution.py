"""Other tensors in the places of a module's own, for the time of a block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from lottery.foundations.names import buffers_of, parameters_of


@contextmanager
def substituted(module: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside the block the module computes with other tensors; after it each place holds the very object it held
    before.

    A parameter is replaced in every place where it stands, in submodules that have several names and under all names of
    tied weights. Works inside `torch.func.grad` and `vmap`. (`torch.func.functional_call` leaves its tensors behind in
    a submodule that has two names.)

    Args:
        module: any module.
        values: canonical name of a parameter or buffer to what stands in its place.

    Raises:
        KeyError: the module has no such parameter or buffer.

    Example:
        >>> import torch
        >>> net = nn.Linear(1, 1, bias=False)
        >>> with substituted(net, {"weight": torch.tensor([[3.0]])}):
        ...     net(torch.tensor([[2.0]]))
        tensor([[6.]])
    """
    owned: dict[str, Tensor] = {**parameters_of(module), **buffers_of(module)}
    instead = {id(owned[name]): value for name, value in values.items()}
    places = [
        (table, key, tensor)
        for part in module.modules()
        for table in (part._parameters, part._buffers)
        for key, tensor in table.items()
        if id(tensor) in instead
    ]
    try:
        for table, key, tensor in places:
            table[key] = instead[id(tensor)]  # type: ignore[assignment]
        yield
    finally:
        for table, key, tensor in places:
            table[key] = tensor  # type: ignore[assignment]
