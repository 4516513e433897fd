"""Pruning made permanent: a baked module computes what the masked one does, and gives its ticket back."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lottery import Ticket
from lottery.masks.masks import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.tickets.baking import bake, baked_masks

KINDS = [zoo.Net, zoo.Recurrent, zoo.Tied, zoo.WeightNorm]
DIRECTION = "net.0.parametrizations.weight.original1"


def made(kind: Callable[[], nn.Module], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return kind().eval()


def some_masks(module: nn.Module, density: float, seed: int) -> Masks:
    """Random masks that leave a weight of every row."""
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for name, p in prunable_parameters(module).items():
        masks[name] = torch.rand(p.shape, generator=generator) < density
        masks[name][..., 0] = True
    return Masks(masks)


def tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in module.state_dict().items()}


@settings(max_examples=25)
@given(kind=st.sampled_from(KINDS), density=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_baked_module_computes_what_the_masked_one_does(
    kind: Callable[[], nn.Module], density: float, seed: int
) -> None:
    module = made(kind, seed)
    masks = some_masks(module, density, seed)
    x, before = zoo.data(seed=seed)[0], tensors(module)
    with torch.no_grad(), Ticket(masks, {}).masked(module):
        masked = module(x)
    assert bake(module, masks) is module
    with torch.no_grad():
        assert torch.equal(module(x), masked)
    after = module.state_dict()
    assert list(after) == list(before)
    for name, value in before.items():
        # tied tensors are in the state dict twice, and go together
        of = next((n for n in masks if after[n].data_ptr() == after[name].data_ptr()), None)
        wanted = value if of is None else value * masks[of]
        assert torch.equal(after[name], wanted), name


@settings(max_examples=25)
@given(kind=st.sampled_from(KINDS), density=st.floats(0, 1), seed=st.integers(0, 99))
def test_the_ticket_of_a_baked_module_has_the_masks_that_were_baked(
    kind: Callable[[], nn.Module], density: float, seed: int
) -> None:
    module = made(kind, seed)
    ticket = Ticket(some_masks(module, density, seed), {})
    found = Ticket.of(ticket.bake(module))
    assert found.masks == ticket.masks  # no random weight is 0
    zoo.assert_equal(dict(found.weights), tensors(module))
    fresh = found.apply(made(kind, seed + 1))
    zoo.assert_equal(tensors(fresh), tensors(module))


def test_a_kept_weight_of_zero_makes_the_masks_nested() -> None:
    module = made(zoo.Net, 0)
    masks = some_masks(module, 0.5, 0)
    with torch.no_grad():
        module.net[0].weight[:, 0] = 0
    found = Ticket.of(bake(module, masks)).masks
    assert found.nested_in(masks) and masks.kept - found.kept == 16


def test_baking_keeps_a_modules_own_weights_where_applying_loads_the_tickets() -> None:
    start, trained = made(zoo.Net, 0), made(zoo.Net, 1)
    ticket = Ticket(some_masks(start, 0.5, 0), start.state_dict())
    own = tensors(trained)["net.0.weight"]
    mask = ticket.masks["net.0.weight"]
    baked = ticket.bake(copy.deepcopy(trained))
    assert torch.equal(baked.net[0].weight, own * mask)
    assert torch.equal(ticket.apply(trained).net[0].weight, start.net[0].weight * mask)


def test_a_compiled_module_is_baked_inside() -> None:
    module = made(zoo.Net, 0)
    masks, compiled = some_masks(module, 0.5, 0), torch.compile(module, backend="eager")
    assert bake(compiled, masks) is compiled
    assert baked_masks(compiled) == baked_masks(module) == masks


def test_patterns_choose_whose_zeros_count() -> None:
    module = bake(made(zoo.Net, 0), some_masks(made(zoo.Net, 0), 0.3, 0))
    assert list(baked_masks(module, exclude=["net.0.*"])) == ["net.4.weight"]
    assert list(Ticket.of(module, include=["net.0.*"]).masks) == ["net.0.weight"]
    with pytest.raises(ValueError, match="'conv' matches no parameter"):
        baked_masks(module, include=["conv"])


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_unit_under_weight_norm_with_nothing_left_is_refused_by_name(older: bool) -> None:
    module, name = made(zoo.WeightNorm, 0), DIRECTION
    if older:
        module, name = nn.utils.weight_norm(nn.Linear(zoo.INPUTS, 16)), "weight_v"
    mask = torch.ones(16, zoo.INPUTS, dtype=torch.bool)
    mask[[3, 5]] = False
    before, x = tensors(module), zoo.data()[0]
    with Ticket(Masks({name: mask}), {}).masked(module):
        assert module(x).isnan().any()
    with pytest.raises(ValueError, match=f"2 units of {name}"):
        bake(module, {name: mask})
    zoo.assert_equal(tensors(module), before)
    mask[[3, 5], 0] = True
    assert bake(module, {name: mask})(x).isfinite().all()


@pytest.mark.parametrize(
    ("masks", "error", "message"),
    [
        ({"net.9.weight": torch.ones(2, 2, dtype=torch.bool)}, ValueError, "net.9.weight: not in the module"),
        ({"net.0.weight": torch.ones(2, 2, dtype=torch.bool)}, ValueError, r"\(2, 2\) in the mask, \(16, 12\)"),
        ({"net.0.weight": torch.zeros(16, 12)}, TypeError, "a mask is boolean"),
    ],
)
def test_masks_that_do_not_fit_change_nothing(masks: dict[str, Tensor], error: type[Exception], message: str) -> None:
    module = made(zoo.Net, 0)
    before = tensors(module)
    good = {"net.4.weight": torch.zeros(3, 16, dtype=torch.bool)}
    with pytest.raises(error, match=message):
        bake(module, {**good, **masks})
    zoo.assert_equal(tensors(module), before)
