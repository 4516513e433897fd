"""Scores: what a weight is worth. High = keep.

A score is a callable from a `Context` to one tensor per prunable parameter, of the parameter's shape: a plain function,
or a frozen dataclass where there are settings. `compute` runs one and leaves the module as it was:

    >>> import torch
    >>> from lottery.masks.masks import Masks
    >>> net = torch.nn.Linear(3, 1, bias=False)
    >>> _ = net.load_state_dict({"weight": torch.tensor([[2.0, -3.0, 1.0]])})
    >>> compute("magnitude", Context(net, Masks.ones(dict(net.named_parameters()))))
    {'weight': tensor([[2., 3., 1.]])}

A new score is one decorated function or class in one file of this folder; each file here is imported.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from lottery.foundations.undisturbed import undisturbed
from lottery.pruning.scores.context import Context
from lottery.pruning.scores.registry import Score, available, name_of, needs_of, register, resolve
from lottery.pruning.scores.scoring import check_scores, compute

for _family in iter_modules(__path__):
    import_module(f"{__name__}.{_family.name}")

__all__ = [
    "Context",
    "Score",
    "available",
    "check_scores",
    "compute",
    "name_of",
    "needs_of",
    "register",
    "resolve",
    "undisturbed",
]
