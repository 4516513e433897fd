"""Structures: in which units weights go. Each one removes whole units, by the scores of their weights.

    >>> import torch
    >>> from lottery.masks.masks import Masks
    >>> w = torch.tensor([[1.0, 2.0, 9.0, 8.0], [3.0, 4.0, 1.0, 1.0]])
    >>> block = resolve({"name": "block", "shape": [1, 2]})
    >>> block.next_masks({"w": w}, Masks.ones({"w": w}), pools=[(["w"], 0.5)])["w"].int().tolist()
    [[0, 0, 1, 1], [1, 1, 0, 0]]

A new structure is one registered class in one file of this folder; each file here is imported.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from lottery.pruning.structures.element import Element
from lottery.pruning.structures.groups import Groups, prune_groups
from lottery.pruning.structures.registry import available, name_of, register, resolve
from lottery.pruning.structures.structure import Grouped, Structure

for _family in iter_modules(__path__):
    import_module(f"{__name__}.{_family.name}")

__all__ = ["Element", "Grouped", "Groups", "Structure", "available", "name_of", "prune_groups", "register", "resolve"]
