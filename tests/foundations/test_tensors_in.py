"""Tensors are found in values of any kind, and changed there."""

from __future__ import annotations

from collections import OrderedDict, UserDict, deque, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lottery.foundations.tensors_in import outputs_in, read, tensors_in, with_tensors

ONE, TWO = torch.tensor([1.0]), torch.tensor([2.0])
Pair = namedtuple("Pair", "one two")


@dataclass(frozen=True)
class Frozen:
    one: torch.Tensor
    rest: object = None


@dataclass
class Slotted:
    __slots__ = ("one", "two")
    one: torch.Tensor
    two: torch.Tensor


class Registered:
    __slots__ = ("_held",)

    def __init__(self, held):
        self._held = held


torch.utils._pytree.register_pytree_node(Registered, lambda r: ([r._held], None), lambda held, _: Registered(held[0]))

HOLDERS = {
    "tuple": (ONE, TWO),
    "named tuple": Pair(ONE, TWO),
    "what torch gives": torch.max(torch.tensor([[1.0, 2.0]]), 1),
    "list": [ONE, [TWO]],
    "deque": deque([ONE, TWO]),
    "ordered mapping": OrderedDict(one=ONE, two=TWO),
    "other mapping": UserDict(one=ONE, two=TWO),
    "dataclass": Frozen(ONE, Frozen(TWO)),
    "slots": Slotted(ONE, TWO),
    "namespace": SimpleNamespace(one=ONE, two=[TWO], name="x"),
    "registered": Registered([ONE, TWO]),
    "set": {ONE, TWO},
    "frozen set": frozenset([TWO, ONE]),
    "values": {"one": ONE, "two": TWO}.values(),
    "items": {"one": ONE, "two": TWO}.items(),
}


@pytest.mark.parametrize("kind", HOLDERS)
def test_both_tensors_are_seen_and_changed_and_the_value_stays(kind):
    value = HOLDERS[kind]
    before = list(tensors_in(value))
    changed = with_tensors(value, lambda x: x + 10)
    assert len(before) == 2
    assert [float(x) for x in tensors_in(changed)] == [float(x) + 10 for x in before]
    assert list(map(id, tensors_in(value))) == list(map(id, before))
    if kind not in ("values", "items"):
        assert type(changed) is type(value)


def test_a_set_comes_in_the_order_of_its_values_whatever_the_addresses():
    numbers = [
        [float(x) for x in tensors_in({torch.tensor(float(n)) for n in order})] for order in ((1, 2, 3), (3, 2, 1))
    ]
    assert numbers == [[1, 2, 3]] * 2


def test_what_goes_in_circles_is_seen_once_and_modules_are_not_entered():
    value = SimpleNamespace(one=ONE, module=nn.Linear(2, 2), kind=nn.Linear, code=len)
    value.self = value
    assert len(list(tensors_in(value))) == 1


def test_an_iterator_is_read_once_and_only_when_asked():
    given = (x for x in (ONE, TWO))
    assert not list(tensors_in(given))
    found = read({"outer": given})
    assert list(map(float, tensors_in(found))) == list(map(float, tensors_in(found))) == [1, 2]


def test_what_holds_no_tensor_is_the_same_object_and_refused_as_an_output():
    value = SimpleNamespace(name="x")
    assert with_tensors(value, lambda x: x) is value
    with pytest.raises(ValueError, match=r"Net.forward gives a SimpleNamespace, in which no tensor is found"):
        outputs_in(value, "Net")
