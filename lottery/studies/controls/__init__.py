"""Controls: what else might explain that a ticket does well. Functions from a ticket to a ticket.

Each changes one thing about the ticket, its weights or its mask, and keeps the number of weights: what then does as
well as the ticket shows that this one thing did not matter.

    >>> import torch
    >>> from lottery import Masks, Ticket
    >>> mask = torch.tensor([[True, False], [True, True]])
    >>> ticket = Ticket(Masks({"w": mask}), {"w": torch.tensor([[1.0, 2.0], [3.0, 4.0]])})
    >>> sorted(shuffle_weights(ticket, seed=1).weights["w"][mask].tolist())
    [1.0, 3.0, 4.0]
    >>> control = resolve("reinit")
    >>> made = control.make(ticket, 1, {"fresh": {"w": torch.ones(2, 2)}})
    >>> made.masks == ticket.masks, made.provenance
    (True, {'control': 'reinit', 'control_seed': 1})

A control is a function, or a frozen dataclass where there are settings. Masks come out unstructured, also where the
ticket's were pruned in channels or blocks. `LotteryTicket(ticket=...)` trains any; a study trains many. A new one is a
registered function or class in one file of this folder; each file here is imported.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from lottery.studies.controls.magnitude import MagnitudeInit, OneShot
from lottery.studies.controls.registry import MATERIALS, Control, RulesOut, available, register, resolve, ruled_out_by
from lottery.studies.controls.sampling import random, random_erk, random_uniform, shuffle, shuffle_fan_in
from lottery.studies.controls.starting import order, reinit, reinit_signs, shuffle_weights, signs
from lottery.studies.controls.transfer import Transfer, nearest

for _family in iter_modules(__path__):
    import_module(f"{__name__}.{_family.name}")

__all__ = [
    "MATERIALS",
    "Control",
    "MagnitudeInit",
    "OneShot",
    "RulesOut",
    "Transfer",
    "available",
    "nearest",
    "order",
    "random",
    "random_erk",
    "random_uniform",
    "register",
    "reinit",
    "reinit_signs",
    "resolve",
    "ruled_out_by",
    "shuffle",
    "shuffle_fan_in",
    "shuffle_weights",
    "signs",
]
