"""A module traced by torch.export, at any batch size where its `forward` allows that."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lottery.deploy.inputs import Inputs, as_inputs, batch_of, device_of, has_samples
from lottery.foundations.names import uncompiled
from lottery.foundations.undisturbed import plain_attention, undisturbed


@contextlib.contextmanager
def evaluated(module: nn.Module, example_input: object) -> Iterator[tuple[nn.Module, Inputs]]:
    """The module in eval mode, without gradients, and inputs on its device, of two samples at least."""
    plain = uncompiled(module)
    inputs = as_inputs(example_input)
    if not has_samples(inputs):
        raise ValueError(
            f"example_input holds no tensor with samples along its first dimension, and"
            f" {type(plain).__name__}.forward is called with it"
        )
    device = device_of(plain)
    inputs = pytree.tree_map_only(Tensor, lambda x: x.detach().to(device), inputs)
    if batch_size(inputs) == 1:  # torch takes a size of 1 for a fixed one
        inputs = batch_of(inputs, 2)
    with undisturbed(plain, {}), torch.no_grad():
        yield plain, inputs


def traced(module: nn.Module, inputs: Inputs, dynamic: bool = True) -> tuple[torch.export.ExportedProgram, bool]:
    """The module as an exported program, and whether its batch size is fixed."""
    batch = torch.export.Dim("batch")
    shapes = pytree.tree_map(lambda x: {0: batch} if isinstance(x, Tensor) and x.ndim else None, inputs)
    errors = []
    # the first way is the fastest; the second one lets `len(x)` be any number; the third takes the size as it is
    ways: list[tuple[Any, bool]] = [(shapes, False), (shapes, True), (None, False)]
    for dynamic_shapes, strict in ways if dynamic else ways[2:]:
        try:
            with quiet(), plain_attention():  # few know the operator for all of attention
                program = torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes, strict=strict)
        except Exception as error:  # noqa: BLE001 (whatever forward does)
            errors.append(error)
        else:
            return program, dynamic_shapes is None
    raise ValueError(f"{type(module).__name__} cannot be traced by torch.export: {reason(errors[-1])}") from errors[-1]


def reason(error: BaseException) -> str:
    """One line of what torch says, and the line of code that it names."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0] if lines else type(error).__name__
    for line, code in itertools.pairwise(lines):
        if line.startswith('File "') and line.endswith("in forward"):
            said += f' ("{code}")'
            break
    return said if len(said) < 300 else f"{said[:300]}..."


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter talks about its own workings in warnings, logs and prints; what matters comes as an error."""
    before = logging.root.manager.disable
    said = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)


def batch_size(inputs: Inputs) -> int:
    """Samples in the first of the inputs that has a batch dimension."""
    return next(len(x) for x in inputs if isinstance(x, Tensor) and x.ndim)
