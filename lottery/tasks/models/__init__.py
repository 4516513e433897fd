"""Benchmark models: small classifiers that the recipes train."""

from lottery.tasks.models.classifier import Classifier
from lottery.tasks.models.lenet5 import LeNet5
from lottery.tasks.models.mlp import MLP, LeNet300
from lottery.tasks.models.resnet import ResNet

__all__ = ["MLP", "Classifier", "LeNet5", "LeNet300", "ResNet"]
