"""A ticket: which weights are kept, the weights to start from, and where both came from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from lottery import storage
from lottery.foundations.names import differences, load_weights, parameters_of, renamed, ties, uncompiled, weights_of
from lottery.masks import inspection
from lottery.masks.history import MaskHistory
from lottery.masks.masks import Masks
from lottery.storage.hashed import digest
from lottery.tickets import ticket_file
from lottery.tickets.baking import bake, baked_masks
from lottery.tickets.pictures import Kind, gallery

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from lottery.plots.picture import Picture

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Ticket:
    """A mask and the weights to start from.

    Two tickets are equal when they start the same training: equal masks, equal weights where these keep them.

    Args:
        masks: parameter name to boolean tensor, True = kept.
        weights: a state dict: the weights (and buffers) that training starts from; its tensors are copied. Empty for
            masks alone: then a module keeps its own weights under them.
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
            for name, tensor in renamed(self.weights).items()
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
        """A short hash of the masks and of the weights they keep: equal tickets have equal ones, others do not."""
        tensors = {f"mask/{name}": mask for name, mask in self.masks.items()}
        for name, tensor in self.weights.items():
            if name in self.masks:
                tensor = torch.where(self.masks[name], tensor, 0)
            tensors[f"weight/{name}"] = tensor
        return digest(tensors)[:16]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ticket):
            return NotImplemented
        return self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    # use

    def check(self, module: nn.Module) -> None:
        """Make sure that the ticket was made for a module like this one.

        Raises:
            ValueError: parameters are missing, left over or differently shaped; the message names each.
        """
        parameters: dict[str, Tensor] = {**parameters_of(module)}
        if self.weights:
            extra, missing, reshaped = differences(self.weights, module)
            wrong = [f"{name}: missing in the module" for name in extra]
            wrong += [f"{name}: missing in the ticket" for name in missing]
            wrong += [f"{name}: {mine} in the ticket, {there} in the module" for name, mine, there in reshaped]
            if wrong:
                raise ValueError(
                    f"the ticket was made for another architecture than {type(uncompiled(module)).__name__}:\n  "
                    + "\n  ".join(wrong)
                )
            parameters = {n: self.weights.get(n, p) for n, p in parameters.items()}
        self.masks.check(parameters, of="ticket")

    def apply(self, module: M) -> M:
        """Load the start weights, masked, into a module; returns the module.

        Raises:
            ValueError: the ticket does not fit; see `check`.
        """
        self.check(module)
        if self.weights:
            load_weights(module, self.weights, "the weights of the ticket")
        self.masks.apply(parameters_of(module))
        return module

    @contextlib.contextmanager
    def masked(self, module: M) -> Iterator[M]:
        """Inside the block the module computes with its own weights masked; after it, it is as before.

        The stored weights are set aside, not changed: whatever happens inside, the same tensors come back. Blocks can
        be nested, and the module may be compiled by `torch.compile`.

        Raises:
            ValueError: the masks do not fit.
        """
        parameters = parameters_of(module)
        self.masks.check(parameters, of="ticket")
        stored = {name: parameters[name].data for name in self.masks}
        try:
            for name, mask in self.masks.items():
                pruned = ~mask.to(stored[name].device)
                parameters[name].data = stored[name].masked_fill(pruned, 0)
            yield module
        finally:
            for name, data in stored.items():
                parameters[name].data = data

    def bake(self, module: M) -> M:
        """Set the pruned weights of a module to zero, in place and for good; returns the module.

        The other weights stay the module's own: of a trained module, a baked one is what is shipped. `apply` loads the
        ticket's start weights too. See `lottery.tickets.baking.bake`.

        Raises:
            ValueError: the masks do not fit.

        Example:
            >>> net = nn.Linear(2, 2)
            >>> ticket = Ticket(Masks({"weight": torch.eye(2, dtype=torch.bool)}), {})
            >>> Ticket.of(ticket.bake(net)).masks == ticket.masks
            True
        """
        return bake(module, self.masks)

    @classmethod
    def of(cls, module: nn.Module, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Ticket:
        """The ticket that a module is: its non-zero prunable weights are kept, all of its weights are the start.

        The inverse of `bake`: equal masks where no kept weight happens to be zero, nested ones otherwise.

        Args:
            module: any module; its tensors are copied.
            include: glob patterns of parameters to take; see `lottery.masks.prunable.prunable_parameters`.
            exclude: glob patterns of those to leave out.

        Raises:
            ValueError: a pattern matches nothing, or nothing is prunable.
        """
        return cls(
            baked_masks(module, include, exclude),
            weights_of(module),
            {"of": f"the non-zero weights of a {type(uncompiled(module)).__name__}"},
        )

    def signed(self) -> Ticket:
        """The ticket with the signs of its weights and one magnitude per parameter.

        The magnitude is the root mean square of the parameter's start weights (their standard deviation about zero,
        where initializations are centred): of all of them, or of the surviving ones where only these are known. A
        weight of zero counts as positive. What is not prunable stays as it is.

        Raises:
            ValueError: the ticket has masks alone.

        Source: "signed constant", Zhou et al., "Deconstructing Lottery Tickets", NeurIPS 2019, section 4.1.
        """
        self._check_start()
        constants = {}
        for name, mask in self.masks.items():
            start = self.weights[name]
            known = start if bool(start[~mask].any()) else start[mask]
            magnitude = _root_mean_square(known)
            signed = torch.where(start >= 0, magnitude, -magnitude)
            constants[name] = torch.where(mask, signed, 0.0).to(start.dtype)
        weights = with_values(self.weights, self.masks, constants)
        return Ticket(self.masks, weights, {**self.provenance, "start": "signed"})

    def _check_start(self) -> None:
        if missing := [name for name in self.masks if name not in self.weights]:
            raise ValueError(
                f"the ticket has no start weights of {', '.join(missing)}, so it knows no signs; Run.ticket gives"
                " tickets with weights, Ticket.save(weights='none') leaves them out"
            )

    # look

    def table(self) -> pandas.DataFrame:
        """One row per prunable parameter: shape, weights, kept, density."""
        return inspection.layers(self.masks)

    def structure(self) -> pandas.DataFrame:
        """Fan-in, fan-out, dead units and the smallest dense layer around each parameter; see
        `lottery.masks.inspection.structure`."""
        return inspection.structure(self.masks)

    def overlap(self, other: Ticket | Masks) -> pandas.DataFrame:
        """What two tickets have in common, and what chance would give; see `lottery.masks.inspection.overlap`.

        Raises:
            TypeError: `other` is the masks of all rounds.
            ValueError: the masks are not of the same parameters.
        """
        if isinstance(other, MaskHistory):
            raise TypeError("overlap takes the masks of one round: write run.masks[-1] for those of the last")
        return inspection.overlap(self.masks, other.masks if isinstance(other, Ticket) else other)

    def signs_kept(self, weights: Mapping[str, Tensor]) -> pandas.Series:
        """The share of kept weights that have the sign in `weights` that they start with.

        Args:
            weights: a state dict, such as the trained weights ``run.weights(7)``.

        Raises:
            ValueError: a parameter is missing or has another shape, or the ticket has masks alone.
        """
        self._check_start()
        return inspection.signs_kept(self.masks, self.weights, weights)

    def plot(self, kind: Kind | str = "layers", *, ax: Axes | None = None, **options: object) -> Picture:
        """Draw the ticket.

        Args:
            kind: "layers", the density of each parameter; "masks", each mask as an image, kernels as a grid; "inputs",
                kept weights per input of the first parameter, folded back to the image; "units", the masks of single
                units of the first parameter, folded likewise; "fans", histograms of fan-in and fan-out.
            ax: where to draw. A picture of several panels takes its place in the figure.
            options: of all, `include`, a glob pattern of parameters or several, such as ``"*attn*"``; of "masks",
                "inputs" and "units" `image_shape`, such as ``(28, 28)``; of "masks" `columns`; of "units" `units`.

        Returns:
            The picture: it shows itself in a notebook, has `figure` and `axes`, and `save(path)` writes it.

        Raises:
            ValueError: there is no such picture or option, a pattern matches nothing, or the inputs cannot be folded
                to an image.
        """
        return gallery.draw(kind, self.masks, ax=ax, **options)

    # files

    def save(self, path: str | os.PathLike[str], *, weights: ticket_file.Kind = "all") -> None:
        """Write the ticket as one safetensors file.

        Args:
            path: where to.
            weights: "all" start weights; the "surviving" ones, others read back as zero; "signs", those of `signed`,
                a bit for each survivor; "none", masks alone.

        Raises:
            ValueError: there is no such kind of weights, or "signs" of a ticket that has masks alone.
            StorageError: the disk is full, or the path cannot be written.
        """
        ticket = self.signed() if weights == "signs" else self
        contents = ticket_file.Contents(ticket.masks, dict(ticket.weights), dict(ticket.provenance))
        storage.write(storage.local_path(path), ticket_file.encode(contents, weights))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, most_weights: int | None = None) -> Ticket:
        """Read a ticket. Nothing in the file is ever executed.

        Args:
            path: the file.
            most_weights: how many weights it may declare. Default: 8 million, and 256 more for each of its bytes, so
                that no small file of a stranger's takes all memory; every file that `save` writes is large enough.

        Raises:
            StorageError: the file is missing, damaged, not a ticket, of another format, or declares more weights.
        """
        return cls(*storage.read_as(path, lambda data: ticket_file.decode(data, most_weights), "a ticket"))

    def __repr__(self) -> str:
        origin = f", round {self.provenance['round']}" if "round" in self.provenance else ""
        return f"Ticket({self.masks.kept:,} of {self.masks.total:,} weights, density {self.density:.4f}{origin})"

    def _repr_html_(self) -> str:
        import html

        return f"<p>{html.escape(repr(self))}</p>{self.table()._repr_html_()}"  # type: ignore[operator]


def with_values(state: Mapping[str, Tensor], masks: Masks, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with other values of its prunable parameters; what is tied to one of them stays tied to it."""
    masked = ties(state, masks)
    return {name: values.get(masked.get(name, name), tensor) for name, tensor in state.items()}


def _root_mean_square(weights: Tensor) -> Tensor:
    """In double precision; exact where all have one magnitude, so that a signed ticket is its own."""
    magnitudes = weights.double().abs()
    if magnitudes.numel() and bool((magnitudes == magnitudes.flatten()[0]).all()):
        return magnitudes.flatten()[0]
    return magnitudes.square().mean().sqrt()
