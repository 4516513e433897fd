"""The benchmark ResNet: its shapes, that it trains, and that its channels can go."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lottery.masks.masks import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.graph.coupling import couple
from lottery.tasks.models import ResNet


def layers(model):
    return [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]


def test_resnet_20_has_the_size_of_the_paper():
    model = ResNet(blocks=3, width=16, channels=3)
    count = sum(p.numel() for p in model.parameters())
    assert abs(count - 0.27e6) < 0.005e6  # He et al., table 6: 0.27M
    shortcuts = [name for name, _ in model.named_modules() if name.endswith("cut.0")]
    assert len(layers(model)) - len(shortcuts) == 20
    assert shortcuts == ["stages.1.0.shortcut.0", "stages.2.0.shortcut.0"]


@settings(max_examples=10, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(2, 5), st.integers(5, 20)
)
def test_pictures_of_any_size_become_logits(blocks, width, channels, stride, classes, side):
    model = ResNet(blocks, width, channels, stride, classes)
    assert model(torch.rand(3, channels, side, side)).shape == (3, classes)


@pytest.mark.parametrize("stem_stride, side", [(1, 28), (2, 14)])
def test_the_second_and_third_stage_halve_the_picture_and_double_the_channels(stem_stride, side):
    model = ResNet(blocks=1, width=4, stem_stride=stem_stride)
    x = model.stem(torch.rand(2, 1, 28, 28))
    shapes = []
    for stage in model.stages:
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    half, quarter = -(-side // 2), -(-side // 4)
    assert shapes == [(4, side, side), (8, half, half), (16, quarter, quarter)]


def test_a_block_that_adds_nothing_hands_its_input_on():
    model = ResNet(blocks=2, width=4).eval()
    block = model.stages[0][1]
    nn.init.zeros_(block.conv2.weight)
    x = torch.rand(2, 4, 7, 7)
    assert torch.equal(block(x), x)


def test_a_size_of_zero_is_refused_by_name():
    with pytest.raises(ValueError, match="width=0"):
        ResNet(width=0)


def test_convolutions_and_the_output_are_prunable_and_norms_are_not():
    model = ResNet(blocks=1, width=4)
    masks = Masks.ones(prunable_parameters(model))
    assert masks.total == sum(layer.weight.numel() for layer in layers(model))


def test_channels_that_a_residual_stream_joins_go_together():
    model = ResNet(blocks=2, width=4).eval()
    names = list(prunable_parameters(model))
    labels = couple(model, names, torch.rand(1, 1, 28, 28)).labels
    made = {name: set(labels[name][0].flatten().tolist()) for name in names}
    stream = made["stages.1.0.conv2.weight"]
    assert len(stream) == 8
    assert stream == made["stages.1.0.shortcut.0.weight"]
    assert stream == made["stages.1.1.conv2.weight"]
    assert not stream & made["stages.1.1.conv1.weight"]
    taken = set(labels["output.weight"][1].flatten().tolist())
    assert taken == made["stages.2.1.conv2.weight"]


def test_it_learns_stripes():
    torch.manual_seed(0)
    y = torch.arange(64) % 2
    x = 0.3 * torch.randn(64, 1, 12, 12)
    x[y == 0, :, ::2] += 1
    x[y == 1, :, :, ::2] += 1
    model = ResNet(1, 4, classes=2, optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9))
    optimizer = model.configure_optimizers()
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        losses.append(nn.functional.cross_entropy(model(x), y))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 10
