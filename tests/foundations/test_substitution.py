"""Other tensors stand in a module's places for a block, and its own objects after it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import zoo
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lottery.foundations.names import buffers_of, parameters_of
from lottery.foundations.substitution import substituted


class Shared(nn.Module):
    """A submodule under two names, a tied weight, and a buffer that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 4)
        self.decoder = self.encoder
        self.head = nn.Linear(4, 4)
        self.head.weight = self.encoder.weight
        self.register_buffer("scale", torch.full((4,), 2.0))
        self.norm = nn.BatchNorm1d(4)
        self.parts = nn.ModuleList([self.norm, self.norm])

    def forward(self, x: Any) -> Any:
        return self.norm(self.head(self.decoder(self.encoder(x))) * self.scale)


def compiled() -> nn.Module:
    return torch.compile(Shared(), backend="eager")  # type: ignore[return-value]


MAKERS = (Shared, compiled, zoo.Tied, zoo.Net, zoo.WeightNorm)


def objects(module: nn.Module) -> dict[str, int]:
    """Every place of a parameter or buffer, under every name."""
    places = [*module.named_parameters(remove_duplicate=False)]
    places += [*module.named_buffers(remove_duplicate=False)]  # type: ignore[list-item]
    return {name: id(tensor) for name, tensor in places}


@given(st.data())
def test_every_place_holds_its_own_object_again(data: Any) -> None:
    """Also under second names, in float64, and where the block fails."""
    module = data.draw(st.sampled_from(MAKERS))().eval()
    owned = {**parameters_of(module), **buffers_of(module)}
    names = data.draw(st.sets(st.sampled_from(sorted(owned))))
    before, types = objects(module), {n: (type(t), t.dtype) for n, t in owned.items()}
    values = {name: owned[name].detach().double() + 1 for name in names}
    instead = {id(owned[name]): id(values[name]) for name in names}
    with pytest.raises(ZeroDivisionError), substituted(module, values):
        assert objects(module) == {n: instead.get(i, i) for n, i in before.items()}
        raise ZeroDivisionError
    assert objects(module) == before
    now = {**parameters_of(module), **buffers_of(module)}
    assert {n: (type(t), t.dtype) for n, t in now.items()} == types


@pytest.mark.parametrize("make", [Shared, compiled])
def test_the_module_computes_with_what_stands_there(make: Any) -> None:
    """As a module does whose weights are the other ones, with gradients that reach them."""
    module, other = make().eval(), make().eval()
    values = {n: torch.randn_like(p) for n, p in parameters_of(module).items()}
    with torch.no_grad():
        for name, parameter in parameters_of(other).items():
            parameter.copy_(values[name])
    x = torch.randn(3, 4)
    leaves = {n: t.requires_grad_() for n, t in values.items()}
    with substituted(module, leaves):
        found = module(x)
    expected = other(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    gradients = torch.autograd.grad(found.sum(), list(leaves.values()))
    wanted = torch.autograd.grad(expected.sum(), list(parameters_of(other).values()))
    zoo.assert_equal(list(gradients), list(wanted))


def test_inside_a_transformation_of_functions() -> None:
    module = Shared().eval()
    weights = {n: p.detach() for n, p in parameters_of(module).items()}
    x, before = torch.randn(5, 3, 4), objects(module)

    def loss(values: Any, x: Any) -> Any:
        with substituted(module, values):
            return module(x).square().mean()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, x)
    for i in range(5):
        own = torch.func.grad(loss)(weights, x[i])
        for name, gradient in own.items():
            torch.testing.assert_close(each[name][i], gradient)
    assert objects(module) == before


def test_an_unknown_name_changes_nothing() -> None:
    module = Shared()
    before = objects(module)
    with pytest.raises(KeyError, match="stray"), substituted(module, {"stray": torch.zeros(1)}):
        pass
    assert objects(module) == before
