"""Masks that move while one training goes on: gradual pruning, SET, RigL, and a user's own.

>>> from lottery import LotteryTicket
>>> LotteryTicket(rounds=0, dynamic={"name": "rigl", "density": 0.05}).dynamic.density
0.05
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from lottery.pruning.dynamic.gradual import Gradual
from lottery.pruning.dynamic.method import Method, MoveContext, Training
from lottery.pruning.dynamic.mover import Move, Mover, begin, check_begin
from lottery.pruning.dynamic.registry import available, described, name_of, register, resolve
from lottery.pruning.dynamic.regrowth import SET, RigL, drop_and_grow

for _family in iter_modules(__path__):
    import_module(f"{__name__}.{_family.name}")

__all__ = [
    "SET",
    "Gradual",
    "Method",
    "Move",
    "MoveContext",
    "Mover",
    "RigL",
    "Training",
    "available",
    "begin",
    "check_begin",
    "described",
    "drop_and_grow",
    "name_of",
    "register",
    "resolve",
]
