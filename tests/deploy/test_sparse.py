"""Pruned networks in sparse files, and computing with sparse matrices."""

import copy
import itertools
import json
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lottery import Masks, StorageError, Ticket, storage
from lottery.deploy.sparse import choice as sparse_choice
from lottery.deploy.sparse import encodings
from lottery.deploy.sparse import file as sparse_file
from lottery.deploy.sparse import linear as sparse_linear
from lottery.deploy.sparse.compute import sparsify
from lottery.deploy.sparse.encodings import ENCODINGS
from lottery.deploy.sparse.file import layer_sizes, load_sparse, load_sparse_masks, save_sparse, totals
from lottery.deploy.sparse.linear import SparseLinear, bsr, csr
from lottery.deploy.sparse.values import restore, store
from lottery.masks.prunable import prunable_parameters
from lottery.storage import hashed

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
LOSSY = ["float32", "bfloat16", "int8"]
FITTING = ["auto", "bitmap", "delta", "lzma"]


class Mixed(nn.Module):
    """Layers of several kinds, tied weights, and buffers of several types."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding(12, 8)
        self.conv = nn.Conv1d(8, 6, 3)
        self.norm = nn.BatchNorm1d(6)
        self.hidden = nn.Linear(6, 8)
        self.decoder = nn.Linear(8, 12, bias=False)
        self.decoder.weight = self.encoder.weight
        self.temperature = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("seen", torch.tensor([True, False]))


def mixed(dtype=torch.float32, density=0.4, seed=0):
    """A module and masks of its prunable parameters."""
    torch.manual_seed(seed)
    module = Mixed().to(dtype)
    masks = {n: torch.rand(p.shape) < density for n, p in prunable_parameters(module).items()}
    return module, Masks(masks)


def pruned(module, density=0.05, seed=0):
    """The module with random weights of its linear layers set to zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Linear):
                part.weight *= torch.rand(part.weight.shape, generator=generator) < density
    return module


def mlp(*widths):
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*(m for layer in layers for m in (layer, nn.ReLU())))


def assert_same(one, other):
    assert list(one) == list(other)
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        assert torch.equal(one[name], other[name]), name


def masked_state(module, masks):
    """What a file of exact values must give back."""
    module = copy.deepcopy(module)
    masks.apply(dict(module.named_parameters()))
    return module.state_dict()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sparse")


# files


@given(st.sampled_from(DTYPES), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.sampled_from(FITTING), st.integers(0, 999))
@settings(max_examples=15)
def test_a_file_gives_back_the_masked_state_dict_and_the_masks(folder, dtype, density, encoding, seed):
    module, masks = mixed(dtype, density, seed)
    path = folder / "one.sparse"
    save_sparse(path, module.state_dict(), masks, encoding=encoding)
    loaded = load_sparse(path)
    assert_same(loaded, masked_state(module, masks))
    assert load_sparse_masks(path) == masks
    fresh = Mixed().to(dtype)
    fresh.load_state_dict(loaded)
    assert fresh.decoder.weight is fresh.encoder.weight


def test_a_kept_weight_of_zero_stays_kept(tmp_path):
    module, masks = mixed()
    nn.init.zeros_(module.hidden.weight)
    save_sparse(tmp_path / "f", module.state_dict(), masks)
    assert load_sparse_masks(tmp_path / "f") == masks


def test_a_tied_weight_is_stored_once(tmp_path):
    torch.manual_seed(0)
    tied = nn.ModuleDict({"a": nn.Embedding(300, 100), "b": nn.Linear(100, 300, bias=False)})
    tied["b"].weight = tied["a"].weight
    masks = Masks({"a.weight": torch.rand(300, 100) < 0.1})
    save_sparse(tmp_path / "f", tied.state_dict(), masks)
    once = 4 * masks.kept + encodings.entropy(masks["a.weight"])
    assert (tmp_path / "f").stat().st_size < 1.1 * once + 1024
    loaded = load_sparse(tmp_path / "f")
    assert torch.equal(loaded["b.weight"], tied["b"].weight * masks["a.weight"])


def test_a_ticket_goes_through_a_sparse_file(tmp_path):
    module, masks = mixed()
    ticket = Ticket(masks, masked_state(module, masks))
    save_sparse(tmp_path / "f", ticket.weights, ticket.masks)
    assert Ticket(load_sparse_masks(tmp_path / "f"), load_sparse(tmp_path / "f")) == ticket


def test_a_network_without_masks_is_stored_whole(tmp_path):
    module, _ = mixed()
    save_sparse(tmp_path / "f", module.state_dict(), Masks({}))
    assert_same(load_sparse(tmp_path / "f"), module.state_dict())


@pytest.mark.parametrize("density", [0.5, 0.1, 0.03, 0.01])
@pytest.mark.parametrize("values", ["native", *LOSSY])
def test_a_file_is_within_a_tenth_of_values_and_entropy(density, values, tmp_path):
    torch.manual_seed(0)
    net = mlp(784, 300, 100)
    names = ["0.weight", "2.weight"]
    masks = Masks({n: torch.rand(net.get_parameter(n).shape) < density for n in names})
    state = {n: net.get_parameter(n).detach() for n in names}
    save_sparse(tmp_path / "f", state, masks, values=values)
    entropy = sum(map(encodings.entropy, masks.values()))
    width = {"native": 4, "float32": 4, "bfloat16": 2, "int8": 1}[values]
    scales = 4 * 400 if values == "int8" else 0
    assert (tmp_path / "f").stat().st_size <= 1.1 * (width * masks.kept + scales + entropy) + 1024


# values in fewer bits

weights = st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=40)


@given(weights, st.integers(1, 5), st.sampled_from([torch.float32, torch.float64]))
def test_int8_is_off_by_at_most_half_a_step(numbers, rows, dtype):
    tensor = torch.tensor(numbers * rows, dtype=dtype).reshape(rows, -1)
    tensor *= torch.logspace(-6, 0, rows, dtype=dtype)[:, None]
    mask = torch.rand(tensor.shape) < 0.7
    stored = store(tensor, mask, "int8")
    back = restore(stored, mask, dtype)
    kept = tensor * mask
    step = kept.abs().amax(1, keepdim=True).double() / 127
    rounding = 1e-6 * kept.abs().double() + 2.0**-149
    assert stored.survivors.dtype is torch.int8 and len(stored.scales) == mask.any(1).sum()
    assert bool(((back.double() - kept.double()).abs() <= step / 2 + rounding).all())


def test_int8_of_numbers_that_are_hardly_there_does_not_turn_their_signs():
    tensor = torch.tensor([[179 * 2.0**-149, 2.0**-149]])
    everything = torch.ones(1, 2, dtype=torch.bool)
    back = restore(store(tensor, everything, "int8"), everything, torch.float32)
    assert (back - tensor).abs().max() <= 2.0**-149


@given(weights, st.sampled_from(["float32", "bfloat16"]))
def test_fewer_bits_are_off_by_their_last_half(numbers, values):
    tensor = torch.tensor(numbers, dtype=torch.float64)
    everything = torch.ones_like(tensor, dtype=torch.bool)
    back = restore(store(tensor, everything, values), everything, torch.float64)
    bits = {"float32": 24, "bfloat16": 8}[values]
    assert bool(((back - tensor).abs() <= tensor.abs() * 2.0**-bits + 1e-40).all())


@pytest.mark.parametrize("values", LOSSY)
def test_only_what_is_masked_is_rounded(values, tmp_path):
    module, masks = mixed(torch.float64)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter /= 3
    save_sparse(tmp_path / "f", module.state_dict(), masks, values=values)
    loaded, exact = load_sparse(tmp_path / "f"), masked_state(module, masks)
    assert load_sparse_masks(tmp_path / "f") == masks
    for name, tensor in loaded.items():
        rounded = name in masks or name == "decoder.weight"
        assert tensor.dtype == exact[name].dtype
        assert torch.equal(tensor, exact[name]) is not rounded
        assert torch.allclose(tensor.double(), exact[name].double(), atol=0.02, rtol=0.01)


def test_what_gets_no_smaller_stays_as_it_is():
    half = torch.randn(4, 5, dtype=torch.float16)
    assert store(half, half != 0, "bfloat16").survivors.dtype is torch.float16
    whole = torch.arange(6).reshape(2, 3)
    assert store(whole, whole > 2, "int8").survivors.tolist() == [3, 4, 5]


# the tables of sizes


@pytest.mark.parametrize("values", ["native", *LOSSY])
def test_the_table_says_what_files_take(values, tmp_path):
    torch.manual_seed(0)
    net = mlp(200, 150, 40)
    names = ["0.weight", "2.weight"]
    masks = Masks({n: torch.rand(net.get_parameter(n).shape) < 0.08 for n in names})
    state = {n: net.get_parameter(n).detach() for n in names}
    table = totals(layer_sizes(masks, values))
    for encoding in FITTING:
        save_sparse(tmp_path / "f", state, masks, values=values, encoding=encoding)
        written = (tmp_path / "f").stat().st_size
        assert table.loc[encoding, "bytes"] < written < table.loc[encoding, "bytes"] + 1500
    assert table.loc["auto", "bytes"] == table["bytes"].min()
    dense = 4 * masks.total
    assert table["x dense"].tolist() == pytest.approx((table["bytes"] / dense).tolist(), nan_ok=True)
    assert table.loc["auto", "x bound"] < 1.03


def test_the_table_leaves_open_what_does_not_fit():
    torch.manual_seed(0)
    masks = Masks({"rows": torch.rand(50, 1).lt(0.3).expand(50, 60), "free": torch.rand(50, 60) < 0.3})
    layers = layer_sizes(masks)
    table = totals(layers)
    assert table.index.tolist() == [*ENCODINGS, "auto"]
    assert table["bytes"].isna()[["grid", "blocks"]].all()
    assert table.loc["dense"].tolist()[:2] == [4 * masks.total, 1]
    assert layers.loc["rows", "chosen"] in ("grid", "blocks")
    assert layers.loc["rows", "auto"] < layers.loc["rows", "values"] + 40
    assert layers.loc["free", "auto"] == pytest.approx(layers.loc["free", "bound"], rel=0.05)


def test_bytes_follow_the_dtypes():
    masks = Masks({"a": torch.rand(40, 40) < 0.5, "b": torch.rand(40, 40) < 0.5})
    found = layer_sizes(masks, dtypes={"a": torch.float64, "b": torch.float16})
    assert found["dense"].tolist() == [1600 * 8, 1600 * 2]
    assert found["values"].tolist() == [8 * int(masks["a"].sum()), 2 * int(masks["b"].sum())]


def test_no_masks_take_nothing():
    assert totals(layer_sizes(Masks({})))["bytes"].tolist() == [0] * (len(ENCODINGS) + 1)
    with pytest.raises(ValueError, match="dtypes has none of w"):
        layer_sizes(Masks({"w": torch.ones(2, 2, dtype=torch.bool)}), dtypes={})


# bad input


def test_what_cannot_be_saved_is_refused_by_name_and_nothing_is_written(tmp_path):
    module, masks = mixed()
    state, path = module.state_dict(), tmp_path / "f"
    free = masks["hidden.weight"]
    for change, message in [
        ({"masks": Masks({"nowhere.weight": free})}, "nowhere.weight: not in the module"),
        ({"masks": Masks({"hidden.weight": free.T})}, r"hidden.weight: \(6, 8\) in the mask"),
        ({"values": "int4"}, "values='int4'; choose from native, float32"),
        ({"encoding": "zip"}, "encoding='zip'; choose from auto"),
        ({"encoding": "grid"}, "encoder.weight: a mask of shape .* encoding='grid'"),
        ({"state_dict": {**state, "_extra_state": {"mine": 1}}}, "_extra_state: not a dense tensor"),
        (
            {"state_dict": {**state, "hidden.weight": state["hidden.weight"] * float("nan")}, "values": "int8"},
            "hidden.weight: .* not finite",
        ),
        (
            {"state_dict": {**state, "hidden.weight": state["hidden.weight"].double() + 1e39}, "values": "float32"},
            "hidden.weight: .* too large",
        ),
    ]:
        arguments = {"state_dict": state, "masks": masks, **change}
        with pytest.raises(ValueError, match=message):
            save_sparse(path, **arguments)
    assert not any(tmp_path.iterdir())


def test_files_that_cannot_be_read_are_refused_by_name(tmp_path):
    path = tmp_path / "f"
    with pytest.raises(StorageError, match="f does not exist"):
        load_sparse(path)
    path.write_bytes(b"hello")
    with pytest.raises(StorageError, match="f is not a sparse file, or is damaged"):
        load_sparse(path)
    module, masks = mixed()
    Ticket(masks, module.state_dict()).save(path)
    with pytest.raises(StorageError, match=r"not one that save_sparse wrote \(Ticket.load"):
        load_sparse(path)


def test_a_file_of_a_newer_format_is_refused(tmp_path, monkeypatch):
    module, masks = mixed()
    with monkeypatch.context() as patch:
        patch.setattr(sparse_file, "FORMAT", 2)
        save_sparse(tmp_path / "f", module.state_dict(), masks)
    with pytest.raises(StorageError, match="has sparse format 2, this version reads 1"):
        load_sparse(tmp_path / "f")


@given(st.data())
@settings(max_examples=20)
def test_a_damaged_file_is_refused(folder, data):
    module, masks = mixed()
    good = sparse_file.encode(module.state_dict(), masks)
    bad = bytearray(good)
    place = data.draw(st.integers(0, len(bad) - 1))
    bad[place] ^= 1 << data.draw(st.integers(0, 7))
    path = folder / "bad"
    path.write_bytes(bytes(bad[: data.draw(st.sampled_from([len(bad), len(bad) - 5]))]))
    with pytest.raises(StorageError, match="bad"):
        load_sparse(path)


def test_a_forged_file_is_refused(tmp_path):
    """Its hash is right, its contents do not go together."""
    module, masks = mixed()
    data = sparse_file.encode(module.state_dict(), masks, encoding="bitmap")
    tensors, described = (storage.decode_tensors(data), json.loads(storage.decode_metadata(data)["sparse"]))
    described["masked"]["hidden.weight"]["shape"] = [8, 600]
    text = json.dumps(described)
    forged = storage.encode_tensors(tensors, {"sparse": text, "sha256": hashed.digest(tensors, text)})
    (tmp_path / "f").write_bytes(forged)
    with pytest.raises(StorageError, match="f is not a sparse file, or is damaged"):
        load_sparse(tmp_path / "f")


# sparse matrices


@given(
    st.integers(1, 6), st.integers(1, 6), st.lists(st.integers(0, 3), max_size=2),
    st.sampled_from([0.0, 0.3, 1.0]), st.booleans(), st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from(["csr", "bsr"]),
)  # fmt: skip
@settings(max_examples=30)
def test_a_sparse_layer_computes_what_the_dense_one_does(out, into, batch, density, bias, dtype, kind):
    dense = pruned(nn.Linear(4 * into, 4 * out, bias=bias, dtype=dtype), density)
    with sparse_linear.quiet():
        weight = csr(dense.weight) if kind == "csr" else bsr(dense.weight, 4)
    sparse = SparseLinear(weight, dense.bias)
    x = torch.randn(*batch, 4 * into, dtype=dtype)
    with torch.no_grad():
        expected, found = dense(x), sparse(x)
    assert found.dtype == dtype and found.is_contiguous()
    torch.testing.assert_close(found, expected)


def test_a_sparse_layer_can_be_copied_saved_and_converted(tmp_path):
    dense = pruned(nn.Linear(12, 8), 0.3)
    sparse = sparsify(dense, torch.randn(5, 12), "csr").module
    again = copy.deepcopy(sparse)
    torch.save(sparse.state_dict(), tmp_path / "s")
    again.load_state_dict(torch.load(tmp_path / "s", weights_only=True))
    x = torch.randn(3, 12)
    assert torch.equal(again(x), sparse(x))
    assert again.double()(x.double()).dtype is torch.float64
    assert not list(sparse.parameters())


@pytest.mark.parametrize("format", ["auto", "csr", "bsr"])
def test_outputs_stay_and_the_module_is_not_touched(format):
    net = pruned(mlp(64, 48, 32)).train()
    before = copy.deepcopy(net.state_dict())
    x = torch.randn(16, 64)
    found = sparsify(net, x, format)
    torch.testing.assert_close(found.module(x), net.eval()(x))
    assert found.difference < 1e-5
    assert_same(net.state_dict(), before)
    assert all(p.requires_grad for p in net.parameters())
    assert not any(p.requires_grad for p in found.module.parameters())
    assert not any(part.training for part in found.module.modules())
    if format != "auto":
        assert all(layer.chosen.startswith(format) for layer in found.layers)


def timings(monkeypatch, **times):
    """Every layer takes these times, instead of measured ones."""
    found = {form.replace("bsr", "bsr 4x4"): seconds for form, seconds in times.items()}
    monkeypatch.setattr(sparse_choice, "_timed", lambda forms, x: (found, {}))


@pytest.mark.parametrize(
    ("times", "chosen", "why"),
    [
        ({"dense": 1.0, "csr": 0.5, "bsr": 0.7}, "csr", "takes 0.50 x the dense time"),
        ({"dense": 1.0, "csr": 0.8, "bsr": 0.7}, "bsr 4x4", "takes 0.70 x the dense time"),
        ({"dense": 1.0, "csr": 0.95, "bsr": 3.0}, "dense", "csr takes 0.95 x the dense time"),
        ({"dense": 1.0, "csr": 4.0}, "dense", "csr takes 4.00 x the dense time"),
    ],
)
def test_auto_takes_the_fastest_where_it_pays(monkeypatch, times, chosen, why):
    timings(monkeypatch, **times)
    found = sparsify(pruned(nn.Linear(16, 8)), torch.randn(4, 16))
    assert [(layer.chosen, layer.why) for layer in found.layers] == [(chosen, why)]
    assert isinstance(found.module, SparseLinear) == (chosen != "dense")
    assert found.table()["chosen"].tolist() == [chosen]
    assert found.table()["csr us"].tolist() == [1e6 * times["csr"]]


@pytest.mark.parametrize("width", [2048, pytest.param(4096, marks=pytest.mark.slow)])
def test_auto_agrees_with_its_own_measurements(width):
    net = nn.Sequential(pruned(nn.Linear(width, 256), 0.005), nn.Linear(256, 256))
    found = sparsify(net, torch.randn(32, width))
    for layer in found.layers:
        others = [t for form, t in layer.seconds.items() if form != "dense"]
        pays = min(others) <= sparse_choice.PAYS * layer.seconds["dense"]
        assert (layer.chosen != "dense") == pays
        assert layer.rows == 32 and {"dense", "csr"} <= layer.seconds.keys()


class Various(nn.Module):
    """Layers that can be converted, called twice or under two names, and layers that cannot."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 4, 3, padding=1)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0)
        self.twice = nn.Linear(16, 16)
        self.alias = self.twice
        self.hooked = nn.Linear(16, 16)
        self.hooked.register_forward_hook(lambda *_: None)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))
        self.idle = nn.Linear(16, 16)
        self.last = nn.Linear(16, 3)

    def forward(self, x):
        x = self.conv(x)
        x = self.attention(x, x, x)[0]
        x = self.alias(self.twice(self.encoder(x)))
        return self.last(self.normed(self.hooked(x)).relu()), {"more": [x]}


def test_each_layer_is_converted_or_named_with_the_reason():
    torch.manual_seed(0)
    net, x = pruned(Various(), 0.4), torch.randn(5, 1, 16)
    found = sparsify(net, x, "csr")
    why = {layer.name: layer.why for layer in found.layers if layer.chosen == "dense"}
    assert {layer.name for layer in found.layers} - why.keys() == {"twice", "normed", "last"}
    assert why["conv"] == "torch has no sparse Conv1d"
    assert why["attention"] == "torch has no sparse MultiheadAttention"
    assert why["attention.out_proj"] == "forward does not call it with one tensor"
    assert why["encoder.linear1"] == "nn.TransformerEncoderLayer reads its weights itself"
    assert why["hooked"] == "it has forward hooks"
    assert why["idle"] == "forward does not call it with one tensor"
    assert isinstance(found.module.twice, SparseLinear) and found.module.alias is found.module.twice
    assert found.difference < 1e-5


def test_no_warning_reaches_the_user():
    net, x = pruned(mlp(32, 16)), torch.randn(4, 32)
    torch.set_warn_always(True)  # else torch warns once in a process
    try:
        with pytest.warns(UserWarning, match="in beta"):
            net[0].weight.detach().to_sparse_csr()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            sparsify(net, x)
    finally:
        torch.set_warn_always(False)


# what cannot be


@pytest.mark.parametrize(
    ("module", "x", "format", "message"),
    [
        (nn.Linear(4, 2), torch.zeros(1, 4), "coo", "format='coo'; choose from auto, csr, bsr, 2:4"),
        (nn.Linear(6, 6), torch.zeros(1, 6), "bsr", r"(?s)no layer of Linear.*4 x 4 do not divide \(6, 6\)"),
        (nn.Conv2d(1, 1, 3), torch.zeros(1, 1, 5, 5), "csr", r"(?s)no layer of Conv2d.*no sparse Conv2d"),
        (nn.Linear(4, 2), torch.zeros(1, 5), "auto", "Linear.forward stopped on the example input"),
        (nn.Linear(4, 4).bfloat16(), torch.zeros(2, 4).bfloat16(), "csr",
         "(?i)no layer of Linear.*\n.*csr: .*bfloat16"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_refused_with_the_reason(module, x, format, message):
    with pytest.raises(ValueError, match=message):
        sparsify(module, x, format)


class Reads(nn.Module):
    """Computes with a layer's weight beside calling the layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(x) + nn.functional.conv1d(x[:, None], self.layer.weight[:, None])[:, :, 0]


class Draws(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(x) + torch.rand(())


@pytest.mark.parametrize(("module", "message"), [(Reads, "forward stopped"), (Draws, "gives other outputs")])
def test_a_copy_that_would_compute_something_else_is_refused(module, message):
    with pytest.raises(ValueError, match=message):
        sparsify(pruned(module()), torch.randn(2, 8), "csr")


def test_2_of_4_is_refused_where_the_device_has_it_not(monkeypatch):
    layer, x = nn.Linear(64, 32), torch.randn(2, 64)
    with pytest.raises(ValueError, match="needs an NVIDIA GPU of compute capability 8.0.* on cpu.* format='auto'"):
        sparsify(layer, x, "2:4")
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    assert "is Tesla T4, 7.5" in sparse_linear.lacking(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert sparse_linear.lacking(torch.device("cuda")) == ""


def test_a_weight_that_is_not_2_of_4_is_refused_with_the_reason():
    good = torch.tensor([1.0, 0.0, 2.0, 0.0]).repeat(32, 16)
    reason = sparse_linear.unlike_two_four
    assert reason(good.half()) == reason(good.bfloat16()) == ""
    assert "not float32" in reason(good)
    assert "multiples of 32 x 64, not 16 x 64" in reason(good[:16].half())
    good[3, 6:8] = 1
    assert "at most 2 non-zeros in each 4 inputs; there are 3" in reason(good.half())


@pytest.mark.skipif(
    bool(sparse_linear.lacking(torch.device("cuda" if torch.cuda.is_available() else "cpu"))),
    reason="no GPU with sparse tensor cores",
)
def test_2_of_4_computes_what_dense_does():
    layer = nn.Linear(256, 128).cuda().half()
    with torch.no_grad():
        layer.weight.mul_(torch.tensor([1.0, 0.0, 0.0, 1.0]).repeat(128, 64).cuda())
    x = torch.randn(64, 256).cuda().half()
    found = sparsify(layer, x, "2:4")
    assert found.layers[0].chosen == "2:4"
    torch.testing.assert_close(found.module(x), layer(x), rtol=1e-2, atol=1e-2)
