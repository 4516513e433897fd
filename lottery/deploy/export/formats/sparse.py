"""A network as a sparse file: coded masks and surviving values."""

from __future__ import annotations

import copy
from pathlib import Path

from lottery.deploy.export.format import Exportable, Option, Written, register
from lottery.deploy.export.formats.state_dict import into_module
from lottery.deploy.export.readback import apart, same
from lottery.deploy.sparse.file import load_sparse, save_sparse
from lottery.deploy.sparse.values import Values
from lottery.foundations.names import load_weights, parameters_of, weights_of
from lottery.masks.masks import Masks
from lottery.tickets.baking import baked_masks

_VALUES = Option("values", "of sparse: rounded (default: exact)", choices=("float32", "bfloat16", "int8"))


@register("sparse", _VALUES)
def write(network: Exportable, path: Path, values: Values = "native") -> Written:
    """a state dict without what was pruned: the smallest file"""
    module = network.module
    save_sparse(path, weights_of(module), _masks_of(network), values=values)
    read = load_sparse(path)
    if values == "native":
        check = same(read, module)
    else:
        loaded = copy.deepcopy(module)
        load_weights(loaded, read)
        check = f"Rounded to {values}. {apart(network, loaded)}"
    load = into_module(network, f'load_sparse("{path}")', "load_sparse")
    return Written(path.stat().st_size, check, load)


def _masks_of(network: Exportable) -> Masks:
    """The masks, or what is left of them in a smaller module."""
    module, masks = network.module, network.masks
    if masks is None:
        return baked_masks(module)
    parameters = parameters_of(module)
    left = [name for name in masks if name in parameters and parameters[name].numel()]
    if all(name in left and parameters[name].shape == mask.shape for name, mask in masks.items()):
        return masks
    return baked_masks(module, include=left) if left else Masks({})
