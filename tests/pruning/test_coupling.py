"""Channels: what is coupled goes together, and what is gone is felt nowhere."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import zoo
from coupled import NETWORKS, Residual
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lottery.masks.masks import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.structures import prune_groups, resolve

CHANNEL = resolve("channel")
IMAGE = torch.zeros(1, 3, 8, 8)


def everything_kept(module, **patterns):
    return Masks.ones(prunable_parameters(module, **patterns))


def magnitudes(module, masks):
    return {n: module.get_parameter(n).detach().abs() for n in masks}


def with_statistics(kind, seed):
    """A network whose BatchNorm layers shift and scale."""
    torch.manual_seed(seed)
    module = NETWORKS[kind][0]().double().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight, part.bias, part.running_mean):
                nn.init.normal_(tensor)
    return module


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_hidden_channel_is_a_group(kind):
    module, count = NETWORKS[kind][0](), NETWORKS[kind][1]
    groups = CHANNEL.groups(everything_kept(module), module, IMAGE)
    assert groups.count == count
    numbers = torch.cat([t.flatten() for own in groups.ids.values() for t in own])
    assert set(numbers.tolist()) == {*range(count), -1}


@given(st.sampled_from(list(NETWORKS)), st.integers(0, 99), st.floats(0.2, 0.5))
@settings(max_examples=30)
def test_the_output_does_not_depend_on_channels_that_are_gone(kind, seed, amount):
    module = with_statistics(kind, seed)
    masks = everything_kept(module)
    groups = CHANNEL.groups(masks, module, IMAGE.double())
    pools = [(list(masks), amount)]
    after = prune_groups(magnitudes(module, masks), masks, groups, pools)
    after.apply(dict(module.named_parameters()))
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected = module(x)
    alive = torch.cat([i.expand(after[n].shape)[after[n]] for n, own in groups.ids.items() for i in own])
    gone = ~torch.isin(torch.arange(groups.count), alive)
    assert int(gone.sum()) == round(amount * groups.count) > 0
    for name, (made, *_) in groups.ids.items():
        here = (gone[made] & (made >= 0)).flatten()

        def disturb(layer, inputs, output, here=here):
            shape = [1, -1] + [1] * (output.ndim - 2)
            return output + torch.randn_like(output) * here.reshape(shape)

        module.get_submodule(name.rpartition(".")[0]).register_forward_hook(disturb)
    torch.testing.assert_close(module(x), expected, rtol=0, atol=0)


def test_a_perceptron_without_its_channels_is_the_smaller_perceptron():
    module = with_statistics("perceptron", 0)
    masks = everything_kept(module)
    after = CHANNEL.next_masks(
        magnitudes(module, masks), masks, [(list(masks), 0.4)], module=module, example_input=IMAGE.double()
    )
    after.apply(dict(module.named_parameters()))
    one, two = (after[f"{i}.weight"].any(1) for i in (1, 3))
    assert int(one.sum() + two.sum()) == 11 - round(0.4 * 11)
    small = with_statistics("perceptron", 1)
    for i, rows, columns in (
        (1, one, torch.ones(192, dtype=torch.bool)),
        (3, two, one),
        (5, torch.ones(3, dtype=torch.bool), two),
    ):
        small[i].weight = nn.Parameter(module[i].weight[rows][:, columns])
        if module[i].bias is not None:
            small[i].bias = nn.Parameter(module[i].bias[rows])
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(small(x), module(x))


def test_a_flatten_gives_a_channel_many_columns():
    module = NETWORKS["flatten"][0]()
    ids = CHANNEL.groups(everything_kept(module), module, IMAGE).ids
    assert ids["0.weight"][0].flatten().tolist() == [0, 1, 2, 3]
    assert ids["6.weight"][1].tolist() == [[i // 16 for i in range(64)]]


def test_option_a_shortcuts_couple_the_middle_of_the_wider_block():
    module = Residual("A")
    ids = CHANNEL.groups(everything_kept(module), module, IMAGE).ids
    stream = ids["stem.weight"][0].flatten().tolist()
    wider = ids["blocks.1.two.weight"][0].flatten().tolist()
    assert ids["blocks.0.two.weight"][0].flatten().tolist() == stream
    assert wider[2:6] == stream
    assert {*wider[:2], *wider[6:]} == {-1}  # beside zeros of a fixed size
    assert ids["output.weight"][1].flatten().tolist() == wider


def test_inputs_and_outputs_stay():
    module = NETWORKS["perceptron"][0]()
    ids = CHANNEL.groups(everything_kept(module), module, IMAGE).ids
    assert (ids["1.weight"][1] == -1).all()
    assert (ids["5.weight"][0] == -1).all()


def test_channels_of_an_excluded_layer_stay_and_columns_of_one_are_not_counted():
    module = NETWORKS["perceptron"][0]()
    masks = everything_kept(module, exclude=["1.weight", "5.weight"])
    groups = CHANNEL.groups(masks, module, IMAGE)
    assert groups.count == 5
    assert list(groups.ids) == ["3.weight"]
    assert (groups.ids["3.weight"][1] == -1).all()


def test_a_stream_keeps_all_channels_when_one_of_its_layers_is_excluded():
    module = Residual("B")
    masks = everything_kept(module, exclude=["stem.weight"])
    ids = CHANNEL.groups(masks, module, IMAGE).ids
    assert (ids["blocks.0.two.weight"][0] == -1).all()
    assert (ids["blocks.0.one.weight"][0] >= 0).all()


class Tokens(nn.Module):
    """Embedded tokens, a residual stream with attention, an output tied to the embedding or not."""

    def __init__(self, tied):
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.one, self.two = nn.Linear(6, 5), nn.Linear(5, 6)
        self.output = nn.Linear(6, 7, bias=False)
        self.attends = not tied
        if tied:
            self.output.weight = self.embedding.weight
            del self.attention  # a layer that is not called keeps what it may read

    def forward(self, tokens):
        x = self.embedding(tokens)
        if self.attends:
            x = x + self.attention(x, x, x)[0]
        x = x + self.two(F.gelu(self.one(F.layer_norm(x, (6,)))))
        return {"logits": self.output(x)}


def test_what_attention_takes_and_gives_stays_and_hidden_units_go():
    module, tokens = Tokens(tied=False), torch.tensor([[1, 2, 3]])
    ids = CHANNEL.groups(everything_kept(module), module, tokens).ids
    assert ids["one.weight"][0].flatten().tolist() == [0, 1, 2, 3, 4]
    assert ids["two.weight"][1].flatten().tolist() == [0, 1, 2, 3, 4]
    assert (ids["embedding.weight"][0] == -1).all()
    assert (ids["two.weight"][0] == -1).all()
    assert not ids.keys() & {"attention.in_proj_weight"}


def test_a_tied_embedding_is_one_with_the_stream_and_keeps_its_tokens():
    module, tokens = Tokens(tied=True), torch.tensor([[1, 2, 3]])
    masks = everything_kept(module)
    ids = resolve({"name": "channel", "norms": "over survivors"}).groups(masks, module, tokens).ids
    columns, rows = ids["embedding.weight"]
    assert columns.tolist() == [list(range(6))]
    assert (rows == -1).all()
    assert ids["one.weight"][1].tolist() == columns.tolist()


class Following(nn.Module):
    """Two layers with anything between them."""

    def __init__(self, between):
        super().__init__()
        self.one, self.two, self.between = nn.Linear(4, 4), nn.Linear(4, 2), between

    def forward(self, x):
        return self.two(self.between(self.one(x)))


def written(x, into):
    into[:, :2] = x[:, :2]
    return into


def added_to(base, x):
    base[:, 1:].add_(x[:, 1:])
    return base


@pytest.mark.parametrize(
    ("between", "free"),
    {
        "nothing": (lambda x: x, 4),
        "flip": (lambda x: x.flip(1), 4),
        "the mean of two": (lambda x: x.view(len(x), -1, 2).mean(2).repeat(1, 2), 2),
        "the mean of two of a written number": (lambda x: x.view(-1, 2, 2).mean(2).repeat(1, 2), 0),
        "added to itself, moved": (lambda x: x + x.roll(1, 1), 0),
        "zeros in place": (lambda x: torch.zeros_like(x).add_(x), 4),
        "padding": (lambda x: F.pad(x[:, :2], (1, 1)), 2),
        "padding of ones": (lambda x: F.pad(x[:, :2], (1, 1), value=1.0), 2),
        "softmax": (lambda x: x.softmax(1), 0),
        "a sort": (lambda x: x.sort(1)[0], 0),
        "one that depends on a value": (lambda x: x[:, x[0].argsort()], 0),
        "a matrix": (lambda x: x @ torch.ones(4, 4), 0),
        "written into another": (lambda x: written(x, torch.zeros(len(x), 4)), 2),
        "written into itself": (lambda x: written(x, x.clone()), 0),
        "a part in place": (lambda x: added_to(torch.zeros(len(x), 4), x), 0),
    }.values(),
)
def test_what_is_not_known_to_keep_channels_apart_keeps_them(between, free):
    module = Following(between)
    masks = everything_kept(module)
    if free:
        assert CHANNEL.groups(masks, module, torch.ones(1, 4)).count == free
    else:
        with pytest.raises(ValueError, match="no channel of Following can be removed"):
            CHANNEL.groups(masks, module, torch.ones(1, 4))


def test_what_is_not_followed_is_named():
    module = Following(nn.Softmax(1))
    with pytest.raises(ValueError, match="softmax in between is not followed"):
        CHANNEL.groups(everything_kept(module), module, torch.ones(1, 4))


def normed():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1))


def test_units_before_a_norm_go_only_where_it_is_asked_for():
    module = normed()
    masks = everything_kept(module)
    ids = CHANNEL.groups(masks, module, IMAGE).ids
    assert (ids["0.weight"][0] == -1).all()
    assert CHANNEL.groups(masks, module, IMAGE).count == 6
    assert resolve({"name": "channel", "norms": "over survivors"}).groups(masks, module, IMAGE).count == 8 + 6
    with pytest.raises(ValueError, match="norms='none'; the ways are 'whole', 'over survivors'"):
        resolve({"name": "channel", "norms": "none"})
    with pytest.raises(ValueError, match="group_norm in 1 needs all of them.*'norms': 'over survivors'"):
        CHANNEL.groups(everything_kept(module[:3]), module[:3], IMAGE)


def test_a_plan_says_how_many_units_may_go_and_why_others_stay():
    module = nn.Sequential(*normed()[:3], nn.Conv2d(6, 6, 1, groups=3), nn.Conv2d(6, 2, 1))
    assert CHANNEL.plan(everything_kept(module), module, IMAGE) == {
        "0.weight": "0 of 8 units; 8 stay: group_norm in 1 needs all of them",
        "2.weight": "6 of 6 units, in 2 groups",
        "3.weight": "6 of 6 units, in 2 groups",
        "4.weight": "0 of 2 units; 2 stay: the network gives them back",
    }


@pytest.mark.parametrize("kind", ["Attention", "WeightNorm", "Tied"])
def test_modules_without_channels_of_their_own_are_refused(kind):
    module = zoo.ANY_MODULE[kind]()
    with pytest.raises(ValueError, match=f"no channel of {kind} can be removed"):
        CHANNEL.groups(everything_kept(module), module, torch.ones(1, zoo.INPUTS))


def test_a_forward_that_fails_names_the_module_in_which_it_does():
    module = Residual("B")
    with pytest.raises(ValueError, match=r"channels of Residual .* in stem forward"):
        CHANNEL.groups(everything_kept(module), module, torch.ones(1, 4, 8, 8))


@zoo.hides_compiled_parts
def test_what_a_compiled_part_hides_is_noticed():
    module = Following(torch.compile(nn.ReLU(), backend="eager"))
    with pytest.raises(ValueError, match="no function of torch computed in sight"):
        CHANNEL.groups(everything_kept(module), module, torch.ones(1, 4))


def test_an_output_without_tensors_is_refused():
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    module.register_forward_hook(lambda *_: "text")
    with pytest.raises(ValueError, match="gives a str"):
        CHANNEL.groups(everything_kept(module), module, torch.ones(1, 4))


def test_without_a_module_or_an_input_channels_are_refused():
    module = NETWORKS["perceptron"][0]()
    with pytest.raises(ValueError, match="give it the module and an example_input"):
        CHANNEL.groups(everything_kept(module), module)


@pytest.mark.parametrize("fails", [False, True])
def test_the_module_comes_out_as_it_went_in(fails):
    module = NETWORKS["flatten"][0]().train()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    module[0].weight.grad = torch.ones_like(module[0].weight)
    random = torch.get_rng_state()
    try:
        CHANNEL.groups(everything_kept(module), module, IMAGE[:, :2] if fails else IMAGE)
    except ValueError:
        assert fails
    assert all(part.training for part in module.modules())
    assert all(torch.equal(before[n], t) for n, t in module.state_dict().items())
    assert module[0].weight.grad is not None
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(p._forward_hooks or p._forward_pre_hooks for p in module.modules())


@pytest.mark.parametrize("norm", [torch.nn.utils.parametrizations.weight_norm, torch.nn.utils.weight_norm])
def test_the_plan_names_computed_weights(norm):
    module = nn.Sequential(norm(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2)).eval()
    plan = CHANNEL.plan(everything_kept(module), module, torch.ones(2, 3))
    assert any(
        "0 of 4 units" in words and "4 stay: their weights are computed from it" in words for words in plan.values()
    )


class Gated(nn.Module):
    """A gate of one value for all channels, with which they hang together."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.gate, self.c = nn.Linear(3, 8), nn.Linear(3, 8), nn.Linear(3, 1), nn.Linear(8, 2)

    def forward(self, x):
        return self.c(self.a(x) * self.gate(x) + self.b(x).relu().mean(1, keepdim=True))


def test_units_that_can_only_go_all_at_once_are_not_offered():
    module = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 3), Gated()).eval()
    plan = CHANNEL.plan(everything_kept(module), module, torch.ones(2, 3))
    for layer in ("3.a", "3.b"):
        assert plan[f"{layer}.weight"].startswith("0 of 8 units; 8 stay: all units of ")
        assert "hang together" in plan[f"{layer}.weight"]
    assert plan["0.weight"] == "6 of 6 units"
