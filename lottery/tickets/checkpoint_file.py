"""The weights in a checkpoint file: Lightning's, or a bare state dict."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lottery.foundations.names import mismatches, renamed
from lottery.storage.checkpoints import check_sizes
from lottery.storage.files import local_path, read_file


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state dict in a Lightning checkpoint or in a file that holds nothing else. Nothing in it is executed.

    Raises:
        ValueError: there is no such file, it holds no state dict, or it holds what could execute code.
    """
    path = local_path(path)
    try:
        data = read_file(path)
        check_sizes(data)
        found: object = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"there is no checkpoint {str(path)!r}") from None
    except OSError as error:
        raise ValueError(f"{path} is no checkpoint, or cannot be read: {error.strerror or error}") from None
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is no checkpoint, or holds objects besides tensors, which are not read because they can execute"
            " code. If you trust it, save its weights alone: torch.save(torch.load(path,"
            " weights_only=False)['state_dict'], 'weights.pt')."
        ) from error
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(f"{path} is no checkpoint, or is damaged") from error
    if isinstance(found, Mapping) and "state_dict" in found:
        found = found["state_dict"]
    if (
        not isinstance(found, Mapping)
        or not all(isinstance(name, str) for name in found)
        or not any(isinstance(value, Tensor) for value in found.values())
    ):
        raise ValueError(
            f"{path} holds a {type(found).__name__} without weights; give a Lightning checkpoint or a state dict"
        )
    return {name: t for name, t in renamed(found).items() if isinstance(t, Tensor)}


def check_weights(weights: Mapping[str, Tensor], module: nn.Module, origin: str) -> None:
    """Make sure that weights are finite and those of a module like this one.

    Args:
        weights: a state dict.
        module: the module they are for.
        origin: the weights in words, for messages.

    Raises:
        ValueError: weights are missing, left over, differently shaped, NaN or infinite; the message names each.
    """
    if wrong := mismatches(weights, module, "what was read"):
        raise ValueError(
            f"{origin} are of another architecture than the recipe's {type(module).__name__}:\n  "
            + "\n  ".join(wrong)
            + "\nGive the settings of the model that was trained, such as --model.init_args.hidden."
        )
    for name, tensor in weights.items():
        broken = int((~torch.isfinite(tensor)).sum())
        if broken:
            raise ValueError(
                f"{origin} cannot be used: {name} has {broken} NaN or infinite values among {tensor.numel()}. Take them"
                " from before the training went wrong."
            )
