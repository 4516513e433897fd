"""A ticket: saved, shared, inspected, applied."""

import json
import pickle

import matplotlib as mpl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lottery import Masks, StorageError, Ticket, storage
from lottery.prunable import prunable_parameters

mpl.use("Agg")

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
        name: torch.rand(p.shape, generator=generator) < density
        for name, p in prunable_parameters(module).items()
    }
    return Ticket(Masks(masks), module.state_dict(), provenance)


def small_ticket():
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
    st.text(),
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.booleans(),
    max_size=4,
)


@given(st.integers(0, 10**6), st.floats(0, 1), st.sampled_from(DTYPES), provenance)
@settings(max_examples=30)
def test_a_ticket_that_is_loaded_is_the_one_that_was_saved(
    folder, seed, density, dtype, origin
):
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


def test_a_saved_ticket_holds_one_bit_per_mask_entry(tmp_path):
    layer = nn.Linear(400, 300, bias=False).half()
    make_ticket(layer).save(tmp_path / "t")
    size = (tmp_path / "t").stat().st_size
    assert size < 400 * 300 * 2 + 400 * 300 / 8 + 1000


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
        Masks({name: torch.tensor(mask).reshape(shape)}),
        {name: torch.tensor(weights, dtype=dtype).reshape(shape)},
    ),
    small_masks,
    small_weights,
    small_shapes,
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from(["a", "b"]),
)


def equal(one, other):
    return one.masks == other.masks and same_tensors(one.weights, other.weights)


@given(small_tickets, small_tickets)
def test_tickets_have_equal_fingerprints_if_and_only_if_they_are_equal(one, other):
    assert (one.fingerprint == other.fingerprint) == equal(one, other)


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
        weight.view(-1)[position] += 1
    elif change == "shape":
        other = data.draw(small_shapes.filter(lambda s: s != shape))
        mask, weight = mask.reshape(other), weight.reshape(other)
    elif change == "dtype":
        weight = weight.to(torch.int32)
    name = "c" if change == "name" else name
    changed = Ticket(Masks({name: mask}), {name: weight})
    assert changed.fingerprint != ticket.fingerprint


def test_zeros_of_different_type_or_shape_have_different_fingerprints():
    weights = [torch.zeros(4), torch.zeros(2, dtype=torch.float64), torch.zeros(2, 2)]
    assert len({Ticket(Masks({}), {"w": w}).fingerprint for w in weights}) == 3


def test_the_fingerprint_does_not_depend_on_order_strides_or_origin():
    weight, mask = torch.arange(6.0).reshape(2, 3), torch.ones(2, 3).bool()
    one = Ticket(Masks({"w": mask}), {"w": weight, "b": weight[0]}, {"round": 1})
    other = Ticket(
        Masks({"w": mask.t().contiguous().t()}),
        {"b": weight[0], "w": weight.t().contiguous().t()},
    )
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
    ax = ticket.plot()
    assert [t.get_text() for t in ax.get_yticklabels()] == list(ticket.masks)
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == [100 * d for d in ticket.masks.densities().values()]
    assert ax.lines[0].get_xdata()[0] == 100 * ticket.density
    mpl.pyplot.close(ax.figure)


def test_the_plot_goes_where_it_is_told(tied, tmp_path):
    figure, ax = mpl.pyplot.subplots()
    assert make_ticket(tied).plot(ax) is ax
    figure.savefig(tmp_path / "plot.png")
    mpl.pyplot.close(figure)


# Bad input


@given(st.data())
def test_a_flipped_bit_in_a_ticket_is_noticed_or_changes_nothing(folder, data):
    ticket = small_ticket()
    ticket.save(folder / "whole.ticket")
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


@given(st.data())
def test_a_truncated_ticket_is_refused_by_name(folder, data):
    small_ticket().save(folder / "whole.ticket")
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
    torch.load(path, weights_only=False) if write is torch.save else pickle.loads(
        path.read_bytes()
    )
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


def test_a_ticket_of_a_later_format_says_how_to_update(tmp_path):
    path = tmp_path / "later.ticket"
    later = {"ticket": json.dumps({"format": 2, "other": 1})}
    path.write_bytes(storage.encode_tensors({"w": torch.ones(3)}, later))
    with pytest.raises(StorageError, match="ticket format 2.*pip install -U"):
        Ticket.load(path)


DESCRIBED = {"format": 1, "shapes": {"w": [2]}, "provenance": {}, "fingerprint": ""}


@pytest.mark.parametrize(
    "described",
    [
        "{",
        "[]",
        "3",
        "{}",
        json.dumps({"format": 1}),
        json.dumps({**DESCRIBED, "format": "new"}),
        json.dumps({**DESCRIBED, "shapes": {}}),
        json.dumps({**DESCRIBED, "shapes": {"w": [2**60]}}),
        json.dumps({**DESCRIBED, "shapes": {"w": [-1, -2]}}),
        json.dumps({**DESCRIBED, "shapes": {"w": ["x"]}}),
        json.dumps({**DESCRIBED, "shapes": {"w": 2}}),
        json.dumps({**DESCRIBED, "shapes": None}),
        json.dumps(DESCRIBED),
    ],
)
def test_a_ticket_that_describes_itself_wrongly_is_refused_by_name(tmp_path, described):
    path = tmp_path / "odd.ticket"
    bits = torch.zeros(1, dtype=torch.uint8)
    path.write_bytes(storage.encode_tensors({"mask/w": bits}, {"ticket": described}))
    with pytest.raises(StorageError, match=r"odd\.ticket is not a ticket, or is"):
        Ticket.load(path)


def test_saving_over_a_folder_is_an_error_that_names_it(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="could not write .*folder"):
        small_ticket().save(tmp_path / "folder")
