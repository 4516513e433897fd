"""Which parameters are prunable, over the layers that people have."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from lottery import Masks
from lottery.masks.prunable import prunable_parameters


class Own(nn.Module):
    """A linear layer that is not nn.Linear, with things beside its weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2))
        self.bias = nn.Parameter(torch.zeros(1, 2))
        self.scale = nn.Parameter(torch.ones(3, 2))
        self.positions = nn.Parameter(torch.randn(5, 3))


class Lookup(nn.Module):
    """Weights that do not float or are complex, which magnitude pruning does not rank."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 3, dtype=torch.long), False)
        self.inner = nn.Linear(3, 3)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding(5, 3)
        self.decoder = nn.Linear(3, 5, bias=False)
        self.decoder.weight = self.encoder.weight


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight.triu() + weight.triu(1).mT


def old_weight_norm(layer, *names):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names or ["weight"]:
            nn.utils.weight_norm(layer, name)
    return layer


def frozen(layer):
    return layer.requires_grad_(False)


LAYERS = {
    "Linear": (nn.Linear(2, 3), ["weight"]),
    "Bilinear": (nn.Bilinear(2, 3, 4), ["weight"]),
    "Conv1d": (nn.Conv1d(2, 3, 2), ["weight"]),
    "Conv2d": (nn.Conv2d(2, 4, 2, groups=2), ["weight"]),
    "Conv3d": (nn.Conv3d(2, 3, 2), ["weight"]),
    "ConvTranspose1d": (nn.ConvTranspose1d(2, 3, 2), ["weight"]),
    "ConvTranspose2d": (nn.ConvTranspose2d(2, 3, 2), ["weight"]),
    "ConvTranspose3d": (nn.ConvTranspose3d(2, 3, 2), ["weight"]),
    "Embedding": (nn.Embedding(4, 3, padding_idx=0), ["weight"]),
    "EmbeddingBag": (nn.EmbeddingBag(4, 3), ["weight"]),
    "GRU": (
        nn.GRU(2, 3, bidirectional=True),
        ["weight_ih_l0", "weight_hh_l0"] + ["weight_ih_l0_reverse", "weight_hh_l0_reverse"],
    ),
    "LSTM of two layers": (
        nn.LSTM(2, 3, num_layers=2),
        ["weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"],
    ),
    "LSTM with proj_size": (nn.LSTM(2, 4, proj_size=3), ["weight_ih_l0", "weight_hh_l0", "weight_hr_l0"]),
    "RNNCell": (nn.RNNCell(2, 3), ["weight_ih", "weight_hh"]),
    "MultiheadAttention": (nn.MultiheadAttention(4, 2, add_bias_kv=True), ["in_proj_weight", "out_proj.weight"]),
    "MultiheadAttention with kdim and vdim": (
        nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
        ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"],
    ),
    "weight_norm, a parametrization": (
        parametrizations.weight_norm(nn.Conv2d(2, 3, 3)),
        ["parametrizations.weight.original1"],
    ),
    "weight_norm, a hook": (old_weight_norm(nn.Linear(2, 3)), ["weight_v"]),
    "weight_norm over a whole tensor": (
        nn.utils.parametrizations.weight_norm(nn.Linear(2, 3), dim=None),
        ["parametrizations.weight.original1"],
    ),
    "weight_norm of a recurrent layer": (
        old_weight_norm(nn.GRU(2, 3), "weight_hh_l0", "weight_ih_l0"),
        ["weight_hh_l0_v", "weight_ih_l0_v"],
    ),
    "weight_norm of a recurrent layer, a parametrization": (
        parametrizations.weight_norm(nn.LSTM(2, 3), "weight_hh_l0"),
        ["weight_ih_l0", "parametrizations.weight_hh_l0.original1"],
    ),
    "weight_norm of attention": (
        parametrizations.weight_norm(nn.MultiheadAttention(4, 2), "in_proj_weight"),
        ["out_proj.weight", "parametrizations.in_proj_weight.original1"],
    ),
    "spectral_norm": (parametrizations.spectral_norm(nn.Linear(2, 3)), ["parametrizations.weight.original"]),
    "spectral_norm, a hook": (nn.utils.spectral_norm(nn.Linear(2, 3)), ["weight_orig"]),
    "a parametrization of one's own": (
        parametrize.register_parametrization(nn.Linear(3, 3), "weight", Symmetric()),
        ["parametrizations.weight.original"],
    ),
    "a module of one's own": (Own(), ["weight"]),
    "tied weights": (Tied(), ["encoder.weight"]),
    "weights that do not float": (Lookup(), ["inner.weight"]),
    "Transformer": (
        nn.TransformerEncoderLayer(4, 2, 8),
        ["self_attn.in_proj_weight", "self_attn.out_proj.weight"] + ["linear1.weight", "linear2.weight"],
    ),
}
NOT_PRUNABLE = {
    "BatchNorm1d": nn.BatchNorm1d(3),
    "BatchNorm2d": nn.BatchNorm2d(3),
    "BatchNorm3d": nn.BatchNorm3d(3),
    "SyncBatchNorm": nn.SyncBatchNorm(3),
    "InstanceNorm2d": nn.InstanceNorm2d(3, affine=True),
    "LayerNorm": nn.LayerNorm(3),
    "LayerNorm over two dimensions": nn.LayerNorm((3, 2)),
    "GroupNorm": nn.GroupNorm(1, 3),
    "RMSNorm": nn.RMSNorm(3),
    "RMSNorm over two dimensions": nn.RMSNorm((3, 2)),
    "PReLU": nn.PReLU(3),
    "a frozen layer": frozen(nn.Linear(2, 3)),
    "an embedding of nothing": nn.Embedding(0, 3),
    "no parameters": nn.ReLU(),
}
named_layers = st.lists(
    st.sampled_from([*LAYERS, *NOT_PRUNABLE]).filter(lambda name: name != "Linear"), max_size=5, unique=True
)


def inside(names):
    """One module out of several layers, and the names that are prunable in it."""
    layers = {**{name: layer for name, (layer, _) in LAYERS.items()}, **NOT_PRUNABLE}
    expected = [
        f"{position}.{name}" for position, layer in enumerate(names) for name in LAYERS.get(layer, (None, []))[1]
    ]
    return nn.Sequential(*(layers[name] for name in names)), expected


# Laws


@given(named_layers)
def test_a_module_is_as_prunable_as_its_layers(names):
    module, expected = inside(names)
    if expected:
        assert list(prunable_parameters(module)) == expected
    else:
        with pytest.raises(ValueError, match="nothing prunable"):
            prunable_parameters(module)


@given(named_layers)
def test_what_is_prunable_is_the_modules_own_parameters_each_once(names):
    module, _ = inside(["Linear", *names])
    found = prunable_parameters(module)
    own = dict(module.named_parameters())
    assert all(parameter is own[name] for name, parameter in found.items())
    assert len({id(parameter) for parameter in found.values()}) == len(found)
    assert all(p.ndim > 1 and p.requires_grad for p in found.values())


@given(named_layers, st.data())
def test_including_and_excluding_share_out_what_is_prunable(names, data):
    module, expected = inside(["Linear", *names])
    picked = data.draw(st.lists(st.sampled_from(expected), unique=True, min_size=1), "picked")
    assert sorted(prunable_parameters(module, include=picked)) == sorted(picked)
    rest = [name for name in expected if name not in picked]
    if rest:
        assert list(prunable_parameters(module, exclude=picked)) == rest
    else:
        with pytest.raises(ValueError, match="nothing prunable"):
            prunable_parameters(module, exclude=picked)


# Examples


@pytest.mark.parametrize("layer", LAYERS)
def test_the_weights_of_a_layer_are_prunable(layer):
    module, expected = LAYERS[layer]
    assert list(prunable_parameters(module)) == expected


@pytest.mark.parametrize("layer", NOT_PRUNABLE)
def test_a_module_with_nothing_prunable_is_an_error_that_lists_its_parameters(layer):
    module = NOT_PRUNABLE[layer]
    with pytest.raises(ValueError) as error:
        prunable_parameters(module)
    message = str(error.value)
    assert f"{type(module).__name__} has nothing prunable" in message
    assert "include" in message
    for name, parameter in module.named_parameters():
        assert not parameter.numel() or repr(name) in message


def test_pruning_the_directions_of_a_weight_norm_prunes_the_weight():
    layer = parametrizations.weight_norm(nn.Linear(3, 2))
    mask = torch.tensor([[True, False, True], [False, True, True]])
    Masks({"parametrizations.weight.original1": mask}).apply(prunable_parameters(layer))
    assert torch.equal(layer.weight != 0, mask)


def test_tied_weights_count_once():
    found = prunable_parameters(Tied())
    assert Masks.ones(found).total == 15


def test_frozen_weights_are_prunable_on_purpose_only():
    module = nn.Sequential(frozen(nn.Linear(2, 3)), nn.Linear(3, 2))
    assert list(prunable_parameters(module)) == ["1.weight"]
    assert list(prunable_parameters(module, include=["0.*"])) == ["0.weight", "0.bias"]
    assert list(prunable_parameters(module, include=["*.weight"])) == ["1.weight"]


def test_biases_are_prunable_on_purpose():
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    assert list(prunable_parameters(module, include=["*.bias"])) == ["0.bias", "1.bias"]
    assert list(prunable_parameters(module, include=["*.weight", "1.bias"])) == ["0.weight", "1.weight", "1.bias"]


def test_a_pattern_for_everything_includes_weights_only():
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    assert list(prunable_parameters(module, include=["*"])) == ["0.weight"]


def test_what_is_included_and_excluded_is_left_out():
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    assert list(prunable_parameters(module, ["*.weight"], ["0.*"])) == ["1.weight"]


def test_patterns_mind_upper_and_lower_case():
    module = nn.ModuleDict({"fc": nn.Linear(2, 2), "FC": nn.Linear(2, 2)})
    assert list(prunable_parameters(module, include=["FC.*"])) == ["FC.weight"]


def test_a_lazy_layer_is_prunable_once_it_has_a_shape():
    module = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))
    assert list(prunable_parameters(module)) == ["1.weight"]
    module(torch.zeros(1, 4))
    assert list(prunable_parameters(module)) == ["0.weight", "1.weight"]


# Bad input


@pytest.mark.parametrize("kind", ["include", "exclude"])
@pytest.mark.parametrize("pattern", ["fc*.weight", "Weight", "weight", "0"])
def test_a_pattern_that_matches_nothing_is_an_error_that_lists_the_names(kind, pattern):
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    with pytest.raises(ValueError) as error:
        prunable_parameters(module, **{kind: ["0.weight", pattern]})
    assert f"{kind}={pattern!r} matches no parameter" in str(error.value)
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        assert repr(name) in str(error.value)


def test_only_lazy_parameters_are_an_error_that_says_how_to_give_them_a_shape():
    with pytest.raises(ValueError) as error:
        prunable_parameters(nn.Sequential(nn.LazyLinear(3)))
    assert "'0.weight'" in str(error.value)
    assert "forward pass in `setup`" in str(error.value)


def test_excluding_everything_is_an_error():
    with pytest.raises(ValueError, match="nothing prunable"):
        prunable_parameters(nn.Linear(2, 3), exclude=["*"])
