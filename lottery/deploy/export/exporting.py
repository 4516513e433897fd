"""A network exported to a format by its name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from lottery.deploy.export import formats
from lottery.deploy.export.format import Exportable, Written
from lottery.foundations.names import uncompiled
from lottery.masks.masks import Masks


def export_as(
    to: str,
    module: nn.Module,
    example_input: object,
    path: str | os.PathLike[str],
    *,
    masks: Masks | None = None,
    before: nn.Module | None = None,
    data: str = "the example",
    notes: Mapping[str, object] | None = None,
    **options: object,
) -> Written:
    """Write a module in a format and check what was written; see `lottery.deploy.export.formats.available`.

    Args:
        to: the name of the format.
        module: with zeros where it was pruned, as `bake` makes it. It stays as it is; what runs, runs in eval mode.
        example_input: a tensor, or a tuple of them, that `forward` takes; the first dimension is the batch.
        path: the file, or what the format takes for one.
        masks: True = kept; default: what is not zero.
        before: the module before `compact` made this one of it; the lines that load the file need its shapes.
        data: the example in words, for what is said of the check.
        notes: where the module comes from, for formats that have room for it. Plain data.
        options: of the format.

    Raises:
        ValueError: there is no such format or option, or the module cannot be had in this format.
        StorageError: the path cannot be written.

    Example:
        >>> import tempfile, torch
        >>> net = nn.Linear(3, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = export_as("sparse", net, torch.rand(5, 3), Path(folder) / "net")
        >>> written.check
        'Read back, every tensor is the same, bit for bit.'
    """
    known = formats.find(to)
    check_options(to, options)
    known.check(**options)
    network = Exportable(uncompiled(module), example_input, masks, before, data, notes or {})
    return known.write(network, Path(path), **options)


def check_options(to: str, options: Mapping[str, object]) -> None:
    """Make sure that a format has these options.

    Raises:
        ValueError: it has not.
    """
    known = [option.name for option in formats.find(to).options]
    if unknown := [name for name in options if name not in known]:
        raise ValueError(f"the format {to!r} has no option {', '.join(unknown)}; it has {', '.join(known) or 'none'}")
