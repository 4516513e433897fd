"""What the masks promise is what compaction removes, on networks of many kinds, at every size; and training goes on."""

from __future__ import annotations

import pytest
import torch
from architectures import ARCHITECTURES
from architectures.halved import halved

from lottery.foundations.tensors_in import with_tensors

REFUSED = {
    "own_cell": "zeros of a fixed size",
    "weight_standardization": "mean in 0",
}
"""The networks of which nothing can be removed, and what the error names."""


@pytest.mark.parametrize("name", sorted(ARCHITECTURES.keys() - {"gated_mlp"}))
def test_half_of_the_units_of_a_network_go_and_nothing_else_changes(name: str) -> None:
    torch.manual_seed(0)
    module, inputs = ARCHITECTURES[name]()

    def doubled(batch: int, more: int) -> object:
        return with_tensors(inputs(batch, more), lambda t: t.double() if t.is_floating_point() else t)

    found = halved(module.double().eval(), doubled)
    if name in REFUSED:
        assert found["outcome"] == "refused before training" and REFUSED[name] in found["why"]
    else:
        assert (found["outcome"], found["trains"]) == ("fully", "yes"), found["why"]
