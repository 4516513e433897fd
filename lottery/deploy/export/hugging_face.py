"""A network as Hugging Face stores them: `model.safetensors` and `config.json` in one directory."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from lottery import storage
from lottery.foundations.names import differences, load_weights, uncompiled, weights_of
from lottery.storage.hashed import digest
from lottery.tickets.baking import baked_masks

M = TypeVar("M", bound=nn.Module)
WEIGHTS, CONFIG = "model.safetensors", "config.json"
HASH, SIZES = "lottery_sha256", "lottery_sizes"  # in the metadata


def save_safetensors(
    module: nn.Module,
    path: str | os.PathLike[str],
    config: Mapping[str, object] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Path:
    """Write `model.safetensors` and `config.json` into a directory; returns the path of the weights.

    Tensors that share memory are stored once, as by ``safetensors.torch.save_model``; their hash is in the metadata.
    The configuration has the hyperparameters of a LightningModule at its top, where
    ``PyTorchModelHubMixin.from_pretrained`` looks for the arguments of the class, and the rest under "lottery": class,
    number of parameters, density of each parameter.

    A compacted module is loaded by `load_safetensors` alone: `from_pretrained` builds the shapes that the arguments of
    the class give, into which smaller tensors do not go.

    Args:
        module: any module; what is not a tensor in its state dict is refused.
        path: a directory, or a file \\*.safetensors, beside which config.json goes.
        config: more for "lottery", such as where the weights came from. Plain data.
        sizes: `Compaction.sizes` of a compacted module, for the metadata.

    Raises:
        ValueError: the state dict holds something else than tensors, or tensors that overlap.
        StorageError: the path cannot be written.
    """
    plain, file = uncompiled(module), weights_file(path)
    if odd := [name for name, value in plain.state_dict().items() if not isinstance(value, Tensor)]:
        raise ValueError(
            f"safetensors holds tensors only, and the state dict of {type(plain).__name__} has something else in"
            f" {', '.join(odd)}: use torch.save"
        )
    described = json.dumps(_described(plain, config or {}), indent=2) + "\n"  # fails before anything is written
    data = _encoded(plain, sizes or {})
    storage.write(file, data)
    storage.write(file.with_name(CONFIG), described.encode())
    return file


def load_safetensors(module: M, path: str | os.PathLike[str]) -> M:
    """Load weights into a freshly built module; returns the module.

    Where the file is of a compacted module, the module gets its smaller shapes: see
    `lottery.deploy.compaction.surgery.resize`. Nothing in the file is executed. A hash in it is checked.

    Args:
        module: of the architecture that was saved, or of the one that it was before `compact`.
        path: a directory with model.safetensors in it, or a file \\*.safetensors.

    Raises:
        ValueError: the file has other tensors than the module; the message names them.
        StorageError: the file is missing or damaged.
    """
    file, plain = weights_file(path), uncompiled(module)
    state, sizes = storage.read_as(file, _decoded, "a safetensors file")
    extra, missing, reshaped = differences(state, plain)
    if extra or missing:
        wrong = [f"{name}: only in the file" for name in extra] + [f"{name}: only in the module" for name in missing]
        raise ValueError(f"{file} is of another architecture than {type(plain).__name__}:\n  " + "\n  ".join(wrong))
    if reshaped:
        from lottery.deploy.compaction.surgery import resize

        return resize(module, state, sizes)
    load_weights(plain, state, f"the weights in {file}")
    return module


def weights_file(path: str | os.PathLike[str]) -> Path:
    """Where the weights go: the path itself if it ends in .safetensors, else a file in that directory."""
    path = Path(path)
    return path if path.suffix == ".safetensors" else path / WEIGHTS


class _Named:
    """All that `save_model` asks of a module, by canonical names."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def state_dict(self) -> dict[str, Tensor]:
        return weights_of(self._module)


def _encoded(module: nn.Module, sizes: Mapping[str, int]) -> bytes:
    from safetensors.torch import save_model

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / WEIGHTS
        try:
            save_model(_Named(module), str(file), {"format": "pt"})  # type: ignore[arg-type]
        except RuntimeError as error:
            raise ValueError(
                f"tensors of {type(module).__name__} are views into the same memory: {str(error).splitlines()[0]}"
            ) from error
        data = file.read_bytes()
    tensors = storage.decode_tensors(data)
    metadata = {**storage.decode_metadata(data), HASH: digest(tensors)}
    return storage.encode_tensors(tensors, metadata | ({SIZES: json.dumps(dict(sizes))} if sizes else {}))


def _decoded(data: bytes) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The tensors in a file, shared ones under each of their names, which `save_model` leaves to the metadata; sizes.

    Raises:
        ValueError: they have not the hash that stands there; files from elsewhere have none.
    """
    state, metadata = storage.decode_tensors(data), storage.decode_metadata(data)
    if metadata.get(HASH, digest(state)) != digest(state):
        raise ValueError("its tensors are not those that were written")
    tensors = state | {name: state[kept] for name, kept in metadata.items() if kept in state}
    return tensors, json.loads(metadata.get(SIZES, "{}"))


def _described(module: nn.Module, more: Mapping[str, object]) -> dict[str, object]:
    arguments = dict(getattr(module, "hparams", {}))
    try:
        masks = baked_masks(module)
        density = {"density": masks.density, "densities": masks.densities()}
    except ValueError:  # nothing is prunable
        density = {}
    kind = type(module)
    return {
        **{n: v for n, v in arguments.items() if n[0] != "_" and _is_plain(v)},
        "architectures": [kind.__name__],
        "lottery": {
            "class": f"{kind.__module__}.{kind.__qualname__}",
            "parameters": sum(p.numel() for p in module.parameters()),
            **density,
            **more,
        },
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, int, float, bool))
