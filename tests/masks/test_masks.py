"""Masks: named boolean tensors as values."""

import operator
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lottery import Masks

names = st.text("abc._", min_size=1, max_size=8)
OPERATIONS = [operator.and_, operator.or_, operator.sub]
shapes = st.lists(st.integers(1, 5), max_size=4).map(tuple)


@st.composite
def tensors(draw, shape=None):
    shape = draw(shapes) if shape is None else shape
    count = int(np.prod(shape))
    bits = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return torch.tensor(bits, dtype=torch.bool).reshape(shape)


masks = st.dictionaries(names, tensors(), max_size=4).map(Masks)


@st.composite
def pairs(draw):
    """Two masks of the same names and shapes."""
    one = draw(masks)
    return one, Masks({n: draw(tensors(tuple(m.shape))) for n, m in one.items()})


# Laws


@given(masks)
def test_packed_masks_unpack_to_themselves(some):
    shapes = {name: tuple(mask.shape) for name, mask in some.items()}
    unpacked = Masks.unpack(some.pack(), shapes)
    assert unpacked == some
    assert list(unpacked) == list(some)


@given(masks)
def test_packed_masks_take_one_bit_per_weight(some):
    for name, packed in some.pack().items():
        assert packed.dtype is torch.uint8
        assert packed.numel() == -(-some[name].numel() // 8)


@given(masks)
def test_what_is_kept_and_the_total_add_up(some):
    assert some.kept == sum(mask.sum().item() for mask in some.values())
    assert some.total == sum(mask.numel() for mask in some.values())
    assert 0 <= some.density <= 1
    weighted = sum(some[n].numel() * d for n, d in some.densities().items())
    assert weighted == pytest.approx(some.kept)


@given(pairs())
def test_nested_means_that_nothing_is_kept_that_the_other_dropped(pair):
    one, other = pair
    both = Masks({n: one[n] & other[n] for n in one})
    assert both.nested_in(one) and both.nested_in(other)
    assert one.nested_in(other) == (both == one)
    assert one.nested_in(one)


@given(pairs())
def test_set_operations_are_those_of_the_kept_positions(pair):
    one, other = pair
    for result, expected in ((one & other, set.intersection), (one | other, set.union), (one - other, set.difference)):
        assert positions(result) == expected(positions(one), positions(other))
        assert list(result) == list(one)


def positions(some):
    return {(name, *at) for name, m in some.items() for at in m.nonzero().tolist()}


@given(pairs())
def test_set_operations_obey_the_laws_of_sets(pair):
    a, b = pair
    all_of_it = Masks.ones(a)
    assert (a & b).nested_in(a) and a.nested_in(a | b)
    assert (a - b) | (a & b) == a
    assert (a - b) & b == a - a
    assert (a | b) - (a & b) == (a - b) | (b - a)
    assert all_of_it - (a | b) == (all_of_it - a) & (all_of_it - b)
    assert all_of_it - (a & b) == (all_of_it - a) | (all_of_it - b)
    assert (a | b).kept + (a & b).kept == a.kept + b.kept
    assert a & a == a | a == a and (a - a).kept == 0


@given(pairs())
def test_set_operations_leave_both_sides_as_they_were(pair):
    before = [Masks(some) for some in pair]
    for operate in OPERATIONS:
        operate(*pair)
        operate(pair[0], dict(pair[1]))
    assert list(pair) == before


@given(pairs())
def test_masks_are_equal_when_each_is_nested_in_the_other(pair):
    one, other = pair
    assert (one == other) == (one.nested_in(other) and other.nested_in(one))


@given(masks)
def test_masks_survive_pickling(some):
    assert pickle.loads(pickle.dumps(some)) == some


@given(masks)
def test_applied_masks_zero_the_pruned_and_leave_the_kept_alone(some):
    parameters = {n: nn.Parameter(torch.randn(m.shape) + 9) for n, m in some.items()}
    before = {n: p.detach().clone() for n, p in parameters.items()}
    some.apply(parameters)
    for name, parameter in parameters.items():
        assert torch.equal(parameter != 0, some[name])
        assert torch.equal(parameter[some[name]], before[name][some[name]])


@given(masks)
def test_applying_masks_twice_is_applying_them_once(some):
    parameters = {n: torch.randn(m.shape) for n, m in some.items()}
    some.apply(parameters)
    once = {n: p.clone() for n, p in parameters.items()}
    some.apply(parameters)
    assert all(torch.equal(parameters[n], once[n]) for n in some)


@given(masks)
def test_ones_keep_everything(some):
    ones = Masks.ones(some)
    assert ones.kept == ones.total == some.total
    assert ones.density == 1
    assert some.nested_in(ones)


@settings(max_examples=20)
@given(masks)
def test_masks_do_not_change_with_the_tensors_they_were_made_from(some):
    sources = {name: mask.clone() for name, mask in some.items()}
    made = Masks(sources)
    for source in sources.values():
        source.logical_not_()
    assert made == some


# Examples


def test_masks_read_like_a_mapping():
    some = Masks({"a": torch.tensor([True, False]), "b": torch.tensor(True)})
    assert list(some) == ["a", "b"] and len(some) == 2 and "a" in some
    assert some == {"b": torch.tensor(True), "a": torch.tensor([True, False])}
    assert some != {"a": torch.tensor([True, False])}
    assert some != 3
    assert "2 of 3 weights kept" in repr(some)


def test_masks_of_nothing_have_density_one():
    assert Masks({}).density == 1
    assert Masks({"a": torch.ones(0, 3, dtype=torch.bool)}).densities() == {"a": 1.0}


def test_masks_of_a_transposed_tensor_pack_in_reading_order():
    mask = torch.tensor([[True, False, False], [True, True, False]]).t()
    assert Masks.unpack(Masks({"w": mask}).pack(), {"w": (3, 2)}) == {"w": mask}


def test_masks_leave_other_parameters_alone():
    layer = nn.Linear(2, 2)
    bias = layer.bias.detach().clone()
    Masks({"weight": torch.zeros(2, 2, dtype=torch.bool)}).apply(dict(layer.named_parameters()))
    assert torch.equal(layer.bias, bias)
    assert not layer.weight.any()


def test_different_names_are_not_nested():
    one = Masks({"a": torch.tensor([False])})
    assert not one.nested_in(Masks({"b": torch.tensor([True])}))
    assert not one.nested_in({})


@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (3,), (3, 2), (0, 3)])
def test_masks_of_different_shapes_are_not_nested(shape):
    """Also where one could be broadcast to the other."""
    one, other = torch.zeros(2, 3).bool(), torch.zeros(shape).bool()
    assert not Masks({"a": one}).nested_in({"a": other})
    assert not Masks({"a": other}).nested_in({"a": one})


def test_masks_can_be_put_in_the_place_of_others():
    some = Masks.ones({"a": torch.zeros(2), "b": torch.zeros(3)})
    changed = some.with_masks({"b": torch.tensor([True, False, False])})
    assert changed.densities() == {"a": 1.0, "b": pytest.approx(1 / 3)}
    assert list(changed) == ["a", "b"]
    assert some.density == 1


# Bad input


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int64])
def test_a_mask_that_is_not_boolean_is_refused_by_name(dtype):
    with pytest.raises(TypeError, match=r"'fc.weight'.*" + str(dtype)):
        Masks({"fc.weight": torch.ones(2, dtype=dtype)})


def test_check_passes_over_parameters_without_a_mask():
    Masks.ones({"a": torch.zeros(2)}).check({"a": torch.zeros(2), "b": torch.zeros(1)})


def test_check_names_every_parameter_that_does_not_fit():
    some = Masks.ones({"a": torch.zeros(2), "b": torch.zeros(2, 3), "c": torch.ones(4)})
    with pytest.raises(ValueError) as error:
        some.check({"a": torch.zeros(2), "b": torch.zeros(3, 2)}, of="ticket")
    message = str(error.value)
    assert "the ticket does not fit the module" in message
    assert "b: (2, 3) in the ticket, (3, 2) in the module" in message
    assert "c: not in the module" in message
    assert "a:" not in message


@pytest.mark.parametrize("operate", OPERATIONS)
def test_set_operations_name_every_parameter_that_the_two_sides_do_not_share(operate):
    one = Masks.ones({"a": torch.zeros(2, 3), "b": torch.zeros(2), "c": torch.ones(4)})
    other = Masks.ones({"a": torch.zeros(1, 3), "c": torch.ones(4), "d": torch.ones(1)})
    with pytest.raises(ValueError) as error:
        operate(one, other)
    message = str(error.value)
    assert "a: (2, 3) in the first, (1, 3) in the second" in message
    assert "b: only in the first" in message
    assert "d: only in the second" in message
    assert "c:" not in message


@pytest.mark.parametrize("shape", [(3, 2), (6,), (2, 3, 1)])
def test_masks_of_another_shape_cannot_be_put_in_place(shape):
    some = Masks.ones({"a": torch.zeros(2, 3)})
    with pytest.raises(ValueError, match=r"a: .* in the ticket"):
        some.with_masks({"a": torch.ones(shape, dtype=torch.bool)})
    with pytest.raises(ValueError, match="x: not in the module"):
        some.with_masks({"x": torch.ones(1, dtype=torch.bool)})


@pytest.mark.parametrize("shape", [(3,), (17,), (2**50,), (-2, -8), (-1,)])
def test_packed_bits_do_not_unpack_to_a_shape_they_were_not_packed_from(shape):
    packed = Masks.ones({"w": torch.zeros(16)}).pack()
    with pytest.raises(ValueError, match="'w'"):
        Masks.unpack(packed, {"w": shape})


def test_packed_bits_and_shapes_of_different_names_are_refused_by_name():
    packed = Masks.ones({"w": torch.zeros(4)}).pack()
    for shapes in ({}, {"w": (4,), "v": (4,)}):
        with pytest.raises(ValueError, match=r"\['[vw]'\]"):
            Masks.unpack(packed, shapes)


def test_masks_unpack_in_the_order_of_their_shapes():
    some = Masks.ones({"w": torch.zeros(2), "a": torch.zeros(3), "b": torch.zeros(1)})
    packed = dict(sorted(some.pack().items()))
    shapes = {name: tuple(mask.shape) for name, mask in some.items()}
    assert list(Masks.unpack(packed, shapes)) == ["w", "a", "b"]
