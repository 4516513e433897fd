"""What `lottery export` writes: for each format the file, how it was checked and how to load it."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lottery import storage
from lottery.foundations.environment import versions
from lottery.foundations.names import load_weights, parameters_of, weights_of
from lottery.masks.masks import Masks
from lottery.tickets.baking import baked_masks

if TYPE_CHECKING:
    from lottery.cli.network import Network
    from lottery.deploy.compaction.compaction import Compaction


@dataclass(frozen=True)
class Written:
    """What was written.

    Args:
        size: bytes.
        check: how it was checked and what that gave, in words.
        load: lines of Python that load it. `module` stands for a freshly built model of the recipe, `batch` for inputs.
    """

    size: int
    check: str
    load: Sequence[str]


def files(to: str, path: Path) -> list[Path]:
    """The files that a format makes of a path."""
    if to != "safetensors":
        return [path]
    from lottery.deploy.export.hugging_face import CONFIG, weights_file

    return [weights_file(path), weights_file(path).with_name(CONFIG)]


def write(
    to: str,
    network: Network,
    compacted: Compaction | None,
    path: Path,
    *,
    values: str | None = None,
    opset: int | None = None,
) -> Written:
    """Write a network, or what compaction made of it, in one of the formats.

    Raises:
        ValueError: the module cannot be had in this format.
        StorageError: the path cannot be written.
    """
    module = network.module if compacted is None else compacted.module
    if to == "onnx":
        return _onnx(module, network.example, path, opset)
    if to == "program":
        return _program(module, network.example, path)
    if to == "safetensors":
        return _safetensors(module, network, compacted, path)
    if to == "sparse":
        return _sparse(module, network, compacted is not None, path, values or "native")
    return _state_dict(module, compacted is not None, path)


def _onnx(module: nn.Module, example: Any, path: Path, opset: int | None) -> Written:
    from lottery.deploy.export.program import export_onnx

    found = export_onnx(module, example, path, opset=opset)
    feed = ", ".join(
        f'"{name}": {given}.numpy()'
        for name, given in zip(found.inputs, _given(example), strict=True)
    )
    load = [
        f'session = onnxruntime.InferenceSession("{path}")',
        f"outputs = session.run(None, {{{feed}}})",
    ]
    return Written(found.size, f"Opset {found.opset}. {found.words()}", load)


def _program(module: nn.Module, example: Any, path: Path) -> Written:
    from lottery.deploy.export.program import export_program

    found = export_program(module, example, path)
    load = [
        f'program = torch.export.load("{path}").module()',
        f"outputs = program({', '.join(_given(example))})",
    ]
    return Written(found.size, found.words(), load)


def _given(example: Any) -> list[str]:
    """Names for the inputs."""
    return (
        ["batch"]
        if isinstance(example, Tensor)
        else [f"batch[{index}]" for index in range(len(example))]
    )


def _safetensors(
    module: nn.Module, network: Network, compacted: Compaction | None, path: Path
) -> Written:
    from lottery.deploy.export.hugging_face import load_safetensors, save_safetensors

    more: dict[str, Any] = {
        "origin": network.origin,
        "recipe": network.recipe,
        "versions": versions(),
    }
    if compacted is not None:
        dense = network.module.state_dict()
        smaller = {
            n: t for n, t in module.state_dict().items() if t.shape != dense[n].shape
        }
        more["compacted"] = {
            n: {"before": list(dense[n].shape), "after": list(t.shape)}
            for n, t in smaller.items()
        }
    file = save_safetensors(module, path, more)
    loaded = load_safetensors(copy.deepcopy(network.module), path)
    load = [
        "from lottery.deploy import load_safetensors",
        f'load_safetensors(module, "{path}")',
    ]
    return Written(file.stat().st_size, _same(loaded.state_dict(), module), load)


def _state_dict(module: nn.Module, smaller: bool, path: Path) -> Written:
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    check = _same(torch.load(buffer, weights_only=True), module)
    storage.write(path, buffer.getbuffer())
    return Written(
        buffer.getbuffer().nbytes,
        check,
        _into_module(f'torch.load("{path}", weights_only=True)', smaller),
    )


def _sparse(
    module: nn.Module, network: Network, smaller: bool, path: Path, values: Any
) -> Written:
    from lottery.deploy.sparse.file import load_sparse, save_sparse

    masks = _masks_of(module, network.masks)
    state = weights_of(module)
    save_sparse(path, state, masks, values=values)
    read = load_sparse(path)
    if values == "native":
        check = _same(read, module)
    else:
        loaded = copy.deepcopy(module)
        load_weights(loaded, read)
        check = f"Rounded to {values}. {_apart(module, loaded, network)}"
    load = _into_module(f'load_sparse("{path}")', smaller, "load_sparse")
    return Written(path.stat().st_size, check, load)


def _masks_of(module: nn.Module, masks: Masks) -> Masks:
    """The masks, or what is left of them in a smaller module."""
    parameters = parameters_of(module)
    left = [name for name in masks if name in parameters and parameters[name].numel()]
    if all(
        name in left and parameters[name].shape == mask.shape
        for name, mask in masks.items()
    ):
        return masks
    return baked_masks(module, include=left) if left else Masks({})


def _into_module(what: str, smaller: bool, *names: str) -> list[str]:
    """Lines that load a state dict; `names` are what they need of lottery.deploy."""
    names = (*names, "resize") if smaller else names
    into = f"resize(module, {what})" if smaller else f"module.load_state_dict({what})"
    return [
        *([f"from lottery.deploy import {', '.join(names)}"] if names else []),
        into,
    ]


def _same(read: Mapping[str, Any], module: nn.Module) -> str:
    """Make sure that a state dict that was read back is the module's."""
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor) and not torch.equal(read[name], value):
            raise ValueError(
                f"{name} was read back with other values than it was written with"
            )
    return "Read back, every tensor is the same, bit for bit."


def _apart(module: nn.Module, other: nn.Module, network: Network) -> str:
    from lottery.deploy.export.agreement import outputs
    from lottery.deploy.inputs import as_inputs

    with torch.no_grad():
        pairs = list(
            zip(
                outputs(module(*as_inputs(network.example))),
                outputs(other(*as_inputs(network.example))),
            )
        )
    apart = max(float((a.double() - b.double()).abs().max()) for a, b in pairs)
    largest = max(float(a.double().abs().max()) for a, _ in pairs)
    return f"Outputs for {network.data} differ by at most {apart:.2g}; the largest is {largest:.3g}."
