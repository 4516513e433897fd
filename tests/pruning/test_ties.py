"""What equal scores leave to position is told, whatever competes."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lottery import Masks, Pruning
from lottery.pruning import ties
from lottery.pruning.dynamic import SET, Gradual, Mover, RigL, Training

SHAPES = {"a": (4, 8, 2), "b": (8, 4, 1)}
WAYS: list[dict[str, Any]] = [
    *({"scope": scope} for scope in ("global", "layerwise", "rows", "uniform")),
    *({"structure": structure} for structure in ("2:4", "kernel", {"name": "block", "shape": [2, 2]})),
    {"structure": {"name": "kernel", "reduce": "l2"}, "scope": "layerwise"},
]


def turned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every position reversed."""
    return {name: t.flip(*range(t.ndim)) for name, t in reversed(list(tensors.items()))}


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=15)
@given(seed=st.integers(0, 999), levels=st.sampled_from([1, 2, 5, 1000]))
def test_position_decides_where_that_is_told_and_nowhere_else(way: dict[str, Any], seed: int, levels: int) -> None:
    """The same choice with all positions reversed shows it."""
    draw = torch.Generator().manual_seed(seed)
    scores = {n: torch.randint(levels, s, generator=draw).double() for n, s in SHAPES.items()}
    masks = Masks({n: torch.rand(s, generator=draw) < 0.9 for n, s in SHAPES.items()})
    pruning = Pruning(0.4, collapse="warn", **way)
    told: list[ties.Tied] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ties.Tied, "say", lambda tied, *_: told.append(tied))
        there = pruning.next_masks(scores, masks, 1)
        back = pruning.next_masks(turned(scores), Masks(turned(masks)), 1)
    moved = {n: int((there[n] & ~other).sum()) for n, other in turned(back).items()}
    (shares, _) = told
    assert bool(sum(moved.values())) == (shares.share > 0)
    assert shares.share * there.kept >= sum(moved.values()) - 1e-9
    assert set(shares.names) >= {n for n, count in moved.items() if count}


def flat_network() -> nn.Sequential:
    """Whose weights all have one magnitude, as those of a signed ticket."""
    net = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))
    for layer in (net[0], net[2]):
        nn.init.constant_(layer.weight, 0.5)
    return net


def masks_of(net: nn.Module) -> Masks:
    return Masks.ones({n: p for n, p in net.named_parameters() if p.ndim > 1})


@pytest.mark.parametrize(
    ("structure", "told"), [("channel", "100 % .* in 0.weight, 2.weight"), ("4:8", r"100 % .* in 0.weight\.")]
)
def test_groups_of_equal_scores_are_told_by_layer(structure: str, told: str) -> None:
    net = flat_network()
    masks = masks_of(net)
    if structure == "4:8":
        masks = Masks({"0.weight": masks["0.weight"]})
    scores = {n: net.get_parameter(n).detach().abs() for n in masks}
    with pytest.warns(UserWarning, match=f"the score 'magnitude' is equal .* decided {told}"):
        Pruning(0.5, structure=structure).next_masks(scores, masks, 1, module=net, example_input=torch.zeros(1, 8))


@pytest.mark.parametrize("method", [Gradual(0.5, every="1it"), SET(0.5, every="1it"), RigL(0.5, every="1it")])
def test_a_move_that_position_decides_is_told_once(method: Any) -> None:
    net = flat_network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)  # so that RigL finds no position better than another, either
    masks = method.begin(masks_of(net), torch.Generator().manual_seed(0))
    masks.apply(dict(net.named_parameters()))
    mover = Mover(method, seed=0)
    mover.start(net, [optimizer], Training(9))
    told = rf"what dynamic='{type(method).__name__.lower()}' goes by is equal for many weights"
    following = masks
    with pytest.warns(UserWarning, match=told):
        following = mover.step(masks, optimizer, 1, position=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mover.step(following, optimizer, 2, position=2)


def test_a_layer_that_a_score_does_not_see_is_named_where_it_goes_whole() -> None:
    scores = {"seen": torch.arange(1.0, 9), "unseen": torch.zeros(4), "single": torch.zeros(1)}
    said = r"'snip' is equal for all weights of unseen, and the mask of round 1 keeps none of them"
    with pytest.warns(UserWarning, match=said):
        Pruning(0.5, score="snip", collapse="warn").next_masks(scores, Masks.ones(scores), 1)
