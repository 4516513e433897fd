"""Scores by name, a user's own, and one clear error for each mistake."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
import zoo
from hypothesis import given
from hypothesis import strategies as st
from scored import context, mlp
from torch import nn

from lottery import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.scores import Context, available, check_scores, compute, name_of, register, resolve

NEEDY = {
    "snip": "batches",
    "synflow": "example_input",
    "distance": "initial",
    "movement": "accumulated",
    "random": "generator",
}


@dataclass(frozen=True)
class Power:
    """A user's own score with a setting."""

    exponent: float = 2.0

    def __call__(self, context):
        return {n: w.abs() ** self.exponent for n, w in context.weights.items()}


def inverse(context):
    return {n: 1 / w for n, w in context.weights.items()}


def test_every_score_is_found_by_its_name_and_described_in_a_line():
    for name, line in available().items():
        assert name_of(resolve(name)) == name
        assert line.endswith(".")
        assert len(line) < 130


def test_a_users_own_score_is_taken_as_function_object_or_class():
    net, _ = mlp()
    cubes = {n: p.detach().abs() ** 3 for n, p in prunable_parameters(net).items()}
    scored = context(net)
    assert compute(Power(3.0), scored).keys() == cubes.keys()
    assert resolve(Power) == Power(2.0)
    assert name_of(Power()) == "Power"
    assert name_of(inverse) == "inverse"
    assert torch.equal(compute(inverse, scored)["0.weight"], 1 / net[0].weight.detach())


def test_a_registered_score_has_a_name_settings_and_needs_and_can_be_defined_again():
    for _ in range(2):  # as a notebook's cell that runs twice
        register("power", "initial")(Power)
    assert resolve({"name": "power", "exponent": 4.0}) == Power(4.0)
    with pytest.raises(ValueError, match="'power' needs the weights before training"):
        compute("power", context(mlp()[0]))
    with pytest.raises(ValueError, match="there is a score 'power' already, in"):
        register("power")(inverse)
    with pytest.raises(ValueError, match=r"cannot need \['coffee'\]; it can need batches"):
        register("mine", "coffee")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("synflo", "there is no score 'synflo'. Did you mean synflow?"),
        ("zzz", "there is no score 'zzz'. The scores are distance, fisher"),
        ({"batches": 3}, "there is no score None. The scores are"),
        ({"name": "grasp", "T": 1}, "'grasp' has no setting T; it has batches, temperature, absolute"),
        ({"name": "lamp", "p": 2}, "'lamp' has no setting p; it has none"),
    ],
)
def test_an_unknown_name_or_setting_is_answered_with_those_there_are(wanted, message):
    with pytest.raises(ValueError) as error:
        resolve(wanted)
    assert message in str(error.value)


def test_what_is_no_score_at_all_is_refused():
    with pytest.raises(TypeError, match=r"score=0.2: give a name \(distance, "):
        resolve(0.2)


@pytest.mark.parametrize("name", NEEDY)
def test_a_score_that_lacks_what_it_needs_says_how_to_give_it(name):
    net, _ = mlp()
    bare = Context(net, Masks.ones(prunable_parameters(net)))
    way = rf"the score '{name}' needs .*: give Context\({NEEDY[name]}=\.\.\.\)"
    with pytest.raises(ValueError, match=way):
        compute(name, bare)


def test_data_that_has_nothing_in_it_or_is_not_supervised_is_refused():
    net, x = mlp()
    scored = context(net, x)
    with pytest.raises(ValueError, match="there is no batch to score with"):
        compute("snip", replace(scored, batches=list))
    with pytest.raises(ValueError, match=r"a batch is a Tensor, not a pair.*Context\(loss="):
        compute("snip", replace(scored, batches=lambda: [x]))
    with pytest.raises(ValueError, match="batches=0 is too few"):
        compute({"name": "snip", "batches": 0}, scored)
    uneven = [(x, torch.zeros(4, dtype=torch.long))]
    with pytest.raises(ValueError, match=r"one length in their first dimension.*\[4, 6\]"):
        compute("fisher", replace(scored, batches=lambda: uneven))


def test_no_more_batches_are_drawn_than_are_asked_for():
    net, x = mlp()
    drawn = []

    def endless():
        while True:
            drawn.append(len(drawn))
            yield x, torch.arange(6) % 3

    compute({"name": "snip", "batches": 3}, replace(context(net), batches=endless))
    assert drawn == [0, 1, 2]


MASKS = Masks({"a": torch.tensor([True, True, False]), "b": torch.tensor([[True]])})
GOOD = {"a": torch.ones(3), "b": torch.ones(1, 1)}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"a": torch.ones(2)}, ValueError, r"a: scores of shape \(2,\), weights of shape \(3,\)"),
        ({"c": torch.ones(3)}, ValueError, "c: not a prunable parameter"),
        ({"a": torch.ones(3).int()}, TypeError, "'mine' gave torch.int32 for a"),
        ({"b": None}, TypeError, "'mine' gave NoneType for b"),
        ({"a": torch.tensor([1.0, torch.nan, 0.0])}, ValueError, "for 1 of the 2 weights of a"),
        ({"b": torch.full((1, 1), torch.inf)}, ValueError, "NaN or infinite .* of b"),
    ],
)
def test_unsound_scores_are_refused_by_the_parameters_name(change, error, message):
    with pytest.raises(error, match=message):
        check_scores({**GOOD, **change}, MASKS, "mine")


def test_missing_parameters_are_all_named_and_other_results_refused():
    with pytest.raises(ValueError, match="'mine' does not fit.*\n  a: no score\n  b: no score"):
        check_scores({}, MASKS, "mine")
    with pytest.raises(TypeError, match="'mine' gave a list"):
        check_scores([1, 2], MASKS, "mine")


@given(st.sampled_from([torch.nan, torch.inf, -torch.inf]))
def test_scores_of_pruned_weights_may_be_anything(value):
    scores = {**GOOD, "a": torch.tensor([1.0, 2.0, value])}
    assert list(check_scores(scores, MASKS, "mine")) == ["a", "b"]


@pytest.mark.parametrize("name", ["snip", "grasp", "taylor", "obd", "fisher", "obs", "wanda"])
def test_weights_that_are_not_finite_are_named_by_layer(name):
    net, x = mlp()
    scored = context(net, x)
    net[2].weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=rf"'{name}' is NaN or infinite .*weight"):
        compute(name, scored)


def test_masks_or_initial_weights_of_another_network_are_refused():
    net, _ = mlp()
    with pytest.raises(ValueError, match=r"3.weight: not in the module"):
        Context(net, Masks({"3.weight": torch.ones(2, dtype=torch.bool)}))
    other = {"0.weight": torch.ones(5, 4), "2.weight": torch.ones(2, 5)}
    with pytest.raises(ValueError, match=r"2.weight: \(3, 5\) .*, \(2, 5\)"):
        compute("distance", context(net, initial=other))


@pytest.mark.parametrize(
    ("kind", "layer"), [(zoo.Recurrent, "gru.weight_ih_l0"), (zoo.Attention, "attention.in_proj_weight")]
)
def test_wanda_names_the_layers_that_it_cannot_serve(kind, layer):
    x, y = zoo.data(4)
    with pytest.raises(ValueError, match=rf"wanda scores .* not: \['{layer}'"):
        compute("wanda", context(kind(), x.double(), y))


def test_lookahead_names_the_layers_that_it_cannot_serve():
    net = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"lookahead scores .* not: \['0.weight'\]\."):
        compute("lookahead", context(net, torch.tensor([[1, 2]])))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 3)

    def forward(self, x):
        return self.net(x) if x.sum() > 0 else self.net(-x)


def test_lookahead_says_where_it_cannot_follow():
    with pytest.raises(ValueError, match=r"in Branching forward stopped with: it hands values to Python \(bool\)"):
        compute("lookahead", context(Branching(), torch.ones(1, 4).double()))
    sorts = nn.Sequential(nn.Linear(4, 4), nn.Softmax(1), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="linear takes what comes from softmax in 1, which is not followed"):
        compute("lookahead", context(sorts, torch.ones(1, 4).double()))
    assert compute("lookahead", context(sorts[:2], torch.ones(1, 4).double()))


def test_obd_refuses_a_network_that_is_too_large_for_it():
    net, x = mlp()
    with pytest.raises(ValueError, match="each of 35 weights, more than limit=34. Take 'fisher'"):
        compute({"name": "obd", "limit": 34}, context(net, x))


@pytest.mark.parametrize("setting", [{"block": 0}, {"damping": 0.0}])
def test_obs_refuses_blocks_and_damping_that_are_not_positive(setting):
    with pytest.raises(ValueError, match="must be at least 1, and damping"):
        resolve({"name": "obs", **setting})


def test_synflow_refuses_what_has_no_ones_or_no_sum():
    net, x = mlp()
    with pytest.raises(TypeError, match="floating inputs .* has torch.int64"):
        compute("synflow", context(net, torch.ones(2, 4, dtype=torch.long)))
    recurrent = nn.GRU(4, 3)
    with pytest.raises(TypeError, match="that of GRU gives a tuple"):
        compute("synflow", context(recurrent, x[None]))
