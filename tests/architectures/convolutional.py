"""Networks for images, as papers describe them, small."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from architectures.made import Made, Plus, architecture, convolved, images, pooled, signals


class LeNet5(nn.Module):
    """LeCun et al. (1998), with a view by a number written in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.three, self.four, self.five = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.one(x)), 2)
        x = F.max_pool2d(F.relu(self.two(x)), 2).view(-1, 400)
        return self.five(F.relu(self.four(F.relu(self.three(x)))))


@architecture
def lenet5() -> Made:
    return LeNet5(), images(1, 32, fixed=True)


@architecture
def vgg() -> Made:
    layers = [convolved(3, 8), convolved(8, 8), nn.MaxPool2d(2), convolved(8, 16), convolved(16, 16), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, pooled(16)), images()


class PreActivation(nn.Module):
    """He et al. (2016b)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.short = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        short = x if self.short is None else self.short(y)
        return short + self.conv2(F.relu(self.norm2(self.conv1(y))))


@architecture
def preactivation_resnet() -> Made:
    blocks = [PreActivation(8, 8, 1), PreActivation(8, 16, 2), PreActivation(16, 16, 1)]
    return nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), *blocks, nn.BatchNorm2d(16), nn.ReLU(), pooled(16)), images()


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], 1)


@architecture
def densenet() -> Made:
    block = nn.Sequential(DenseLayer(8, 4), DenseLayer(12, 4), nn.Conv2d(16, 8, 1), nn.AvgPool2d(2), DenseLayer(8, 4))
    return nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), block, nn.BatchNorm2d(12), nn.ReLU(), pooled(12)), images()


class Inception(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.one = convolved(inputs, 4, 1)
        self.three = nn.Sequential(convolved(inputs, 4, 1), convolved(4, 6))
        self.five = nn.Sequential(convolved(inputs, 4, 1), convolved(4, 4, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), convolved(inputs, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in (self.one, self.three, self.five, self.pool)], dim=1)


@architecture
def inception() -> Made:
    return nn.Sequential(convolved(3, 8), Inception(8), nn.MaxPool2d(2), Inception(16), pooled(16)), images()


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()


@architecture
def squeeze_and_excitation() -> Made:
    block = Plus(convolved(8, 16, 1), convolved(16, 16, groups=16), SqueezeExcite(16), nn.Conv2d(16, 8, 1))
    return nn.Sequential(convolved(3, 8, stride=2), block, pooled(8)), images()


class BlockAttention(nn.Module):
    """CBAM: attention over channels, then over places (Woo et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels, 4), nn.ReLU(), nn.Linear(4, channels))
        self.places = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        x = x * gate.sigmoid()[:, :, None, None]
        return x * self.places(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()


@architecture
def block_attention() -> Made:
    return nn.Sequential(convolved(3, 8), convolved(8, 8), BlockAttention(8), convolved(8, 8), pooled(8)), images()


class ShuffleUnit(nn.Module):
    """Of ShuffleNet V2 (Ma et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            convolved(half, half, 1), nn.Conv2d(half, half, 3, 1, 1, groups=half), convolved(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        x = torch.cat((left, self.branch(right)), dim=1)
        batch, channels, height, width = x.shape
        return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)


@architecture
def shufflenet() -> Made:
    return nn.Sequential(convolved(3, 8), ShuffleUnit(8), ShuffleUnit(8), convolved(8, 16, 1), pooled(16)), images()


class CrossStage(nn.Module):
    """C2f of YOLOv8: halves, of which one goes on through bottlenecks, all concatenated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.enter, self.leave = convolved(channels, channels, 1), convolved(2 * channels, channels, 1)
        self.blocks = nn.ModuleList([Plus(convolved(half, half), convolved(half, half)) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.leave(torch.cat(parts, 1))


@architecture
def cross_stage_partial() -> Made:
    return nn.Sequential(convolved(3, 8), CrossStage(8), nn.MaxPool2d(2), CrossStage(8), pooled(8)), images()


class SelectiveKernel(nn.Module):
    """Li et al. (2019): a softmax between two branches, for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.three, self.five = convolved(channels, channels), convolved(channels, channels, 5)
        self.squeeze = nn.Linear(channels, 4)
        self.select = nn.ModuleList([nn.Linear(4, channels), nn.Linear(4, channels)])

    def forward(self, x: Tensor) -> Tensor:
        branches = torch.stack([self.three(x), self.five(x)], 1)
        z = F.relu(self.squeeze(branches.sum(1).mean((2, 3))))
        weights = torch.stack([layer(z) for layer in self.select], 1).softmax(1)
        return (branches * weights[..., None, None]).sum(1)


@architecture
def selective_kernel() -> Made:
    return nn.Sequential(convolved(3, 8), SelectiveKernel(8), convolved(8, 8), pooled(8)), images()


class Scales(nn.Module):
    """Of Res2Net (Gao et al. 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = channels // 4
        self.enter, self.leave = convolved(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.convs = nn.ModuleList([convolved(self.width, self.width) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        parts = self.enter(x).chunk(4, 1)
        found = [parts[0]]
        for part, conv in zip(parts[1:], self.convs, strict=True):
            found.append(conv(part if len(found) == 1 else part + found[-1]))
        return F.relu(x + self.leave(torch.cat(found, 1)))


@architecture
def res2net() -> Made:
    return nn.Sequential(convolved(3, 8), Scales(8), convolved(8, 8), pooled(8)), images()


@architecture
def resnext() -> Made:
    block = Plus(convolved(8, 16, 1), convolved(16, 16, groups=4), nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8))
    return nn.Sequential(convolved(3, 8), block, nn.ReLU(), pooled(8)), images()


class Ghost(nn.Module):
    """Han et al. (2020): half of the channels are a cheap function of the other half."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.primary, half = convolved(inputs, outputs // 2, 1), outputs // 2
        self.cheap = convolved(half, half, groups=half)

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(x)
        return torch.cat([x, self.cheap(x)], 1)


@architecture
def ghostnet() -> Made:
    return nn.Sequential(convolved(3, 8), Ghost(8, 16), Ghost(16, 8), pooled(8)), images()


class UNet(nn.Module):
    """Ronneberger et al. (2015)."""

    def __init__(self, transposed: bool, added: bool) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = convolved(1, 8), convolved(8, 16), convolved(16, 16)
        self.up = nn.ConvTranspose2d(16, 16, 2, 2) if transposed else nn.Upsample(scale_factor=2)
        self.up2, self.added = convolved(16 if added else 32, 8), added
        self.output = nn.Conv2d(8 if added else 16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        y = self.up(self.bottom(F.max_pool2d(two, 2)))
        y = F.interpolate(self.up2(y + two if self.added else torch.cat([y, two], 1)), scale_factor=2.0)
        return self.output(y + one if self.added else torch.cat([one, y], 1))


@architecture
def unet() -> Made:
    return UNet(transposed=True, added=False), images(1)


@architecture
def unet_upsampled() -> Made:
    return UNet(transposed=False, added=False), images(1)


@architecture
def unet_added() -> Made:
    return UNet(transposed=True, added=True), images(1)


class FeaturePyramid(nn.Module):
    """Lin et al. (2017), with one head over every level; gives a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([convolved(3, 8), convolved(8, 16, stride=2), convolved(16, 16, stride=2)])
        self.lateral = nn.ModuleList([nn.Conv2d(n, 8, 1) for n in (8, 16, 16)])
        self.head = nn.Sequential(convolved(8, 8), nn.Conv2d(8, 4, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        levels = []
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            x = stage(x)
            levels.append(lateral(x))
        found = {"p2": levels[2]}
        found["p1"] = levels[1] + F.interpolate(levels[2], size=levels[1].shape[-2:])
        found["p0"] = levels[0] + F.interpolate(found["p1"], size=levels[0].shape[-2:])
        return {name: self.head(level) for name, level in found.items()}


@architecture
def feature_pyramid() -> Made:
    return FeaturePyramid(), images()


@architecture
def generator() -> Made:
    """DCGAN's (Radford et al. 2016)."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((6, 16, 1), (16, 8, 2)):
        layers += [
            nn.ConvTranspose2d(inputs, outputs, 4, stride, stride - 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()), images(6, 1)


@architecture
def discriminator() -> Made:
    layers = []
    for inputs, outputs in ((3, 8), (8, 16)):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2), nn.Dropout2d(0.2)]
    return nn.Sequential(*layers, pooled(16, 1)), images()


@architecture
def grouped_transposed() -> Made:
    up = nn.ConvTranspose2d(8, 8, 4, 2, 1, groups=2)
    return nn.Sequential(convolved(3, 8), up, nn.ReLU(), convolved(8, 8), pooled(8)), images()


class StandardizedConv(nn.Conv2d):
    """Weight standardisation (Qiao et al. 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


@architecture
def weight_standardization() -> Made:
    layers = [StandardizedConv(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    layers += [StandardizedConv(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*layers, pooled(8)), images()


@architecture
def group_norm() -> Made:
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(16, 8, 3, padding=1), nn.GroupNorm(2, 8), pooled(8)), images()


@architecture
def instance_norm() -> Made:
    """Of style transfer: statistics of one channel alone."""
    layers = [nn.ReflectionPad2d(1), nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(8, 8, 3, padding=1), nn.InstanceNorm2d(8), nn.ReLU(), pooled(8)), images()


@architecture
def volumes() -> Made:
    layers = [
        nn.Conv3d(1, 4, 3, padding=1),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(4, 8, 3),
        nn.ReLU(),
    ]
    head = [nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3)]
    return nn.Sequential(*layers, *head), lambda batch, more: torch.randn(batch, 1, 8, 8 + 4 * more, 8)


class Causal(nn.Module):
    """A gated, dilated, causal convolution of WaveNet (van den Oord et al. 2016)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.filter = nn.Conv1d(channels, channels, 2, dilation=dilation)
        self.gate = nn.Conv1d(channels, channels, 2, dilation=dilation)
        self.out, self.skip, self.dilation = nn.Conv1d(channels, channels, 1), nn.Conv1d(channels, 8, 1), dilation

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        padded = F.pad(x, (self.dilation, 0))
        y = torch.tanh(self.filter(padded)) * torch.sigmoid(self.gate(padded))
        return x + self.out(y), self.skip(y)


class WaveNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv1d(2, 8, 1)
        self.blocks = nn.ModuleList([Causal(8, 2**k) for k in range(3)])
        self.leave = nn.Sequential(nn.ReLU(), nn.Conv1d(8, 8, 1), nn.ReLU(), nn.Conv1d(8, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        total: Tensor | int = 0
        for block in self.blocks:
            x, skip = block(x)
            total = total + skip
        return self.leave(total)


@architecture
def wavenet() -> Made:
    return WaveNet(), signals(2)


class ConvNeXtBlock(nn.Module):
    """Liu et al. (2022)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(channels, channels, 7, 1, 3, groups=channels), nn.LayerNorm(channels)
        self.widen, self.narrow = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.narrow(F.gelu(self.widen(y)))
        return x + y.permute(0, 3, 1, 2)


@architecture
def convnext() -> Made:
    return nn.Sequential(nn.Conv2d(3, 8, 2, 2), ConvNeXtBlock(8), ConvNeXtBlock(8), pooled(8)), images()
