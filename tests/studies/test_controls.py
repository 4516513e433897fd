"""Controls: what each keeps of a ticket, what it draws, and what it refuses."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import zoo
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.parameter import UninitializedParameter

from lottery import LotteryTicket, Masks, Pruning, Run, StorageError, Ticket
from lottery.masks.inspection import fan_in
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.scopes import erdos_renyi
from lottery.studies import controls

FRESH = ["reinit", "reinit-signs", "random", "random-erk", "random-uniform"]
SAME_MASK = ["reinit", "reinit-signs", "signs", "shuffle-weights", "order"]
SAME_LAYER_COUNTS = [*SAME_MASK, "shuffle", "shuffle-fan-in", "random"]
DRAWN_MASK = ["shuffle", "shuffle-fan-in", "random", "random-erk", "random-uniform"]
DRAWN = [*DRAWN_MASK, "shuffle-weights"]
MOVED_MASK = ["shuffle", "shuffle-fan-in", "one-shot", "magnitude-init"]
EXACT = [
    *SAME_LAYER_COUNTS,
    "random-erk",
    "random-uniform",
    "one-shot",
    "one-shot=layerwise",
    "magnitude-init",
    "magnitude-init=layerwise",
]

dtypes = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
layers = st.dictionaries(st.sampled_from(["a.weight", "b.weight", "conv.weight", "gain"]), shapes, min_size=1)
seeds = st.integers(0, 10**6)


def state(shapes, seed, dtype=torch.float32):
    """A state dict with weights, one of them tied, a bias and a counter. No weight is zero."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in {**shapes, "bias": (3,)}.items():
        drawn = torch.randn(shape, generator=generator)
        weights[name] = torch.where(drawn < 0, drawn - 0.1, drawn + 0.1).to(dtype)
    first = next(iter(shapes))
    tied = {"tied": weights[first]}
    return {**weights, **tied, "batches": torch.tensor(seed)}


def make_ticket(shapes, seed=0, density=0.5, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    masks = {name: torch.rand(shape, generator=generator) < density for name, shape in shapes.items()}
    return Ticket(Masks(masks), state(shapes, seed, dtype), {"round": 3, "seed": seed})


tickets = st.builds(make_ticket, layers, seeds, st.floats(0, 1), dtypes)


def materials(ticket, seed=7):
    shapes = {name: mask.shape for name, mask in ticket.masks.items()}
    dtype = ticket.weights[next(iter(shapes))].dtype
    return {
        "fresh": state(shapes, -1 - seed, dtype),
        "trained": state(shapes, -1001 - seed, dtype),
        "initial": state(shapes, -2001 - seed, dtype),
    }


def make(name, ticket, seed=0, **given):
    return controls.resolve(name).make(ticket, seed, {**materials(ticket), **given})


def counts(masks):
    return {name: int(mask.sum()) for name, mask in masks.items()}


def values(weights):
    return sorted(weights.double().tolist())


LARGE = make_ticket({"a.weight": (30, 40), "conv.weight": (4, 3, 3, 3), "gain": (50,)})
few = settings(max_examples=8)  # of many controls each
some = settings(max_examples=30)


# Every control


@given(tickets, seeds)
@few
def test_every_control_keeps_as_many_weights_as_the_ticket(ticket, seed):
    for name in EXACT:
        made = make(name, ticket, seed)
        assert made.masks.kept == ticket.masks.kept, name
        made.masks.check_same(ticket.masks)


@given(tickets, seeds)
@few
def test_many_keep_the_count_of_each_layer(ticket, seed):
    layerwise = ["one-shot=layerwise", "magnitude-init=layerwise"]
    for name in [*SAME_LAYER_COUNTS, *layerwise]:
        assert counts(make(name, ticket, seed).masks) == counts(ticket.masks), name


@given(tickets, seeds)
@few
def test_controls_of_the_weights_keep_the_mask(ticket, seed):
    for name in SAME_MASK:
        assert make(name, ticket, seed).masks == ticket.masks, name


@given(tickets, seeds)
@few
def test_names_shapes_and_dtypes_of_the_weights_stay(ticket, seed):
    for name in EXACT:
        made = make(name, ticket, seed).weights
        assert made.keys() == ticket.weights.keys()
        for key, tensor in made.items():
            mine = ticket.weights[key]
            assert (tensor.shape, tensor.dtype) == (mine.shape, mine.dtype), name


@given(tickets, seeds)
@few
def test_what_is_not_prunable_is_fresh_with_fresh_weights_and_else_the_tickets(ticket, seed):
    given = materials(ticket)
    for name in EXACT:
        source = given["fresh"] if name in FRESH else ticket.weights
        made = make(name, ticket, seed)
        for key in ("bias", "batches"):
            assert torch.equal(made.weights[key], source[key]), name


@given(tickets, seeds)
@few
def test_where_only_the_mask_changes_the_start_weights_are_the_tickets(ticket, seed):
    for name in MOVED_MASK:
        made = make(name, ticket, seed).weights
        for key, tensor in ticket.weights.items():
            assert torch.equal(made[key], tensor), name


@given(tickets, seeds)
@few
def test_tied_weights_stay_tied(ticket, seed):
    first = next(iter(ticket.masks))
    for name in EXACT:
        made = make(name, ticket, seed).weights
        assert torch.equal(made["tied"], made[first]), name


@pytest.mark.parametrize("name", EXACT)
def test_a_control_of_a_module_with_tied_weights_fits_it(name):
    torch.manual_seed(0)
    module, other = zoo.Tied(), zoo.Tied()
    shapes = {n: p.shape for n, p in prunable_parameters(module).items()}
    masks = make_ticket(shapes).masks
    ticket = Ticket(masks, module.state_dict())
    trained = initial = {n: t.clone() for n, t in module.state_dict().items()}
    fresh = other.state_dict()
    made = make(name, ticket, 1, trained=trained, initial=initial, fresh=fresh)
    applied = made.apply(zoo.Tied())
    assert applied.decoder.weight is applied.encoder.weight
    expected = torch.where(made.masks["encoder.weight"], applied.encoder.weight, 0)
    assert torch.equal(applied.decoder.weight, expected)
    kept = made.weights["encoder.weight"][made.masks["encoder.weight"]]
    assert torch.equal(expected[made.masks["encoder.weight"]], kept)


@pytest.mark.parametrize("name", EXACT)
def test_a_control_says_what_it_is_beside_where_its_ticket_came_from(name):
    origin = make(name, LARGE, 5).provenance
    control = controls.resolve(name).name
    assert origin.items() >= {"round": 3, "seed": 0, "control": control}.items()
    assert origin["control_seed"] == 5
    json.dumps(dict(origin))
    assert LARGE.provenance == {"round": 3, "seed": 0}


def test_called_by_itself_a_control_says_the_same():
    given = materials(LARGE)
    made = [
        controls.shuffle(LARGE, 5),
        controls.reinit(LARGE, 5, fresh=given["fresh"]),
        controls.OneShot("layerwise")(LARGE, 5, trained=given["trained"]),
    ]
    for name, ticket in zip(["shuffle", "reinit", "one-shot=layerwise"], made, strict=True):
        named = make(name, LARGE, 5)
        assert (named, named.provenance) == (ticket, ticket.provenance)


# Draws


@given(tickets, seeds)
@few
def test_the_same_seed_gives_the_same_control(ticket, seed):
    for name in EXACT:
        assert make(name, ticket, seed) == make(name, ticket, seed), name


@given(seeds, seeds)
@few
def test_another_seed_gives_another_draw(one, other):
    assume(one != other)
    for name in DRAWN:
        assert make(name, LARGE, one) != make(name, LARGE, other), name


@given(seeds)
@few
def test_layers_of_one_shape_are_drawn_apart(seed):
    twins = make_ticket({"a": (20, 20), "b": (20, 20)})
    twins = replace(twins, masks=Masks(dict.fromkeys("ab", twins.masks["a"])))
    for name in DRAWN_MASK:
        masks = make(name, twins, seed).masks
        assert not torch.equal(masks["a"], masks["b"]), name


@pytest.mark.parametrize("name", EXACT)
def test_global_random_streams_neither_matter_nor_move(name):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = make(name, LARGE, 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert make(name, LARGE, 3) == one


@given(tickets, seeds)
@few
def test_the_order_of_parameters_does_not_matter_to_what_is_drawn(ticket, seed):
    turned = Ticket(Masks(dict(reversed(list(ticket.masks.items())))), dict(reversed(ticket.weights.items())))
    given = materials(ticket)  # of the same names in the first order
    for name in sorted(set(EXACT) - {"one-shot", "magnitude-init"}):
        assert make(name, ticket, seed) == make(name, turned, seed, **given), name


def test_every_place_is_drawn_equally_often():
    ticket = make_ticket({"w": (4, 5)}, density=0.3)
    ticket = Ticket(ticket.masks, {})
    draws = 500
    for name, expected in [
        ("shuffle", torch.full((4, 5), ticket.density)),
        ("shuffle-fan-in", (fan_in(ticket.masks["w"]) / 5)[:, None].expand(4, 5)),
    ]:
        found = sum(controls.resolve(name).make(ticket, seed).masks["w"].double() for seed in range(draws))
        deviation = (expected * (1 - expected) / draws).sqrt()
        assert bool(((found / draws - expected).abs() <= 4 * deviation).all()), name


@given(tickets, seeds)
@some
def test_random_has_the_masks_of_shuffle(ticket, seed):
    random, shuffled = make("random", ticket, seed), make("shuffle", ticket, seed)
    assert random.masks == shuffled.masks


@given(tickets, seeds)
@few
def test_with_one_seed_the_masks_of_later_rounds_are_nested(ticket, seed):
    later = Pruning(0.3, "layerwise", collapse="warn").next_masks(
        {name: mask.float() for name, mask in ticket.masks.items()}, ticket.masks, 1
    )
    later = replace(ticket, masks=later)
    for name in ["shuffle", "shuffle-fan-in", "random"]:
        made = make(name, later, seed).masks
        assert made.nested_in(make(name, ticket, seed).masks), name


@pytest.mark.parametrize("name", EXACT)
def test_the_ticket_and_the_materials_stay_as_they_are(name):
    ticket = make_ticket({"a": (5, 6), "b": (3, 2, 2, 2)})
    given = materials(ticket)
    before = ticket.fingerprint, {n: Ticket(Masks({}), s) for n, s in given.items()}
    made = make(name, ticket, 1, **given)
    for tensor in (*made.weights.values(), *made.masks.values()):
        tensor.fill_(1)
    after = ticket.fingerprint, {n: Ticket(Masks({}), s) for n, s in given.items()}
    assert before == after


# Single controls


@given(tickets, seeds)
@some
def test_reinit_starts_from_the_fresh_state(ticket, seed):
    fresh = materials(ticket)["fresh"]
    made = controls.reinit(ticket, seed, fresh=fresh)
    for name, tensor in fresh.items():
        assert torch.equal(made.weights[name], tensor)


@given(tickets, seeds)
@some
def test_reinit_signs_has_fresh_magnitudes_and_the_tickets_signs(ticket, seed):
    fresh = materials(ticket)["fresh"]
    made = controls.reinit_signs(ticket, seed, fresh=fresh)
    for name in ticket.masks:
        weights = made.weights[name]
        assert torch.equal(weights.abs(), fresh[name].abs())
        assert torch.equal(weights.sign(), ticket.weights[name].sign())


def test_a_weight_of_zero_counts_as_positive():
    ticket = Ticket(Masks({"w": torch.tensor([True, True])}), {"w": torch.tensor([0.0, -0.0])})
    made = controls.reinit_signs(ticket, fresh={"w": torch.tensor([-1.0, 2.0])})
    assert made.weights["w"].tolist() == [1, 2]


@given(tickets, seeds)
@some
def test_signs_is_the_signed_ticket(ticket, seed):
    assert make("signs", ticket, seed) == ticket.signed()


@given(tickets, seeds)
@some
def test_the_order_control_is_the_ticket_itself(ticket, seed):
    assert make("order", ticket, seed) == ticket


@given(tickets, seeds)
@some
def test_shuffled_weights_are_the_same_values_in_each_layer(ticket, seed):
    made = controls.shuffle_weights(ticket, seed)
    for name, mask in ticket.masks.items():
        before, after = ticket.weights[name], made.weights[name]
        assert values(after[mask]) == values(before[mask])
        assert torch.equal(after[~mask], before[~mask])


@given(tickets, seeds)
@some
def test_shuffling_within_rows_keeps_each_units_fan_in(ticket, seed):
    masks = controls.shuffle_fan_in(ticket, seed).masks
    for name, mask in ticket.masks.items():
        assert torch.equal(fan_in(masks[name]), fan_in(mask))


@given(tickets, seeds)
@some
def test_erk_counts_are_those_densities_rounded_and_vectors_keep_theirs(ticket, seed):
    masks = make("random-erk", ticket, seed).masks
    shapes = {n: tuple(m.shape) for n, m in masks.items() if m.ndim > 1}
    for name in masks.keys() - shapes.keys():
        assert int(masks[name].sum()) == int(ticket.masks[name].sum())
    kept = sum(int(ticket.masks[name].sum()) for name in shapes)
    if kept:
        sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        densities = erdos_renyi(shapes, kept / sum(sizes.values()))
        for name, density in densities.items():
            assert abs(int(masks[name].sum()) - density * sizes[name]) < 1 + 1e-9


def test_the_largest_remainders_are_rounded_up():
    masks = {"a": torch.arange(29) < 1, "b": torch.arange(21) < 4}
    made = make("random-uniform", Ticket(Masks(masks), state({"a": (29,), "b": (21,)}, 0)))
    assert counts(made.masks) == {"a": 3, "b": 2}  # of 2.9 and 2.1


@given(tickets, seeds)
@some
def test_uniform_counts_are_one_density_rounded(ticket, seed):
    for mask in make("random-uniform", ticket, seed).masks.values():
        assert abs(int(mask.sum()) - ticket.density * mask.numel()) < 1 + 1e-9


@given(layers, seeds, st.floats(0.05, 0.95), dtypes, st.sampled_from(["global", "layerwise"]))
@some
def test_one_shot_and_magnitude_at_initialization_prune_as_pruning_does(shapes, seed, amount, dtype, scope):
    """A run of one round leaves the ticket; from its weights both find that ticket's mask."""
    weights = state(shapes, seed, dtype)
    dense = Masks.ones({name: weights[name] for name in shapes})
    pruning = Pruning(amount, scope, collapse="warn")
    magnitudes = {name: weights[name].abs() for name in shapes}
    masks = pruning.next_masks(magnitudes, dense, number=1)
    ticket = Ticket(masks, {})
    assert controls.OneShot(scope)(ticket, trained=weights).masks == masks
    assert controls.MagnitudeInit(scope)(ticket, initial=weights).masks == masks


def test_magnitude_at_initialization_looks_at_initial_weights_and_starts_at_the_rewind_point():
    ticket = Ticket(Masks({"w": torch.tensor([True, False])}), {"w": torch.tensor([5.0, 1.0])})
    made = controls.MagnitudeInit()(ticket, initial={"w": torch.tensor([0.1, 0.2])})
    assert made.masks["w"].tolist() == [False, True]
    assert made.weights["w"].tolist() == [5, 1]


# Masks alone, and weights that were not kept


@given(tickets, seeds)
@few
def test_masks_alone_have_controls_that_need_no_weights(ticket, seed):
    alone, given = Ticket(ticket.masks, {}), materials(ticket)
    for name in sorted(set(EXACT) - {"signs", "reinit-signs", "shuffle-weights"}):
        made = make(name, ticket, seed)
        assert controls.resolve(name).make(alone, seed, given).masks == made.masks


@pytest.mark.parametrize("name", ["signs", "reinit-signs", "shuffle-weights"])
def test_masks_alone_are_refused_where_weights_are_needed(name):
    alone = Ticket(LARGE.masks, {})
    with pytest.raises(ValueError, match=r"(?s)start weights.*a\.weight.*Run\.ticket"):
        controls.resolve(name).make(alone, 0, materials(LARGE))


@pytest.mark.parametrize("name", MOVED_MASK)
@pytest.mark.parametrize("kind", ["surviving", "signs"])
def test_a_mask_does_not_move_to_weights_that_were_not_kept(name, kind, tmp_path):
    LARGE.save(tmp_path / "one.ticket", weights=kind)
    loaded = Ticket.load(tmp_path / "one.ticket")
    with pytest.raises(ValueError, match=r"start at zero.*Run\.ticket"):
        make(name, loaded)


def test_a_layer_that_starts_at_zero_may_move():
    masks = {"head": torch.tensor([[True, False, True, False]])}
    ticket = Ticket(Masks(masks), {"head": torch.zeros(1, 4)})
    assert controls.shuffle(ticket, 1).masks.kept == 2


# What does not fit


@pytest.mark.parametrize(
    ("name", "material"), [*((name, "fresh") for name in FRESH), ("one-shot", "trained"), ("magnitude-init", "initial")]
)
def test_state_of_another_architecture_is_refused_with_its_differences(name, material):
    state = materials(LARGE)[material]
    state["a.weight"] = torch.ones(2, 2)
    state["extra"] = torch.ones(1)
    del state["bias"]
    with pytest.raises(ValueError, match="another architecture") as caught:
        make(name, LARGE, **{material: state})
    assert str(caught.value).split("\n")[1:] == [
        f"  a.weight: (30, 40) in the ticket, (2, 2) in the {material} weights",
        f"  bias: missing in the {material} weights",
        "  extra: missing in the ticket",
    ]


def test_a_fresh_module_must_have_its_shapes():
    fresh = {**materials(LARGE)["fresh"], "gain": UninitializedParameter()}
    with pytest.raises(ValueError, match="gain: lazy"):
        controls.reinit(LARGE, fresh=fresh)


def test_extra_state_of_a_module_does_not_count():
    fresh = {**materials(LARGE)["fresh"], "head._extra_state": {"a": 1}}
    assert controls.reinit(LARGE, fresh=fresh).weights.keys() == LARGE.weights.keys()


@pytest.mark.parametrize("name", FRESH)
def test_the_tickets_own_weights_are_not_fresh(name):
    with pytest.raises(ValueError, match="with another seed"):
        make(name, LARGE, fresh=LARGE.weights)


@pytest.mark.parametrize("name", ["one-shot", "magnitude-init"])
def test_weights_that_are_not_finite_are_refused(name):
    state = materials(LARGE)["trained"]
    state["a.weight"][0, 0] = math.nan
    with pytest.raises(ValueError, match=r"a\.weight"):
        make(name, LARGE, trained=state, initial=state)


# Transfer


def test_a_transferred_ticket_brings_masks_and_weights():
    other = make_ticket({n: m.shape for n, m in LARGE.masks.items()}, seed=1)
    transfer = controls.Transfer(tolerance=0.1)
    made = transfer(LARGE, 4, other=other)
    assert made == other
    assert made.provenance["transferred"] == dict(other.provenance)
    assert made.provenance["round"] == LARGE.provenance["round"]


def test_a_transferred_mask_may_lie_over_the_own_weights():
    other = make_ticket({n: m.shape for n, m in LARGE.masks.items()}, seed=1)
    own = controls.Transfer(weights=False, tolerance=0.1)(LARGE, other=other)
    alone = controls.Transfer(tolerance=0.1)(LARGE, other=Ticket(other.masks, {}))
    assert own == alone == Ticket(other.masks, LARGE.weights)


@example(100, 160, 0.5)
@example(160, 100, 0.5)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([0.0, 0.02, 0.5]))
@some
def test_transfer_wants_numbers_of_weights_within_the_tolerance(here, there, tolerance):
    ticket, other = (Ticket(Masks({"w": torch.arange(400) < kept}), {}) for kept in (here, there))
    transfer = controls.Transfer(tolerance=tolerance)
    if abs(there - here) <= tolerance * here:
        assert transfer(ticket, other=other).masks == other.masks
    else:
        with pytest.raises(ValueError, match=f"{there}.*{here}.*another round"):
            transfer(ticket, other=other)


def test_transfer_names_what_differs():
    shapes = {n: m.shape for n, m in LARGE.masks.items()}
    reshaped = make_ticket({**shapes, "gain": (51,)})
    fewer = make_ticket({n: s for n, s in shapes.items() if n != "gain"})
    for other in (reshaped, fewer):
        with pytest.raises(ValueError, match="gain"):
            controls.Transfer()(LARGE, other=other)
    weights = {**LARGE.weights, "bias": torch.zeros(4)}
    with pytest.raises(ValueError, match=r"bias: \(3,\) in the ticket, \(4,\)"):
        controls.Transfer()(LARGE, other=replace(LARGE, weights=weights))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    callback = LotteryTicket(rounds=3, pruning=0.5, dirpath=path, keep="all")
    zoo.fit(zoo.Net, callback, max_epochs=1)
    return Run(path)


def test_the_nearest_ticket_of_a_run_is_that_of_its_density(run, tmp_path):
    for number in run.rounds:
        ticket = run.ticket(number)
        assert controls.nearest(run.path, ticket) == ticket
    ticket.save(tmp_path / "one.ticket")
    assert controls.nearest(tmp_path / "one.ticket", run.ticket(0)) == ticket


def test_nearest_says_where_there_is_no_ticket(tmp_path):
    with pytest.raises(StorageError, match="holds no run"):
        controls.nearest(tmp_path, LARGE)


def test_controls_of_a_run_fit_its_module(run):
    ticket = run.ticket(2)
    torch.manual_seed(99)
    given = {"fresh": zoo.Net().state_dict(), "trained": run.weights(0), "initial": run.weights("initial")}
    for name in EXACT:
        made = controls.resolve(name).make(ticket, 1, given)
        assert made.apply(zoo.Net()).net[0].weight.count_nonzero() > 0
        assert made.masks.kept == ticket.masks.kept
    assert controls.resolve("one-shot").make(run.ticket(1), 0, given).masks == (run.masks[1])


# By name


def test_the_command_line_knows_every_control_in_a_line():
    known = {name.split("=")[0] for name in EXACT} | {"transfer"}
    assert known <= controls.available().keys()
    for name in known:
        line = controls.available()[name]
        assert line.endswith("?") or name == "transfer" or "?" in line
        assert len(line) < 120


def test_a_control_says_what_it_needs_and_where_its_training_starts():
    for name in EXACT:
        control = controls.resolve(name)
        assert (control.start == "initial") == (name in FRESH)
        assert (control.needs == {"fresh"}) == (name in FRESH)
        assert control.order == (name == "order")
        assert control.summary == controls.available()[control.name]
    assert controls.resolve("one-shot").needs == {"trained"}
    assert controls.resolve("magnitude-init").needs == {"initial"}
    assert controls.resolve("transfer=a").needs == {"other"}


@pytest.mark.parametrize("name", [*EXACT, "transfer=checkpoints/other"])
def test_a_described_control_is_the_same_again(name):
    control = controls.resolve(name)
    described = json.loads(json.dumps(control.described()))
    assert controls.resolve(described) == control == controls.resolve(control)


def test_settings_are_given_by_name_or_the_first_after_the_name():
    mapping = {"name": "one-shot", "scope": "layerwise"}
    control = controls.resolve(mapping)
    assert control == controls.resolve("one-shot=layerwise")
    assert control == controls.resolve(controls.OneShot("layerwise"))
    transfer = controls.resolve({"name": "transfer", "path": Path("a/b")})
    assert transfer == controls.resolve("transfer=a/b")
    assert transfer.path == "a/b"
    assert controls.resolve(controls.shuffle) == controls.resolve("shuffle")


def test_arms_have_names_that_are_directories():
    names = ["reinit", "one-shot", "one-shot=layerwise", "transfer=runs/other/"]
    arms = [controls.resolve(name).arm for name in names]
    assert arms == ["reinit", "one-shot", "one-shot-layerwise", "transfer-other"]


@pytest.mark.parametrize(
    ("control", "message"),
    [
        ("renit", "Did you mean reinit"),
        ("transfr=checkpoints/a", "Did you mean transfer"),
        ("reinit=3", "no settings: leave out '=3'"),
        ("transfer", "write transfer=PATH"),
        ("transfer=", "write transfer=PATH"),
        ("one-shot=global-ish", "choose from 'global', 'layerwise'"),
        ({"name": "one-shot", "scop": "global"}, "it has scope"),
        (make_ticket, "has no name: decorate it"),
    ],
)
def test_what_is_no_control_is_refused_with_the_way_out(control, message):
    with pytest.raises(ValueError, match=message):
        controls.resolve(control)


def test_a_missing_material_is_named_and_described():
    with pytest.raises(ValueError, match="'reinit' needs 'fresh', a state dict of a"):
        controls.resolve("reinit").make(LARGE, 0)


# A user's own


@controls.register("flip")
def flip(ticket, seed=0):
    """All signs turned: do signs matter beyond their pattern?"""
    turned = {n: -w if n in ticket.masks else w for n, w in ticket.weights.items()}
    return Ticket(ticket.masks, turned, ticket.provenance)


@controls.register("mixed", start="initial", order=2)
@dataclass(frozen=True)
class Mixed:
    """Start weights between the ticket's and fresh ones: how much of them is needed?"""

    share: float = 0.5

    def __call__(self, ticket, seed=0, *, fresh):
        mixed = {
            n: (torch.lerp(w, fresh[n], self.share) if w.is_floating_point() else w) for n, w in ticket.weights.items()
        }
        return Ticket(ticket.masks, mixed)


def test_a_users_own_control_is_taken_by_name():
    made = controls.resolve("flip").make(LARGE, 3)
    assert torch.equal(made.weights["gain"], -LARGE.weights["gain"])
    assert made.provenance == {**LARGE.provenance, "control": "flip", "control_seed": 3}
    mixed = controls.resolve({"name": "mixed", "share": 1.0})
    assert (mixed.needs, mixed.start, mixed.order) == ({"fresh"}, "initial", 2)
    given = materials(LARGE)
    made = mixed.make(LARGE, 0, given)
    assert torch.equal(made.weights["gain"], given["fresh"]["gain"])
    assert made.provenance == {"control": "mixed", "control_seed": 0}
    assert controls.available()["flip"].startswith("All signs turned")


def test_a_users_own_control_cannot_need_what_there_is_not():
    with pytest.raises(ValueError, match="cannot need gradients; it can need fresh"):

        @controls.register("saliency")
        def saliency(ticket, seed=0, *, gradients):
            return ticket

    with pytest.raises(ValueError, match="choose from 'rewind', 'initial'"):
        controls.register("early", start="2ep")(flip)
    with pytest.raises(ValueError, match="there is a control 'reinit' already"):
        controls.register("reinit")(flip)
    assert not {"saliency", "early"} & controls.available().keys()


def test_a_seed_is_a_whole_number_of_any_kind():
    numpy_seed = torch.tensor(3).numpy()[()]
    assert make("shuffle", LARGE, numpy_seed) == make("shuffle", LARGE, 3)
    json.dumps(dict(make("shuffle", LARGE, numpy_seed).provenance))
    with pytest.raises(TypeError):
        make("shuffle", LARGE, 0.5)


def test_a_module_without_weights_to_prune_in_rows_is_served():
    """Parameters of no dimension, of one, and of none of any."""
    shapes = {"scale": (), "gain": (4,), "empty": (0, 3)}
    ticket = make_ticket(shapes, seed=3, density=0.6)
    for name in EXACT:
        assert make(name, ticket, 1).masks.kept == ticket.masks.kept


def test_an_embedding_with_a_row_of_zeros_can_be_shuffled():
    torch.manual_seed(0)
    table = nn.Embedding(6, 5, padding_idx=0)
    ticket = make_ticket({"weight": (6, 5)})
    ticket = Ticket(ticket.masks, table.state_dict())
    assert controls.shuffle(ticket, 1).masks.kept == ticket.masks.kept
