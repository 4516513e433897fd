"""A ticket: which weights are kept, the weights to start from, and where both came from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lottery import storage
from lottery.masks import Masks
from lottery.storage import StorageError

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

FORMAT = 1
_MASK = "mask/"
_WEIGHT = "weight/"
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Ticket:
    """A mask and the weights to start from.

    Args:
        masks: parameter name to boolean tensor, True = kept.
        weights: a state dict: the weights (and buffers) that training starts from. Its tensors are copied.
        provenance: where it came from: run, round, seed, versions, metrics. Plain data.

    Example:
        >>> net = nn.Linear(2, 2, bias=False)
        >>> ticket = Ticket(Masks({"weight": torch.eye(2, dtype=torch.bool)}), net.state_dict())
        >>> ticket.density, int((ticket.apply(net).weight == 0).sum())
        (0.5, 2)
    """

    masks: Masks
    weights: Mapping[str, Tensor]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        weights = {
            name: tensor.detach().to("cpu", copy=True)
            for name, tensor in self.weights.items()
            if isinstance(tensor, Tensor)  # extra state of a module need not be one
        }
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "masks", Masks(self.masks))

    @property
    def density(self) -> float:
        """Kept / prunable."""
        return self.masks.density

    @property
    def fingerprint(self) -> str:
        """A short hash of masks and weights: equal tickets have equal ones, others do not."""
        digest = hashlib.sha256()
        tensors = {_MASK + name: mask for name, mask in self.masks.items()}
        tensors.update({_WEIGHT + name: t for name, t in self.weights.items()})
        for name, tensor in sorted(tensors.items()):
            described = [name, str(tensor.dtype), list(tensor.shape)]
            digest.update(json.dumps(described).encode())
            digest.update(
                tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            )
        return digest.hexdigest()[:16]

    def table(self) -> pandas.DataFrame:
        """One row per prunable parameter: shape, weights, kept, density."""
        import pandas

        densities = self.masks.densities()
        rows = [
            {
                "parameter": name,
                "shape": tuple(mask.shape),
                "weights": mask.numel(),
                "kept": int(mask.sum()),
                "density": densities[name],
            }
            for name, mask in self.masks.items()
        ]
        columns = ["parameter", "shape", "weights", "kept", "density"]
        return pandas.DataFrame(rows, columns=columns).set_index("parameter")

    def plot(self, ax: Axes | None = None) -> Axes:
        """Density of each parameter as horizontal bars, the whole ticket's as a line."""
        import matplotlib.pyplot as plt

        densities = self.masks.densities()
        if ax is None:
            _, ax = plt.subplots(
                figsize=(6, 0.6 + 0.35 * len(densities)), layout="constrained"
            )
        bars = ax.barh(
            list(densities), [100 * d for d in densities.values()], color="#0072B2"
        )
        ax.bar_label(bars, fmt="%.1f", padding=3)
        ax.axvline(
            100 * self.density,
            color="#D55E00",
            linestyle="--",
            label=f"all: {100 * self.density:.1f} %",
        )
        ax.invert_yaxis()
        ax.margins(x=0.12)
        ax.set_xlabel("weights kept [%]")
        ax.legend(loc="lower right")
        return ax

    def check(self, module: nn.Module) -> None:
        """Make sure that the ticket was made for a module like this one.

        Raises:
            ValueError: parameters are missing, left over or differently shaped; the message names each.
        """
        there = {
            name: tensor
            for name, tensor in module.state_dict().items()
            if isinstance(tensor, Tensor)
        }
        wrong = [
            f"{name}: missing in the module"
            for name in self.weights
            if name not in there
        ]
        wrong += [
            f"{name}: missing in the ticket"
            for name in there
            if name not in self.weights
        ]
        wrong += [
            f"{name}: {tuple(tensor.shape)} in the ticket, {tuple(there[name].shape)} in the module"
            for name, tensor in self.weights.items()
            if name in there
            and not is_lazy(there[name])
            and there[name].shape != tensor.shape
        ]
        if wrong:
            raise ValueError(
                f"the ticket was made for another architecture than {type(module).__name__}:\n  "
                + "\n  ".join(wrong)
            )
        parameters = module.named_parameters()
        self.masks.check(
            {name: self.weights.get(name, p) for name, p in parameters}, of="ticket"
        )

    def apply(self, module: M) -> M:
        """Load the start weights, masked, into a module; returns the module.

        Raises:
            ValueError: the ticket does not fit; see `check`.
        """
        self.check(module)
        module.load_state_dict(dict(self.weights), strict=False)
        self.masks.apply(dict(module.named_parameters()))
        return module

    @contextlib.contextmanager
    def masked(self, module: M) -> Iterator[M]:
        """Inside the block the module computes with its own weights masked; after it, it is as before.

        The stored weights are set aside, not changed: whatever happens inside, the same tensors come back.

        Raises:
            ValueError: the masks do not fit.
        """
        parameters = dict(module.named_parameters())
        self.masks.check(parameters, of="ticket")
        stored = {name: parameters[name].data for name in self.masks}
        try:
            for name, mask in self.masks.items():
                parameters[name].data = stored[name] * mask.to(stored[name].device)
            yield module
        finally:
            for name, data in stored.items():
                parameters[name].data = data

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ticket as one safetensors file: masks at one bit per weight, weights, provenance."""
        tensors = {_MASK + name: bits for name, bits in self.masks.pack().items()}
        tensors.update(
            {_WEIGHT + name: tensor for name, tensor in self.weights.items()}
        )
        shapes = {name: list(mask.shape) for name, mask in self.masks.items()}
        described = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "shapes": shapes,
            "provenance": dict(self.provenance),
        }
        storage.write(
            Path(path),
            storage.encode_tensors(tensors, {"ticket": json.dumps(described)}),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Ticket:
        """Read a ticket. Nothing in the file is ever executed.

        Raises:
            StorageError: the file is missing, damaged, not a ticket, or of a newer format.
        """
        path = Path(path)
        try:
            data = path.read_bytes()
            tensors = storage.decode_tensors(data)
            metadata = storage.decode_metadata(data)
            if "ticket" not in metadata:
                raise StorageError(
                    f"{path} is a safetensors file, but not a ticket (Ticket.save writes them)"
                )
            described = json.loads(metadata["ticket"])
            if described["format"] > FORMAT:
                raise StorageError(
                    f"{path} has ticket format {described['format']}, this version reads up to {FORMAT}."
                    " Update: pip install -U lottery-tickets"
                )
            ticket = cls(
                Masks.unpack(_part(tensors, _MASK), described["shapes"]),
                _part(tensors, _WEIGHT),
                described["provenance"],
            )
            if ticket.fingerprint != described["fingerprint"]:
                raise ValueError("its contents are not those that were written")
        except FileNotFoundError:
            raise StorageError(f"{path} does not exist") from None
        except StorageError:
            raise
        except Exception as error:
            raise StorageError(
                f"{path} is not a ticket, or is damaged: {error}. Get it again from where it came from."
            ) from error
        return ticket

    def __repr__(self) -> str:
        origin = (
            f", round {self.provenance['round']}" if "round" in self.provenance else ""
        )
        return f"Ticket({self.masks.kept:,} of {self.masks.total:,} weights, density {self.density:.4f}{origin})"


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names have a prefix, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
