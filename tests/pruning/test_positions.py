"""Units at the same position of each part go together, so that what splits and groups them shrinks as the masks say."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lottery.deploy.compaction.compaction import compact
from lottery.masks.masks import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.graph.sizes import Size
from lottery.pruning.pruning import Pruning
from lottery.pruning.structures import resolve
from lottery.tickets.baking import bake

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def conv(inputs, outputs, kernel=1, **options):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **options),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Network(nn.Module):
    """A stem, what `body` makes of its channels, and an output for the mean of each channel."""

    def __init__(self, body, width=16, out=16):
        super().__init__()
        self.stem, self.body, self.output = conv(3, width, 3), body, nn.Linear(out, 3)

    def forward(self, x):
        return self.output(self.body(self.stem(x)).mean((2, 3)))


class C2f(nn.Module):
    """YOLOv8: one half also goes through blocks, and all is concatenated."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = conv(16, 16), conv(8, 8, 3), conv(24, 16)

    def forward(self, x):
        a, b = self.one(x).chunk(2, 1)
        return self.three(torch.cat([a, b, self.two(b) + b], 1))


class Shuffle(nn.Module):
    """ShuffleNet V2: one half passes, one is convolved, and their channels are shuffled."""

    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(conv(8, 8), conv(8, 8, 3, groups=8), conv(8, 8))

    def forward(self, x):
        a, b = x.chunk(2, dim=1)
        x = torch.cat((a, self.branch(b)), dim=1)
        n, channels, height, width = x.shape
        x = x.view(n, 2, channels // 2, height, width)
        return x.transpose(1, 2).contiguous().view(n, channels, height, width)


class CrossStage(nn.Module):
    """CSPNet: a half passes by the blocks, split by its size."""

    def __init__(self):
        super().__init__()
        self.blocks, self.merge = nn.Sequential(conv(8, 8, 3), conv(8, 8, 3)), conv(16, 16)

    def forward(self, x):
        left, right = x.split(x.shape[1] // 2, dim=1)
        return self.merge(torch.cat([left, self.blocks(right)], 1))


class Res2(nn.Module):
    """Res2Net: each part is added to the one before."""

    def __init__(self):
        super().__init__()
        self.one, self.parts, self.three = conv(16, 16), nn.ModuleList(conv(4, 4, 3) for _ in range(3)), conv(16, 16)

    def forward(self, x):
        first, *others = torch.tensor_split(self.one(x), 4, 1)
        made = [first]
        for part, block in zip(others, self.parts, strict=True):
            made.append(block(part + made[-1]))
        return x + self.three(torch.cat(made, 1))


class Selective(nn.Module):
    """SKNet: branches are stacked, and each channel chooses between them."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList([conv(16, 16, 3, groups=4), conv(16, 16, 3, groups=4)])
        self.reduce, self.select = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 32, 1)

    def forward(self, x):
        made = torch.stack([branch(x) for branch in self.branches], 1)
        gate = self.select(F.relu(self.reduce(made.sum(1).mean((2, 3), keepdim=True))))
        gate = gate.view(len(x), 2, made.shape[2], 1, 1).softmax(1)
        return (made * gate).sum(1)


class PartlyResidual(nn.Module):
    """ReXNet: what comes in is added to the first channels alone."""

    def __init__(self):
        super().__init__()
        self.wider = conv(16, 20)

    def forward(self, x):
        y = self.wider(x)
        return torch.cat([y[:, : x.shape[1]] + x, y[:, x.shape[1] :]], 1)


class DualPath(nn.Module):
    """DPN: some channels are added, as many as the code says, the others are concatenated."""

    def __init__(self):
        super().__init__()
        self.one, self.two = conv(16, 20, 3), conv(24, 16)

    def forward(self, x):
        y = self.one(x)
        y = torch.cat([x[:, :12] + y[:, :12], x[:, 12:], y[:, 12:]], 1)
        return self.two(y)


class Gaps(nn.Module):
    """Zeros between the channels of two layers."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = conv(16, 6), conv(16, 7), conv(16, 16)

    def forward(self, x):
        a, b = self.one(x), self.two(x)
        return self.three(torch.cat([a, torch.zeros_like(b)[:, :3], b], 1))


class Inception(nn.Module):
    """InceptionNeXt: parts of written sizes go through convolutions of their own."""

    def __init__(self):
        super().__init__()
        self.square, self.merge = conv(4, 4, 3, groups=4), conv(16, 16)

    def forward(self, x):
        rest, part = torch.split(x, (12, 4), dim=1)
        return self.merge(torch.cat((rest, self.square(part)), 1))


class Products(nn.Module):
    """Matrices of its own in place of layers."""

    def __init__(self):
        super().__init__()
        self.one, self.two = (nn.Parameter(torch.randn(16, 16)) for _ in range(2))
        self.shift = nn.Parameter(torch.randn(16))

    def forward(self, x):
        x = (x.flatten(2).mT @ self.one + self.shift).tanh()
        return torch.matmul(x, self.two).mT.unflatten(2, (8, 8))


class Attention(nn.Module):
    """Heads of a size that the code writes, with a causal mask; q, k and v of one layer or of three."""

    def __init__(self, fused):
        super().__init__()
        self.qkv = nn.ModuleList([nn.Linear(16, 48)] if fused else [nn.Linear(16, 16) for _ in range(3)])
        self.out = nn.Linear(16, 16)
        self.register_buffer("mask", torch.ones(64, 64, dtype=torch.bool).tril())

    def forward(self, x):
        x = x.flatten(2).mT
        if len(self.qkv) == 1:
            q, k, v = self.qkv[0](x).reshape(len(x), x.shape[1], 3, -1, 4).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = (part(x).view(len(x), x.shape[1], -1, 4).transpose(1, 2) for part in self.qkv)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)
        return self.out(y.transpose(1, 2).flatten(2)).mT.unflatten(2, (8, 8))


# each with how many channels, alone or together, it can lose
KINDS = {
    "C2f": (C2f, 16 + 8 + 16),
    "ShuffleNet": (Shuffle, 8 + 8),
    "CSP": (CrossStage, 8 + 8 + 8 + 16),
    "Res2Net": (Res2, 16 + 4 + 4),
    "grouped": (lambda: nn.Sequential(conv(16, 32), conv(32, 32, 3, groups=8), conv(32, 16)), 16 + 4 + 4 + 16),
    "SK": (Selective, 4 + 8 + 4),
    "ReXNet": (PartlyResidual, 16),
    "DPN": (DualPath, 4 + 8 + 16),
    "gaps": (Gaps, 16 + 6 + 7 + 16),
    "InceptionNeXt": (Inception, 16),
    "products": (Products, 16 + 16 + 16),
    "attention": (lambda: Attention(fused=False), 16 + 4 + 16),
    "attention, fused": (lambda: Attention(fused=True), 16 + 4 + 16),
}


def rough(module):
    torch.manual_seed(0)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.ndim == 1:
            nn.init.uniform_(tensor, 0.5, 2) if "var" in name else nn.init.normal_(tensor)
    return module.double().eval()


@pytest.mark.parametrize("kind", KINDS)
def test_half_of_the_channels_go_as_the_masks_say_and_the_network_stays_the_same(kind):
    module = rough(Network(KINDS[kind][0](), out=20 if kind == "ReXNet" else 16))
    parameters = prunable_parameters(module, [n for n, p in module.named_parameters() if p.ndim > 1])
    assert resolve("channel").groups(Masks.ones(parameters), module, X).count == KINDS[kind][1]
    masks = Pruning(0.5, structure="channel", scope="layerwise", collapse="warn").next_masks(
        {n: p.detach().abs() for n, p in parameters.items()}, Masks.ones(parameters), 1, module=module, example_input=X
    )
    bake(module, masks)
    expected = copy.deepcopy(module)(X)
    small = compact(module, X)
    assert not small.stayed
    assert small.removed
    for name, mask in masks.items():
        rows, columns = (mask.transpose(0, d).flatten(1).any(1) for d in (0, 1))
        assert small.module.get_parameter(name).shape[:2] == (int(rows.sum()), int(columns.sum()))
    torch.testing.assert_close(small.module(X), expected, rtol=1e-12, atol=1e-12)


def test_sizes_follow_what_is_computed_from_them():
    half = Size(8) // 2
    assert (half, half.share * 2) == (4, 1)
    assert (Size(8) - half).share == half.share
    assert type(Size(8) - Size(8)) is type(Size(9) // 2) is type(Size(8) % 3) is type(copy.copy(half)) is int
