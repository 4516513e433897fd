"""Residual networks for small pictures, among them ResNet-20."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lottery.tasks.models.classifier import Classifier, LRSchedulerCallable, OptimizerCallable


class Block(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm, added to what came in.

    Where the shape changes, what came in goes through a 1 x 1 convolution with BatchNorm (option B of the paper).

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        stride: Of the first convolution; 2 halves height and width.

    Example:
        >>> Block(8, 16, stride=2)(torch.zeros(3, 8, 14, 14)).shape
        torch.Size([3, 16, 7, 7])
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential()
        if stride > 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Features of `channels_out` channels, not negative."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(Classifier):
    """A ResNet for small pictures: three stages of blocks, with `width`, twice and four times `width` channels.

    A 3 x 3 convolution comes first; the second and the third stage halve height and width; the mean over what is left
    feeds a linear layer. Convolutions start from Kaiming's normal distribution. The network has 6 `blocks` + 2 layers:
    ResNet-20 of the paper is ``blocks=3, width=16``.

    Args:
        blocks: Residual blocks per stage.
        width: Channels of the first stage.
        channels: Channels of a picture.
        stem_stride: Stride of the first convolution. 2 makes training about four times cheaper.
        classes: Number of labels.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes a scheduler that is stepped once an epoch.

    Raises:
        ValueError: A size is not positive.

    Example:
        >>> ResNet(blocks=1, width=8, channels=3)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])

    Source: K. He, X. Zhang, S. Ren and J. Sun, Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2;
    with projections as in J. Frankle et al., Linear Mode Connectivity and the Lottery Ticket Hypothesis, ICML 2020.
    """

    def __init__(
        self,
        blocks: int = 3,
        width: int = 16,
        channels: int = 1,
        stem_stride: int = 1,
        classes: int = 10,
        optimizer: OptimizerCallable = torch.optim.SGD,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler)
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        for name in ("blocks", "width", "channels", "stem_stride", "classes"):
            if self.hparams[name] < 1:
                raise ValueError(f"{name}={self.hparams[name]} must be at least 1.")
        self.stem = nn.Conv2d(channels, width, 3, stem_stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        stages = []
        before = width
        for after, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
            rest = (Block(after, after) for _ in range(blocks - 1))
            stages.append(nn.Sequential(Block(before, after, stride), *rest))
            before = after
        self.stages = nn.Sequential(*stages)
        self.output = nn.Linear(before, classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (samples, classes)."""
        x = F.relu(self.bn(self.stem(x)))
        return self.output(self.stages(x).mean((2, 3)))
