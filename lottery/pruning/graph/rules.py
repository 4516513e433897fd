"""Which rule labels the results of which function of torch."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from lottery.pruning.graph import combining, layers, products, recurrence
from lottery.pruning.graph.calls import Use
from lottery.pruning.graph.functions import (
    ALONG,
    ATTENTION,
    CELLS,
    ELEMENTWISE,
    FACTORS,
    GATHERS,
    LAYERS,
    MIXING,
    MOVES,
    PACKS,
    POOLS,
    PRODUCTS,
    RECURRENT,
    REDUCTIONS,
)
from lottery.pruning.graph.labelling import Labelling

Rule: TypeAlias = Callable[[Labelling, Use], "list[Tensor] | None"]


def follow(seen: Labelling, use: Use) -> list[Tensor] | None:
    """The labels of the floating results; None where they are not known."""
    if LAYERS.fullmatch(use.name):
        return layers.layer(seen, use)
    if not _concerns(seen, use) or _mixes(seen, use):
        return None
    for names, rule in _RULES:
        if names.fullmatch(use.name):
            return rule(seen, use)
    return None


def _concerns(seen: Labelling, use: Use) -> bool:
    """Whether features or owned tensors go in, and anything comes out."""
    return bool(use.outputs) and any(seen.features(x) or seen.own([x]) for x in use.given)


def _mixes(seen: Labelling, use: Use) -> bool:
    """Whether a unit's value needs the others, or numbers choose what goes where, in a way that is not followed."""
    numbers = [x for x in use.given if not x.is_floating_point()]
    chosen = any(names.fullmatch(use.name) for names in (MOVES, FACTORS, GATHERS, ATTENTION, RECURRENT, PACKS))
    return (seen.exact and bool(MIXING.fullmatch(use.name))) or (seen.known(numbers) and not chosen)


_RULES: tuple[tuple[re.Pattern[str], Rule], ...] = (
    (PRODUCTS, products.matrices),
    (re.compile("einsum"), products.einsum),
    (re.compile("bilinear"), layers.bilinear),
    (re.compile("glu"), combining.gated),
    (MOVES, combining.moved),
    (ELEMENTWISE, combining.elementwise),
    (GATHERS, combining.gathered),
    (PACKS, combining.packed),
    (ATTENTION, products.heads),
    (ALONG, combining.together_along),
    (POOLS, combining.pooled),
    (REDUCTIONS, combining.reduced),
    (RECURRENT, recurrence.recurrent),
    (CELLS, recurrence.cell),
)
