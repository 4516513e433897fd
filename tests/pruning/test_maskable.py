"""What is masked is what layers compute with, or it is refused before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import spectral_norm as older_spectral_norm
from torch.nn.utils import weight_norm as older_weight_norm

from lottery import LotteryTicket, Pruning, Run
from lottery.foundations.names import parameters_of
from lottery.masks.masks import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.maskable import check_maskable, check_norms, norms_of


class Standardised(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Centred(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight - self.weight.mean(1, keepdim=True), self.bias)


class Scaled(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight * 2, self.bias)


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


class Shifted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.1


def parametrized(step: nn.Module) -> nn.Module:
    layer = nn.Linear(6, 4)
    parametrize.register_parametrization(layer, "weight", step, unsafe=True)
    return layer


EXACT: dict[str, Any] = {
    "plain": lambda: nn.Linear(6, 4),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(6, 4)),
    "weight norm of columns": lambda: parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(6, 4)),
    "older weight norm": lambda: older_weight_norm(nn.Linear(6, 4)),
    "older spectral norm": lambda: older_spectral_norm(nn.Linear(6, 4)),
    "torch's pruning": lambda: prune.random_unstructured(nn.Linear(6, 4), "weight", 0.3),
    "scaled in forward": lambda: Scaled(6, 4),
    "doubled": lambda: parametrized(Doubled()),
}
FILLED: dict[str, Any] = {
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(6, 4)),
    "shifted": lambda: parametrized(Shifted()),
    "standardised": lambda: Standardised(3, 4, 3),
    "centred": lambda: Centred(6, 4),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("kind", EXACT)
def test_what_keeps_zeros_is_masked(kind: str) -> None:
    module = nn.Sequential(nn.Flatten(0), EXACT[kind]())
    before = {n: p.detach().clone() for n, p in module.state_dict().items()}
    identities = [id(p) for p in module.parameters()]
    streams = torch.get_rng_state()
    check_maskable(module, prunable_parameters(module))
    zoo.assert_equal(dict(module.state_dict()), before)
    assert identities == [id(p) for p in module.parameters()]
    assert torch.equal(torch.get_rng_state(), streams)


@pytest.mark.parametrize("kind", FILLED)
def test_what_fills_zeros_is_refused_by_name(kind: str) -> None:
    module = nn.Sequential(FILLED[kind](), nn.Identity())
    before = {n: p.detach().clone() for n, p in module.state_dict().items()}
    parameters = prunable_parameters(module)
    (name,) = parameters
    with pytest.raises(ValueError, match=r"Pruning\(exclude=\['" + name):
        check_maskable(module, parameters)
    zoo.assert_equal(dict(module.state_dict()), before)
    assert set(parameters_of(module)) >= set(parameters)


def test_a_fit_is_refused_before_training_and_the_way_out_works(tmp_path: Path) -> None:
    class Orthogonal(zoo.Net):
        def __init__(self) -> None:
            super().__init__()
            self.net[0] = parametrizations.orthogonal(self.net[0])

    with pytest.raises(ValueError, match="_Orthogonal"):
        zoo.fit(Orthogonal, LotteryTicket(1, dirpath=tmp_path), max_epochs=1)
    assert not (tmp_path / "manifest.json").exists()
    pruning = Pruning(0.3, exclude=["net.0.*"])
    zoo.fit(Orthogonal, LotteryTicket(1, pruning, dirpath=tmp_path), max_epochs=1)
    assert Run(tmp_path).rounds == [0, 1]


# layers that divide by norms, and the dimension whose slices have one each
NORMED: dict[str, tuple[Any, int | None]] = {
    "rows": (lambda: parametrizations.weight_norm(nn.Linear(6, 4)), 0),
    "filters": (lambda: parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), 0),
    "columns": (lambda: parametrizations.weight_norm(nn.Linear(6, 4), dim=1), 1),
    "transposed": (lambda: parametrizations.weight_norm(nn.ConvTranspose1d(3, 4, 2), dim=1), 1),
    "whole": (lambda: parametrizations.weight_norm(nn.Linear(6, 4), dim=None), None),
    "spectral": (lambda: parametrizations.spectral_norm(nn.Linear(6, 4)), None),
    "older": (lambda: older_weight_norm(nn.Linear(6, 4)), 0),
    "older spectral": (lambda: older_spectral_norm(nn.Linear(6, 4)), None),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("kind", NORMED)
@given(seed=st.integers(0, 2**32), amount=st.floats(0.05, 0.8))
@settings(max_examples=15)
def test_every_norm_keeps_a_weight_and_counts_stay_exact(kind: str, seed: int, amount: float) -> None:
    make, dim = NORMED[kind]
    module = nn.Sequential(make())
    masks = Masks.ones(prunable_parameters(module))
    (name,) = masks
    norms = norms_of(module, masks)
    assert norms == {name: dim}
    generator = torch.Generator().manual_seed(seed)
    for round in (1, 2):
        scores = {name: torch.rand(masks[name].shape, generator=generator)}
        before, pruning = masks, Pruning(amount, collapse="warn")
        masks = pruning.next_masks(scores, before, round, module=module)
        free = pruning.next_masks(scores, before, round)
        assert masks.kept == free.kept
        rows = masks[name].movedim(dim or 0, 0).flatten(1)
        left = rows.any(1) if dim is not None else rows.any()
        if masks.kept >= left.numel():
            assert left.all()
            check_norms(masks, norms)
        else:
            with pytest.raises(ValueError, match=rf"{name} \(\d+ norms\)"):
                check_norms(masks, norms)


class Normed(zoo.Net):
    def __init__(self) -> None:
        super().__init__()
        self.net[0] = parametrizations.weight_norm(self.net[0])  # type: ignore[assignment]


def test_a_network_with_weight_norm_trains_at_any_density(tmp_path: Path) -> None:
    """Without a rule of its own, units without a weight would make it NaN from round 3 on."""
    zoo.fit(Normed, LotteryTicket(5, 0.4, dirpath=tmp_path, keep="all"), max_epochs=1)
    run = Run(tmp_path)
    name = "net.0.parametrizations.weight.original1"
    assert run.masks[5].density < 0.08 and run.masks[5][name].any(1).all()
    for round in run.rounds:
        assert all(w.isfinite().all() for w in run.weights(round).values())
