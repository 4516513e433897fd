"""A module as an ONNX file or as a torch.export program, written only after it was run and compared with the module."""

from __future__ import annotations

import importlib.util
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lottery import storage
from lottery.deploy.export.agreement import compare
from lottery.deploy.export.tracing import batch_size, evaluated, quiet, reason, traced
from lottery.deploy.inputs import Inputs

LOWEST_OPSET = 18  # of torch's exporter; it writes this one where an older one is asked for, without a word


@dataclass(frozen=True)
class Exported:
    """What was written, and how near it comes to the module.

    Args:
        path: the file.
        size: its bytes.
        difference: the largest absolute difference from the module's outputs, over the batches that were tried.
        batch: the only batch size it takes, or None: any. Where `forward` makes a number of the size, as in `x.view(64,
            -1)`, it takes no other.
        tried: the batch sizes at which it was compared.
        opset: of ONNX.
        inputs: the names of an ONNX model's inputs.
    """

    path: Path
    size: int
    difference: float
    batch: int | None
    tried: tuple[int, ...]
    opset: int | None = None
    inputs: tuple[str, ...] = ()

    def words(self) -> str:
        """How it was checked, in a sentence or two.

        Example:
            >>> Exported(Path("a.pt2"), 20_480, 0.0, None, (64, 65, 1)).words()
            'Its outputs equal those of the module bit for bit at batch sizes 64, 65, 1.'
        """
        sizes = ", ".join(map(str, self.tried))
        at = f"at batch size{'s' if len(self.tried) > 1 else ''} {sizes}"
        if self.difference == 0:
            said = f"Its outputs equal those of the module bit for bit {at}."
        else:
            said = f"Its outputs differ from those of the module by at most {self.difference:.1e} {at}."
        if self.batch is not None:
            said += f" It takes batches of {self.batch} only."
        return said


def export_program(module: nn.Module, example_input: object, path: str | os.PathLike[str]) -> Exported:
    """Write a module as a `torch.export` program, which runs without the module's code: ``torch.export.load(path)``.

    It takes any batch size, or only the example's where `forward` leaves no other way. Before
    it is written it is read back and compared with the module: outputs may differ by 1e-4 of the largest one in float32
    (1e-9 in float64, 2e-2 in smaller types), and most do not differ at all.

    Args:
        module: is exported in eval mode, on the device that it is on; it stays as it is.
        example_input: a tensor, or a tuple of them, that `forward` takes; the first dimension is the batch.
        path: the file, usually \\*.pt2.

    Raises:
        ValueError: torch cannot trace the module, or the program computes something else.
        StorageError: the path cannot be written.
    """
    with evaluated(module, example_input) as (plain, inputs):
        program, fixed = traced(plain, inputs)
        buffer = io.BytesIO()
        with quiet():
            torch.export.save(program, buffer)
            buffer.seek(0)
            loaded = torch.export.load(buffer).module()
        difference, tried = compare(plain, lambda batch: loaded(*batch), inputs, fixed, "the program")
    storage.write(Path(path), buffer.getbuffer())
    return Exported(Path(path), buffer.getbuffer().nbytes, difference, batch_size(inputs) if fixed else None, tried)


def export_onnx(
    module: nn.Module,
    example_input: object,
    path: str | os.PathLike[str],
    *,
    opset: int | None = None,
    dynamic_batch: bool = True,
) -> Exported:
    """Write a module as one ONNX file.

    Before it is written it is checked by `onnx.checker`, run by onnxruntime on the CPU and compared with the module, as
    by `export_program`, at the example's batch size and, where it takes any, at two others.

    Args:
        module: is exported in eval mode; it stays as it is.
        example_input: a tensor, or a tuple of them, that `forward` takes; the first dimension is the batch.
        path: the file, usually \\*.onnx.
        opset: version of ONNX's operators, from 18; default: the one that torch recommends.
        dynamic_batch: whether it shall take any batch size, where `forward` allows that.

    Raises:
        ValueError: a package is missing, torch cannot trace or translate the module, the opset is out of range, or
            onnxruntime refuses the model or computes something else.
        StorageError: the path cannot be written.
    """
    check_packages()
    check_opset(opset)
    with evaluated(module, example_input) as (plain, inputs):
        program, fixed = traced(plain, inputs, dynamic_batch)
        model = _translated(program, inputs, opset, type(plain).__name__)
        try:
            data = model.SerializeToString()
        except ValueError as error:  # protobuf's limit
            raise ValueError(
                f"{type(plain).__name__} does not fit into one ONNX file, which holds at most 2 GB;"
                " export_program has no such limit"
            ) from error
        run = _session(data, type(plain).__name__)
        difference, tried = compare(plain, run, inputs, fixed, "the ONNX model")
    storage.write(Path(path), data)
    batch = batch_size(inputs) if fixed else None
    names = tuple(entry.name for entry in model.graph.input)
    return Exported(Path(path), len(data), difference, batch, tried, _opset(model), names)


# ONNX


def check_packages() -> None:
    """Make sure that ONNX can be written and run.

    Raises:
        ValueError: a package is missing; the message says how to get it.
    """
    needed = ("onnx", "onnxruntime", "onnxscript")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise ValueError(
            f"ONNX needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed; get it"
            " with: pip install 'lottery-tickets[onnx]'"
        )


def check_opset(opset: int | None) -> None:
    """Make sure that a version of ONNX's operators can be written.

    Raises:
        ValueError: it is too old or too new; the message has the range.
    """
    import onnx

    highest = onnx.defs.onnx_opset_version()
    if opset is not None and not LOWEST_OPSET <= opset <= highest:
        raise ValueError(
            f"opset={opset} cannot be written: torch's exporter begins at {LOWEST_OPSET}, and onnx {onnx.__version__}"
            f" knows up to {highest}"
        )


def _translated(program: torch.export.ExportedProgram, inputs: Inputs, opset: int | None, name: str) -> Any:
    """The program as an ONNX model, checked."""
    import onnx

    try:
        with quiet():
            exported: Any = torch.onnx.export(program, inputs, dynamo=True, opset_version=opset)
            model = exported.model_proto
            onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        first: BaseException = error  # the exporter wraps it in advice
        while first.__cause__ is not None:
            first = first.__cause__
        raise ValueError(f"{name} cannot be written as ONNX: {reason(first)}") from error
    if opset is not None and _opset(model) != opset:
        raise ValueError(
            f"opset={opset} cannot be written for {name}: torch gives {_opset(model)} in its place. Ask for"
            f" opset={_opset(model)}, or for none."
        )
    return model


def _opset(model: Any) -> int:
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _session(data: bytes, name: str) -> Callable[[Sequence[object]], list[Tensor]]:
    """What runs an ONNX model on a batch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ValueError(
            f"onnxruntime {onnxruntime.__version__} refuses the ONNX model of {name}: {reason(error)}"
        ) from error
    names = [entry.name for entry in session.get_inputs()]

    def run(batch: Sequence[object]) -> list[Tensor]:
        tensors = [x for x in pytree.tree_leaves(batch) if isinstance(x, Tensor)]
        fed = {n: x.cpu().numpy() for n, x in zip(names, tensors, strict=True)}
        return [torch.as_tensor(x) for x in session.run(None, fed)]

    return run
