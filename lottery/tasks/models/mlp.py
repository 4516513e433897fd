"""Fully connected networks, among them LeNet-300-100."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lottery.tasks.models.classifier import Classifier, LRSchedulerCallable, OptimizerCallable

# Standard deviation of a standard normal that is cut off at -2 and 2.
TRUNCATED_DEVIATION = 0.87962566103423978


def glorot_normal_(weight: Tensor) -> Tensor:
    """Fill a matrix from Glorot's normal distribution, as TensorFlow does.

    The distribution is cut off at two standard deviations and widened so that the
    variance after the cut is 2 / (inputs + outputs).

    Args:
        weight: Tensor of shape (outputs, inputs), filled in place.

    Example:
        >>> glorot_normal_(torch.empty(100, 300)).std().round(decimals=2)
        tensor(0.0700)

    Source: X. Glorot and Y. Bengio, Understanding the difficulty of training deep
    feedforward neural networks, AISTATS 2010; the cut is TensorFlow's
    `glorot_normal_initializer`.
    """
    outputs, inputs = weight.shape
    deviation = sqrt(2 / (inputs + outputs)) / TRUNCATED_DEVIATION
    return nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)


class MLP(Classifier):
    """A fully connected network with ReLUs between its layers.

    Weights start from Glorot's normal distribution, biases from zero, as in Frankle
    and Carbin's LeNet. The layers are called `hidden.0`, `hidden.1`, ... and `output`.

    Args:
        inputs: Numbers per sample. Samples of more dimensions are flattened.
        hidden: Width of each hidden layer; none makes a linear classifier.
        classes: Number of labels.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes a scheduler that is stepped once an epoch.

    Raises:
        ValueError: A width is not positive.

    Example:
        >>> model = MLP(64, hidden=(100, 50))
        >>> model(torch.zeros(3, 8, 8)).shape
        torch.Size([3, 10])
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int] = (300, 100),
        classes: int = 10,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler)
        hidden = list(hidden)
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        widths = [inputs, *hidden, classes]
        if min(widths) < 1:
            raise ValueError(f"The layers need positive widths, but have {widths}.")
        *layers, output = (nn.Linear(i, o) for i, o in pairwise(widths))
        self.hidden = nn.ModuleList(layers)
        self.output = output
        for layer in [*layers, output]:
            glorot_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (samples, classes)."""
        x = x.flatten(1)
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.output(x)


class LeNet300(MLP):
    """LeNet-300-100: 784 inputs, layers of 300, 100 and 10, 266 610 parameters.

    Frankle and Carbin train it on MNIST with Adam at 1.2e-3 and batches of 60, and
    prune 20 % of the hidden layers and 10 % of the output layer per round.

    Args:
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes a scheduler that is stepped once an epoch.

    Example:
        >>> LeNet300()(torch.zeros(3, 1, 28, 28)).shape
        torch.Size([3, 10])

    Source: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning
    applied to document recognition, Proceedings of the IEEE 86 (1998); J. Frankle and
    M. Carbin, The Lottery Ticket Hypothesis, ICLR 2019, arXiv 1803.03635, section 2.
    """

    def __init__(
        self, optimizer: OptimizerCallable = torch.optim.Adam, lr_scheduler: LRSchedulerCallable | None = None
    ) -> None:
        super().__init__(784, (300, 100), 10, optimizer, lr_scheduler)
