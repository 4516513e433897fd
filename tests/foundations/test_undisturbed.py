"""A module comes out of a block as it went in, whatever its modes do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lottery.foundations.undisturbed import refreshed, undisturbed


class Merging(nn.Linear):
    """Adds a correction to its weight in eval mode, as LoRA does, and keeps what it computes there."""

    def __init__(self):
        super().__init__(2, 2)
        self.more = nn.Parameter(torch.randn(2, 2))
        self.merged, self.kept = False, []

    def train(self, mode=True):
        if self.merged == mode:
            self.weight.data += -self.more.data if mode else self.more.data
            self.merged = not mode
        if mode:
            self.kept.clear()
        return super().train(mode)

    def forward(self, x):
        if not self.training:
            self.kept.append(x)
        return super().forward(x)


@pytest.mark.parametrize("mode", [True, False])
def test_a_module_that_does_more_in_eval_mode_comes_out_as_it_went_in(mode):
    module = Merging().train(mode)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    with undisturbed(module, {}):
        assert module.merged and not module.training
        module(torch.ones(1, 2))
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())
    assert module.training is mode and module.merged is not mode
    assert not module.kept


def test_a_refreshed_module_keeps_the_modes_of_its_parts():
    module = nn.Sequential(Merging(), nn.Sequential(nn.Dropout())).train()
    module[1].eval()
    assert [m.training for m in refreshed(module).modules()] == [True, True, False, False]
