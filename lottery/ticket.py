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
        weights: a state dict: the weights (and buffers) that training starts from.
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
        object.__setattr__(self, "masks", Masks(self.masks))

    @property
    def density(self) -> float:
        """Kept / prunable."""
        return self.masks.density

    @property
    def fingerprint(self) -> str:
        """A short hash of masks and weights: equal tickets have equal ones."""
        digest = hashlib.sha256()
        for name, tensor in sorted(
            [*self.masks.pack().items(), *self.weights.items()],
            key=lambda item: item[0],
        ):
            digest.update(name.encode())
            digest.update(
                tensor.detach()
                .cpu()
                .contiguous()
                .reshape(-1)
                .view(torch.uint8)
                .numpy()
                .tobytes()
            )
        return digest.hexdigest()[:16]

    def table(self) -> pandas.DataFrame:
        """One row per prunable parameter: shape, weights, kept, density."""
        import pandas

        rows = [
            {
                "parameter": name,
                "shape": tuple(mask.shape),
                "weights": mask.numel(),
                "kept": int(mask.sum()),
                "density": int(mask.sum()) / mask.numel(),
            }
            for name, mask in self.masks.items()
        ]
        return pandas.DataFrame(rows).set_index("parameter")

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
        there = module.state_dict()
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
            and isinstance(there[name], Tensor)
            and there[name].shape != tensor.shape
        ]
        if wrong:
            raise ValueError(
                f"the ticket was made for another architecture than {type(module).__name__}:\n  "
                + "\n  ".join(wrong)
            )
        self.masks.check(dict(module.named_parameters()), of="ticket")

    def apply(self, module: M) -> M:
        """Load the start weights, masked, into a module; returns the module.

        Raises:
            ValueError: the ticket does not fit; see `check`.
        """
        self.check(module)
        module.load_state_dict(dict(self.weights))
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
            described = json.loads(storage.decode_metadata(data)["ticket"])
        except FileNotFoundError:
            raise StorageError(f"{path} does not exist") from None
        except KeyError:
            raise StorageError(
                f"{path} is a safetensors file, but not a ticket (Ticket.save writes them)"
            ) from None
        except Exception as error:
            raise StorageError(
                f"{path} is not a ticket, or is damaged: {error}"
            ) from error
        if described["format"] > FORMAT:
            raise StorageError(
                f"{path} has ticket format {described['format']}, this version reads up to {FORMAT}."
                " Update: pip install -U lottery-tickets"
            )
        masks = {
            n.removeprefix(_MASK): t for n, t in tensors.items() if n.startswith(_MASK)
        }
        weights = {
            n.removeprefix(_WEIGHT): t
            for n, t in tensors.items()
            if n.startswith(_WEIGHT)
        }
        return cls(
            Masks.unpack(masks, described["shapes"]), weights, described["provenance"]
        )

    def __repr__(self) -> str:
        origin = (
            f", round {self.provenance['round']}" if "round" in self.provenance else ""
        )
        return f"Ticket({self.masks.kept:,} of {self.masks.total:,} weights, density {self.density:.4f}{origin})"
