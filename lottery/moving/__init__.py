"""Masks that move while one training goes on: gradual pruning, SET, RigL, and a user's own.

>>> from lottery import LotteryTicket
>>> LotteryTicket(rounds=0, moving={"name": "rigl", "density": 0.05}).moving.density
0.05
"""

from __future__ import annotations

from lottery.moving.gradual import Gradual
from lottery.moving.moment import Moment, Moving, Training
from lottery.moving.mover import Mover, begin
from lottery.moving.registry import available, described, name_of, register, resolve
from lottery.moving.regrowth import SET, RigL, drop_and_grow

__all__ = [
    "SET",
    "Gradual",
    "Moment",
    "Mover",
    "Moving",
    "RigL",
    "Training",
    "available",
    "begin",
    "described",
    "drop_and_grow",
    "name_of",
    "register",
    "resolve",
]
