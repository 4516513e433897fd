"""A ticket: saved, shared, inspected, applied."""

import functools
import json
import operator
import pickle
from typing import get_args

import matplotlib as mpl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lottery import Masks, StorageError, Ticket, storage
from lottery.masks.history import MaskHistory
from lottery.masks.prunable import prunable_parameters
from lottery.storage import hashed
from lottery.tasks.models import LeNet300
from lottery.tickets import ticket_file
from lottery.tickets.pictures import gallery

mpl.use("Agg")

KINDS = get_args(ticket_file.Kind)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


class Tied(nn.Module):
    """Tied weights, buffers of several types, a scalar, and layers to prune."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding(5, 3)
        self.norm = nn.BatchNorm1d(3)
        self.inner = nn.Linear(3, 3)
        self.decoder = nn.Linear(3, 5, bias=False)
        self.decoder.weight = self.encoder.weight
        self.temperature = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("seen", torch.tensor([True, False]))

    def forward(self, tokens):
        return self.decoder(self.inner(self.norm(self.encoder(tokens))))


class WithExtraState(nn.Linear):
    """State beside the tensors of the state dict."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.extra = "mine"

    def get_extra_state(self):
        return {"extra": self.extra}

    def set_extra_state(self, state):
        self.extra = state["extra"]


def make_ticket(module, seed=0, density=0.5, **provenance):
    generator = torch.Generator().manual_seed(seed)
    masks = {
        name: torch.rand(p.shape, generator=generator) < density for name, p in prunable_parameters(module).items()
    }
    return Ticket(Masks(masks), module.state_dict(), provenance)


def small_ticket():
    torch.manual_seed(0)  # the digits of a magnitude are a part of the file's size
    return Ticket(
        Masks({"weight": torch.tensor([[True, False, True], [False, True, True]])}),
        nn.Linear(3, 2).state_dict(),
        {"round": 3, "seed": 7},
    )


def bits(module):
    """Everything that a module computes with, as bytes."""
    return {
        name: tensor.detach().clone().reshape(-1).view(torch.uint8).tolist()
        for name, tensor in module.state_dict().items()
        if isinstance(tensor, torch.Tensor)
    }


def same_tensors(one, other):
    return one.keys() == other.keys() and all(
        one[n].dtype == other[n].dtype and torch.equal(one[n], other[n]) for n in one
    )


@pytest.fixture(scope="module")
def tied():
    return Tied()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tickets")


# Saving and loading

provenance = st.dictionaries(
    st.text(), st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.booleans(), max_size=4
)


@given(st.integers(0, 10**6), st.floats(0, 1), st.sampled_from(DTYPES), provenance)
@settings(max_examples=30)
def test_a_ticket_that_is_loaded_is_the_one_that_was_saved(folder, seed, density, dtype, origin):
    torch.manual_seed(seed)
    ticket = make_ticket(Tied().to(dtype), seed, density)
    ticket = Ticket(ticket.masks, ticket.weights, origin)
    ticket.save(folder / "one.ticket")
    loaded = Ticket.load(folder / "one.ticket")
    assert loaded.masks == ticket.masks
    assert list(loaded.masks) == list(ticket.masks)
    assert same_tensors(loaded.weights, ticket.weights)
    assert loaded.provenance == origin
    assert loaded.fingerprint == ticket.fingerprint


def test_a_loaded_ticket_keeps_tied_weights_tied(tied, tmp_path):
    make_ticket(tied).save(tmp_path / "t")
    module = Ticket.load(tmp_path / "t").apply(Tied())
    assert module.decoder.weight is module.encoder.weight


tied_tickets = st.builds(
    lambda seed, density, dtype: make_ticket(seeded(Tied, seed).to(dtype), seed, density, round=1),
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.sampled_from(DTYPES),
)


def seeded(module, seed):
    torch.manual_seed(seed)
    return module()


def reloaded(ticket, folder, kind):
    ticket.save(folder / "one.ticket", weights=kind)
    return Ticket.load(folder / "one.ticket")


def applied(ticket, module=Tied, dtype=torch.float32):
    return bits(ticket.apply(seeded(module, 5).to(dtype)))


@given(tied_tickets, st.sampled_from(KINDS))
@settings(max_examples=40)
def test_a_ticket_starts_the_same_training_whichever_weights_its_file_holds(folder, ticket, kind):
    loaded = reloaded(ticket, folder, kind)
    dtype = ticket.weights["inner.weight"].dtype
    expected = {"all": ticket, "surviving": ticket, "signs": ticket.signed(), "none": Ticket(ticket.masks, {})}[kind]
    assert loaded == expected
    assert applied(loaded, dtype=dtype) == applied(expected, dtype=dtype)
    assert loaded.provenance == expected.provenance | {"round": 1}
    assert list(loaded.masks) == list(ticket.masks)
    for name, tensor in loaded.weights.items():
        assert tensor.dtype == ticket.weights[name].dtype
        assert tensor.shape == ticket.weights[name].shape


@given(tied_tickets, st.sampled_from(KINDS))
@settings(max_examples=20)
def test_a_loaded_ticket_is_saved_as_the_same_file_again(folder, ticket, kind):
    loaded = reloaded(ticket, folder, kind)
    before = (folder / "one.ticket").read_bytes()
    if kind != "none":
        assert reloaded(loaded, folder, kind) == loaded
        assert len((folder / "one.ticket").read_bytes()) == len(before)
    assert reloaded(loaded, folder, "none").masks == loaded.masks


def test_a_file_of_surviving_weights_holds_no_others(folder):
    ticket = small_ticket()
    loaded = reloaded(ticket, folder, "surviving")
    expected = torch.where(ticket.masks["weight"], ticket.weights["weight"], 0)
    assert torch.equal(loaded.weights["weight"], expected)
    assert torch.equal(loaded.weights["bias"], ticket.weights["bias"])


def test_a_ticket_of_masks_alone_leaves_a_module_its_own_weights(tied, folder):
    loaded = reloaded(make_ticket(tied), folder, "none")
    module, own = seeded(Tied, 7), seeded(Tied, 7)
    loaded.apply(module)
    loaded.masks.apply(dict(own.named_parameters()))
    assert loaded.weights == {} and bits(module) == bits(own)


@pytest.mark.parametrize("kind", KINDS)
def test_empty_layers_and_scalars_are_saved_too(folder, kind):
    weights = {
        "empty": torch.zeros(0, 3),
        "none kept": torch.ones(2, 2),
        "scalar": torch.tensor(-2.0),
        "one": torch.tensor([-3.0]),
        "buffer": torch.zeros(0, dtype=torch.long),
    }
    masks = {n: torch.ones(weights[n].shape).bool() for n in list(weights)[:4]}
    masks["none kept"] = ~masks["none kept"]
    ticket = Ticket(Masks(masks), weights)
    loaded = reloaded(ticket, folder, kind)
    assert loaded == Ticket(ticket.masks, ticket.weights if kind != "none" else {})


@pytest.mark.parametrize("kind", ["some", "", None, "ALL"])
def test_another_kind_of_weights_is_refused_with_those_there_are(tmp_path, kind):
    with pytest.raises(ValueError, match="choose from all, surviving, signs, none"):
        small_ticket().save(tmp_path / "t", weights=kind)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def lenet():
    """LeNet-300-100 with the tenth of its weights that are largest."""
    module = seeded(LeNet300, 0)
    parameters = prunable_parameters(module)
    sizes = torch.cat([p.detach().abs().view(-1) for p in parameters.values()])
    least = sizes.quantile(0.9)
    return Ticket(Masks({n: p.detach().abs() > least for n, p in parameters.items()}), module.state_dict())


def test_a_file_takes_what_its_weights_take_and_the_entropy_of_the_masks(lenet, folder):
    assert lenet.density == pytest.approx(0.1, abs=1e-3)
    entropy = MaskHistory.of([lenet.masks]).entropy()
    kept, total = lenet.masks.kept, lenet.masks.total
    size = {}
    for kind in KINDS:
        lenet.save(folder / "lenet.ticket", weights=kind)
        size[kind] = (folder / "lenet.ticket").stat().st_size
    assert size["surviving"] <= 1.1 * (4 * kept + entropy) + 4096
    assert size["signs"] <= 1.1 * (kept / 8 + entropy) + 4096
    assert size["none"] <= 1.05 * entropy + 2048
    assert size["all"] <= 4 * total + 1.05 * entropy + 4096


def test_saving_replaces_a_ticket_whole_and_makes_the_folder(tmp_path):
    path = tmp_path / "new" / "folder" / "one.ticket"
    small_ticket().save(path)
    make_ticket(nn.Linear(2, 2)).save(str(path))
    assert Ticket.load(path).masks.total == 4
    assert [p.name for p in path.parent.iterdir()] == ["one.ticket"]


def test_a_ticket_survives_pickling():
    ticket = small_ticket()
    assert pickle.loads(pickle.dumps(ticket)).fingerprint == ticket.fingerprint


# Fingerprints

small_masks = st.lists(st.booleans(), min_size=4, max_size=4)
small_weights = st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=4, max_size=4)
small_shapes = st.sampled_from([(4,), (2, 2), (4, 1), (1, 4)])
small_tickets = st.builds(
    lambda mask, weights, shape, dtype, name: Ticket(
        Masks({name: torch.tensor(mask).reshape(shape)}), {name: torch.tensor(weights, dtype=dtype).reshape(shape)}
    ),
    small_masks,
    small_weights,
    small_shapes,
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from(["a", "b"]),
)


def start(ticket):
    """What training starts from."""
    masks = ticket.masks
    return {n: w * masks[n] if n in masks else w for n, w in ticket.weights.items()}


def equal(one, other):
    return one.masks == other.masks and same_tensors(start(one), start(other))


@given(small_tickets, small_tickets)
def test_tickets_are_equal_if_and_only_if_they_start_the_same_training(one, other):
    assert (one == other) == equal(one, other)
    assert (one.fingerprint == other.fingerprint) == equal(one, other)
    assert len({one, other}) == (1 if equal(one, other) else 2)


def test_a_ticket_equals_no_other_kind_of_thing():
    assert small_ticket() != small_ticket().masks
    assert small_ticket() != "Ticket"


@given(small_tickets, st.data())
def test_any_change_of_a_ticket_changes_its_fingerprint(ticket, data):
    (name,) = ticket.masks
    position = data.draw(st.integers(0, 3))
    shape = ticket.masks[name].shape
    change = data.draw(st.sampled_from(["mask", "weight", "shape", "dtype", "name"]))
    mask, weight = ticket.masks[name].clone(), ticket.weights[name].clone()
    if change == "mask":
        mask.view(-1)[position] ^= True
    elif change == "weight":
        weight[mask] += 1
    elif change == "shape":
        other = data.draw(small_shapes.filter(lambda s: s != shape))
        mask, weight = mask.reshape(other), weight.reshape(other)
    elif change == "dtype":
        weight = weight.to(torch.int32)
    name = "c" if change == "name" else name
    changed = Ticket(Masks({name: mask}), {name: weight})
    nothing = change == "weight" and not mask.any()
    assert (changed.fingerprint == ticket.fingerprint) == nothing


@given(small_tickets)
def test_weights_that_are_pruned_are_no_part_of_a_ticket(ticket):
    ((name, mask),) = ticket.masks.items()
    weight = torch.where(mask, ticket.weights[name], torch.nan)
    changed = Ticket(ticket.masks, {name: weight})
    assert changed == ticket
    for one, other in ((ticket, changed), (changed, ticket)):
        module = nn.Module()
        module.register_parameter(name, nn.Parameter(other.weights[name].clone()))
        expected = torch.where(mask, ticket.weights[name], 0)
        assert torch.equal(one.apply(module).get_parameter(name), expected)


def test_zeros_of_different_type_or_shape_have_different_fingerprints():
    weights = [torch.zeros(4), torch.zeros(2, dtype=torch.float64), torch.zeros(2, 2)]
    assert len({Ticket(Masks({}), {"w": w}).fingerprint for w in weights}) == 3


def test_the_fingerprint_does_not_depend_on_order_strides_or_origin():
    weight, mask = torch.arange(6.0).reshape(2, 3), torch.ones(2, 3).bool()
    one = Ticket(Masks({"w": mask}), {"w": weight, "b": weight[0]}, {"round": 1})
    other = Ticket(Masks({"w": mask.t().contiguous().t()}), {"b": weight[0], "w": weight.t().contiguous().t()})
    assert one.fingerprint == other.fingerprint


# A ticket is a value


def test_a_ticket_does_not_change_with_the_module_it_was_made_from():
    module = nn.Linear(3, 2)
    ticket = make_ticket(module)
    before = ticket.fingerprint
    ticket.apply(module)
    with torch.no_grad():
        module.weight += 1
    assert ticket.fingerprint == before


def test_density_counts_every_prunable_weight_once(tied):
    ticket = make_ticket(tied)
    assert ticket.masks.total == 15 + 9
    assert ticket.density == ticket.masks.kept / 24


def test_a_ticket_shows_its_size_and_round():
    assert repr(small_ticket()) == "Ticket(4 of 6 weights, density 0.6667, round 3)"
    assert "round" not in repr(make_ticket(nn.Linear(2, 2)))


# Applying


@given(st.integers(0, 10**6), st.floats(0, 1))
@settings(max_examples=30)
def test_an_applied_ticket_is_its_weights_times_its_masks(seed, density):
    torch.manual_seed(seed)
    ticket = make_ticket(Tied(), seed, density)
    fresh = Tied()
    assert ticket.apply(fresh) is fresh
    state = fresh.state_dict()
    for name, weight in ticket.weights.items():
        name = name.replace("decoder.weight", "encoder.weight")  # tied
        mask = ticket.masks.get(name, torch.tensor(True))
        assert torch.equal(state[name], weight * mask)


def test_applying_a_ticket_twice_is_applying_it_once(tied):
    ticket = make_ticket(tied)
    module = ticket.apply(Tied())
    once = bits(module)
    assert bits(ticket.apply(module)) == once


def test_a_ticket_applies_to_a_lazy_module_and_gives_it_its_shape():
    ticket = make_ticket(nn.Sequential(nn.Linear(3, 2)))
    module = ticket.apply(nn.Sequential(nn.LazyLinear(2)))
    assert torch.equal(module[0].weight != 0, ticket.masks["0.weight"])
    assert module(torch.ones(1, 3)).shape == (1, 2)


def test_state_that_is_no_tensor_is_left_to_the_module(tmp_path):
    ticket = make_ticket(WithExtraState(3, 2))
    ticket.save(tmp_path / "t")
    module = WithExtraState(3, 2)
    module.extra = "yours"
    assert Ticket.load(tmp_path / "t").apply(module).extra == "yours"
    assert torch.equal(module.bias, ticket.weights["bias"])


def test_a_ticket_for_another_architecture_is_an_error_that_names_each_difference():
    ticket = make_ticket(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2), nn.PReLU()))
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(2, 2, bias=False), nn.PReLU(2))
    module.append(nn.Linear(2, 1))
    before = bits(module)
    for use in (ticket.check, ticket.apply):
        with pytest.raises(ValueError) as error:
            use(module)
        message = str(error.value)
        assert "made for another architecture than Sequential" in message
        assert "0.weight: (2, 3) in the ticket, (4, 3) in the module" in message
        assert "2.weight: (1,) in the ticket, (2,) in the module" in message
        assert "1.bias: missing in the module" in message
        assert "3.weight: missing in the ticket" in message
        assert "3.bias: missing in the ticket" in message
        assert "1.weight" not in message
    assert bits(module) == before


def test_a_mask_that_does_not_fit_is_an_error_that_names_it():
    layer = nn.Linear(3, 2)
    for masks, expected in (
        ({"weight": torch.ones(3, 2)}, r"weight: \(3, 2\) in the ticket"),
        ({"other": torch.ones(3, 2)}, "other: not in the module"),
    ):
        ticket = Ticket(Masks({n: m.bool() for n, m in masks.items()}), {})
        with pytest.raises(ValueError, match=expected), ticket.masked(layer):
            pass
        ticket = Ticket(ticket.masks, layer.state_dict())
        with pytest.raises(ValueError, match=expected):
            ticket.apply(layer)


def test_weights_alone_make_a_ticket_only_with_masks_that_are_boolean():
    with pytest.raises(TypeError, match="'weight'.*boolean"):
        Ticket({"weight": torch.ones(2, 3)}, nn.Linear(3, 2).state_dict())


# Signs alone


@given(tied_tickets)
def test_a_signed_ticket_has_the_signs_and_one_magnitude_per_parameter(ticket):
    signed = ticket.signed()
    assert signed.masks == ticket.masks
    assert signed.weights.keys() == ticket.weights.keys()
    assert signed.provenance["start"] == "signed"
    for name, mask in ticket.masks.items():
        before, after = ticket.weights[name], signed.weights[name]
        rms = before.double().square().mean().sqrt().to(before.dtype)
        assert after.dtype == before.dtype
        assert (after[~mask] == 0).all() and (after[mask].abs() == rms).all()
        assert torch.equal(after[mask] > 0, before[mask] >= 0)
    for name in ticket.weights.keys() - ticket.masks.keys() - {"decoder.weight"}:
        assert torch.equal(signed.weights[name], ticket.weights[name])
    assert torch.equal(signed.weights["decoder.weight"], signed.weights["encoder.weight"])


@given(tied_tickets)
def test_signing_a_ticket_twice_is_signing_it_once(ticket):
    once = ticket.signed()
    for name, weight in once.signed().weights.items():
        assert torch.allclose(weight.double(), once.weights[name].double(), rtol=1e-12)


def test_masks_alone_have_no_signs(tmp_path):
    ticket = Ticket(small_ticket().masks, {})
    uses = [
        ticket.signed,
        lambda: ticket.signs_kept({"weight": torch.ones(2, 3)}),
        lambda: ticket.save(tmp_path / "t", weights="signs"),
    ]
    for use in uses:
        with pytest.raises(ValueError, match=r"no start weights of weight.*Run\.ticket"):
            use()


def test_signs_are_kept_by_the_weights_themselves_and_by_the_signed_ones(tied):
    ticket = make_ticket(tied)
    assert (ticket.signs_kept(ticket.weights) == 1).all()
    assert (ticket.signs_kept(ticket.signed().weights) == 1).all()
    flipped = {name: -weight.double() for name, weight in ticket.weights.items()}
    assert (ticket.signs_kept(flipped) == 0).all()


# Masked for a while


def test_inside_the_block_the_module_computes_with_masked_weights(tied):
    ticket = make_ticket(tied)
    by_hand = Tied()
    by_hand.load_state_dict(tied.state_dict())
    ticket.masks.apply(dict(by_hand.named_parameters()))
    tokens = torch.tensor([0, 3, 4])
    with ticket.masked(tied.eval()) as inside:
        assert inside is tied
        assert torch.equal(tied(tokens), by_hand.eval()(tokens))
        assert torch.equal(tied.encoder.weight != 0, ticket.masks["encoder.weight"])
        assert tied.decoder.weight is tied.encoder.weight


@pytest.mark.parametrize("dtype", DTYPES)
def test_after_the_block_the_module_is_the_same_bit_for_bit(dtype):
    module = Tied().to(dtype)
    with torch.no_grad():
        module.inner.weight[0] = torch.tensor([-0.0, torch.inf, torch.nan])
    before, tensors = bits(module), {n: p.data_ptr() for n, p in own(module)}
    with make_ticket(module, density=0.2).masked(module):
        assert bits(module) != before
    assert bits(module) == before
    assert {n: p.data_ptr() for n, p in own(module)} == tensors


def own(module):
    return list(module.named_parameters())


def test_after_an_error_in_the_block_the_module_is_the_same():
    module = Tied()
    before = bits(module)
    with pytest.raises(ZeroDivisionError), make_ticket(module).masked(module):
        raise ZeroDivisionError
    assert bits(module) == before


def test_what_happens_to_masked_weights_in_the_block_ends_with_it():
    module = nn.Linear(3, 2)
    before = bits(module)["weight"]
    with make_ticket(module).masked(module), torch.no_grad():
        module.weight += 1
        module.bias += 1
    assert bits(module)["weight"] == before


def test_blocks_can_be_nested():
    module = nn.Linear(8, 8)
    one, other = make_ticket(module, 1), make_ticket(module, 2)
    before = bits(module)
    with one.masked(module):
        within = bits(module)
        with other.masked(module):
            both = one.masks["weight"] & other.masks["weight"]
            assert torch.equal(module.weight != 0, both)
        assert bits(module) == within
    assert bits(module) == before


def small_net():
    return seeded(lambda: nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)), 1)


def compiled(module, how, backend):
    """The module compiled: a wrapper around it, or in place."""
    torch._dynamo.reset()
    if how == "wrapped":
        return torch.compile(module, backend=backend)
    module.compile(backend=backend)
    return module


def check_compiled(how, backend):
    # machine code adds in an order of its own, which depends on the processor
    exact = backend != "inductor"
    equal = torch.equal if exact else functools.partial(torch.allclose, atol=1e-6)
    module, plain = small_net(), small_net()
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    one, other = make_ticket(module, 1, 0.3), make_ticket(module, 2, 0.3)
    both = Ticket(one.masks & other.masks, {})
    with one.masked(plain):
        inside = plain(x)
    with both.masked(plain):
        deeper = plain(x)
    fast = compiled(module, how, backend)
    before, stored = fast(x), bits(module)
    assert equal(before, plain(x))
    with one.masked(fast) as same:
        assert same is fast and equal(fast(x), inside)
        with other.masked(fast):
            assert equal(fast(x), deeper)
        assert equal(fast(x), inside)
    assert equal(fast(x), before)
    with pytest.raises(ZeroDivisionError), one.masked(fast):
        assert equal(fast(x), inside)
        raise ZeroDivisionError
    assert equal(fast(x), before)
    assert bits(module) == stored
    first_inside = compiled(small_net(), how, backend)
    with one.masked(first_inside):
        assert equal(first_inside(x), inside)
    assert equal(first_inside(x), before)


@pytest.mark.parametrize("how", ["wrapped", "in place"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_module_computes_with_masks_inside_the_block_only(how, backend):
    check_compiled(how, backend)


def test_a_module_in_machine_code_computes_with_masks_inside_the_block_only():
    check_compiled("wrapped", "inductor")


def test_a_ticket_applies_to_a_compiled_module_as_to_a_plain_one():
    ticket = make_ticket(small_net(), 1, 0.3)
    fast = compiled(seeded(small_net, 2), "wrapped", "eager")
    assert ticket.apply(fast) is fast
    assert bits(fast._orig_mod) == bits(ticket.apply(small_net()))


def test_infinite_weights_are_masked_too():
    module = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        module.weight[0, 0] = torch.inf
    ticket = Ticket(Masks({"weight": torch.tensor([[False, True]])}), {})
    with ticket.masked(module):
        assert module(torch.ones(1, 2)).isfinite().all()
    assert module.weight[0, 0] == torch.inf
    assert ticket.apply(module)(torch.ones(1, 2)).isfinite().all()


def test_gradients_flow_inside_the_block():
    module = nn.Linear(3, 2)
    ticket = make_ticket(module)
    with ticket.masked(module):
        module(torch.ones(1, 3)).sum().backward()
    assert torch.equal(module.weight.grad, torch.ones(2, 3))


# Looking at it


def test_the_table_has_a_row_per_parameter_that_adds_up(tied):
    ticket = make_ticket(tied)
    table = ticket.table()
    assert list(table.columns) == ["shape", "weights", "kept", "density"]
    assert list(table.index) == list(ticket.masks)
    assert table["kept"].sum() == ticket.masks.kept
    assert table["weights"].sum() == ticket.masks.total
    assert table.loc["inner.weight", "shape"] == (3, 3)
    assert (table["density"] == table["kept"] / table["weights"]).all()


def test_a_ticket_that_prunes_nothing_has_an_empty_table():
    assert Ticket(Masks({}), {}).table().empty


def test_the_plot_shows_each_parameters_density_and_the_whole(tied):
    ticket = make_ticket(tied)
    (ax,) = ticket.plot().axes
    assert [t.get_text() for t in ax.get_yticklabels()] == list(ticket.masks)
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == [100 * d for d in ticket.masks.densities().values()]
    assert ax.lines[0].get_xdata()[0] == 100 * ticket.density
    mpl.pyplot.close(ax.figure)


def test_the_plot_goes_where_it_is_told(tied, tmp_path):
    figure, ax = mpl.pyplot.subplots()
    assert make_ticket(tied).plot(ax=ax).axes == [ax]
    figure.savefig(tmp_path / "plot.png")
    mpl.pyplot.close(figure)


@pytest.mark.parametrize("kind", list(gallery))
def test_every_picture_of_a_ticket_has_axes_that_say_what_they_show(lenet, kind):
    drawn = lenet.plot(kind)
    figure = drawn.figure
    shown = [ax for ax in figure.axes if ax.has_data()]
    assert shown and all(ax.get_title() or ax.get_title("left") or ax.get_xlabel() or ax.get_ylabel() for ax in shown)
    mpl.pyplot.close(figure)


def test_another_picture_is_refused_with_those_there_are(lenet):
    with pytest.raises(ValueError, match="kind='mask'.*layers, masks, inputs, units"):
        lenet.plot("mask")


def test_tickets_are_compared_by_their_masks(tied):
    one, other = make_ticket(tied, 1), make_ticket(tied, 2)
    assert one.overlap(other).equals(one.overlap(other.masks))
    assert one.overlap(one).loc["all", "jaccard"] == 1
    assert list(one.structure().index) == list(one.masks)
    with pytest.raises(ValueError, match="not of the same parameters"):
        one.overlap(small_ticket())


@pytest.mark.parametrize("operate", [operator.and_, operator.or_, operator.sub])
def test_set_operations_on_masks_make_tickets(tied, operate):
    one, other = make_ticket(tied, 1), make_ticket(tied, 2)
    ticket = Ticket(operate(one.masks, other.masks), one.weights)
    ticket.check(Tied())
    assert ticket.masks.nested_in(one.masks | other.masks)


def test_a_ticket_shows_itself_in_a_notebook_as_text_that_is_escaped():
    ticket = Ticket(Masks.ones({"<b>w": torch.zeros(2)}), {}, {"round": "<script>"})
    shown = ticket._repr_html_()
    assert "&lt;b&gt;w" in shown and "density 1.0000" in shown
    assert "<script>" not in shown and "<b>w" not in shown


# Bad input


@given(st.data(), st.sampled_from(KINDS))
def test_a_flipped_bit_in_a_ticket_is_noticed_or_changes_nothing(folder, data, kind):
    small_ticket().save(folder / "whole.ticket", weights=kind)
    ticket = Ticket.load(folder / "whole.ticket")
    raw = bytearray((folder / "whole.ticket").read_bytes())
    position = data.draw(st.integers(0, len(raw) - 1), "position")
    raw[position] ^= 1 << data.draw(st.integers(0, 7), "bit")
    (folder / "flipped.ticket").write_bytes(raw)
    try:
        loaded = Ticket.load(folder / "flipped.ticket")
    except StorageError as error:
        assert str(folder / "flipped.ticket") in str(error)
    else:
        assert equal(loaded, ticket)


@given(st.data(), st.sampled_from(KINDS))
def test_a_truncated_ticket_is_refused_by_name(folder, data, kind):
    small_ticket().save(folder / "whole.ticket", weights=kind)
    raw = (folder / "whole.ticket").read_bytes()
    length = data.draw(st.integers(0, len(raw) - 1), "length")
    (folder / "cut.ticket").write_bytes(raw[:length])
    with pytest.raises(StorageError, match=r"cut\.ticket is not a ticket, or is dam"):
        Ticket.load(folder / "cut.ticket")


@given(st.binary(max_size=200))
def test_a_file_of_anything_is_refused_by_name(folder, data):
    (folder / "any.ticket").write_bytes(data)
    with pytest.raises(StorageError, match=r"any\.ticket is not a ticket"):
        Ticket.load(folder / "any.ticket")


class Trap:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("write", [torch.save, lambda o, p: p.write_bytes(o)])
def test_a_pickle_is_refused_and_its_code_not_run(tmp_path, write):
    trap = {"weight": Trap(tmp_path / "executed")}
    path = tmp_path / "stranger.ticket"
    write(trap if write is torch.save else pickle.dumps(trap), path)
    with pytest.raises(StorageError, match=r"stranger\.ticket is not a ticket"):
        Ticket.load(path)
    assert not (tmp_path / "executed").exists()
    torch.load(path, weights_only=False) if write is torch.save else pickle.loads(path.read_bytes())
    assert (tmp_path / "executed").exists()  # the trap works


def test_a_missing_ticket_is_an_error_that_names_it(tmp_path):
    with pytest.raises(StorageError, match=r"none\.ticket does not exist"):
        Ticket.load(tmp_path / "none.ticket")


def test_a_folder_is_no_ticket(tmp_path):
    with pytest.raises(StorageError, match="is not a ticket"):
        Ticket.load(tmp_path)


def test_safetensors_from_elsewhere_are_no_ticket(tmp_path):
    for metadata in (None, {"format": "pt"}):
        path = tmp_path / "foreign.safetensors"
        path.write_bytes(storage.encode_tensors({"w": torch.ones(3)}, metadata))
        with pytest.raises(StorageError, match="safetensors file, but not a ticket"):
            Ticket.load(path)


@pytest.mark.parametrize("format", [ticket_file.FORMAT - 1, 99, "new", None])
def test_a_ticket_of_another_format_says_what_to_do(tmp_path, format):
    path = tmp_path / "later.ticket"
    later = {"ticket": json.dumps({"format": format, "other": 1})}
    path.write_bytes(storage.encode_tensors({"w": torch.ones(3)}, later))
    expected = f"later.ticket has ticket format {format}, this version reads 2.*pip"
    with pytest.raises(StorageError, match=expected):
        Ticket.load(path)


DESCRIBED = {
    "format": ticket_file.FORMAT,
    "weights": "signs",
    "shapes": {"w": [6]},
    "magnitudes": {"w": 1.0},
    "dtypes": {"w": "float32"},
    "provenance": {},
}


@pytest.mark.parametrize(
    "described",
    [
        "{",
        "[]",
        "3",
        "{}",
        json.dumps({"format": ticket_file.FORMAT}),
        json.dumps({**DESCRIBED, "shapes": {}}),
        json.dumps({**DESCRIBED, "shapes": {"v": [6]}}),
        json.dumps({**DESCRIBED, "shapes": {"w": [60]}}),
        json.dumps({**DESCRIBED, "shapes": {"w": [0, 2**60, 2**60]}}),
        json.dumps({**DESCRIBED, "shapes": {"w": [2**60]}}),
        json.dumps({**DESCRIBED, "shapes": {"w": [-1, -2]}}),
        json.dumps({**DESCRIBED, "shapes": {"w": ["x"]}}),
        json.dumps({**DESCRIBED, "shapes": {"w": 2}}),
        json.dumps({**DESCRIBED, "shapes": {"w": 6.0}}),
        json.dumps({**DESCRIBED, "shapes": None}),
        json.dumps({**DESCRIBED, "magnitudes": {}}),
        json.dumps({**DESCRIBED, "magnitudes": {"w": "1"}}),
        json.dumps({**DESCRIBED, "dtypes": {}}),
        json.dumps({**DESCRIBED, "dtypes": {"w": "load"}}),
        json.dumps({**DESCRIBED, "dtypes": {"w": "nothing"}}),
    ],
)
def test_a_ticket_that_describes_itself_wrongly_is_refused_by_name(tmp_path, described):
    """Also with the hash of what it says."""
    path = tmp_path / "odd.ticket"
    write_described(path, described)
    with pytest.raises(StorageError, match=r"odd\.ticket is not a ticket, or is"):
        Ticket.load(path)


def test_a_ticket_that_describes_itself_rightly_is_read(tmp_path):
    """The one whose lies are refused."""
    write_described(tmp_path / "odd.ticket", json.dumps(DESCRIBED))
    weights = Ticket.load(tmp_path / "odd.ticket").weights["w"]
    assert weights.tolist() == [1, 1, 1, 1, 1, -1]


def write_described(path, described):
    tensors = {
        "masks": MaskHistory.of([Masks.ones({"w": torch.zeros(6)})]).pack(),
        "signs/w": torch.tensor([0b11111000], dtype=torch.uint8),
    }
    found = hashed.digest(tensors, described)
    metadata = {"ticket": described, "sha256": found}
    path.write_bytes(storage.encode_tensors(tensors, metadata))


@pytest.mark.parametrize("length", [1, 5])
def test_fewer_or_more_surviving_weights_than_the_mask_keeps_are_refused(tmp_path, length):
    described = json.dumps({**DESCRIBED, "weights": "surviving"})
    tensors = {"masks": MaskHistory.of([Masks.ones({"w": torch.zeros(6)})]).pack(), "survivors/w": torch.ones(length)}
    metadata = {"ticket": described, "sha256": hashed.digest(tensors, described)}
    (tmp_path / "t").write_bytes(storage.encode_tensors(tensors, metadata))
    with pytest.raises(StorageError, match="is not a ticket, or is damaged"):
        Ticket.load(tmp_path / "t")


def test_saving_over_a_folder_is_an_error_that_names_it(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="could not write .*folder"):
        small_ticket().save(tmp_path / "folder")
