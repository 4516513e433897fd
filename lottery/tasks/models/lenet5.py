"""LeNet-5 as Caffe has it: a small convolutional network that pruning papers measure on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lottery.tasks.models.classifier import Classifier, LRSchedulerCallable, OptimizerCallable


class LeNet5(Classifier):
    """LeNet-5 of Caffe, "20-50-800-500": two 5 x 5 convolutions with pooling, two linear layers, 431 080 parameters.

    For pictures of 28 x 28 in grey. Every hidden layer has a ReLU, where Caffe has one only behind the first linear
    layer. Weights start from Kaiming's normal distribution, biases from zero.

    Args:
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes a scheduler that is stepped once an epoch.

    Example:
        >>> LeNet5()(torch.zeros(3, 1, 28, 28)).shape
        torch.Size([3, 10])

    Source: Y. Jia et al., Caffe: Convolutional Architecture for Fast Feature Embedding, 2014, `examples/mnist`; pruned
        by
    channels in C. Louizos, K. Ullrich and M. Welling, Bayesian Compression for Deep Learning, NeurIPS 2017, section 5.
    """

    def __init__(
        self, optimizer: OptimizerCallable = torch.optim.Adam, lr_scheduler: LRSchedulerCallable | None = None
    ) -> None:
        super().__init__(optimizer, lr_scheduler)
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.hidden = nn.Linear(50 * 4 * 4, 500)
        self.output = nn.Linear(500, 10)
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            else:
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (samples, 10)."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.output(F.relu(self.hidden(x.flatten(1))))
