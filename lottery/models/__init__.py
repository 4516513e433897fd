"""Benchmark models: small classifiers that the recipes train."""

from lottery.models.classifier import Classifier
from lottery.models.lenet5 import LeNet5
from lottery.models.mlp import MLP, LeNet300
from lottery.models.resnet import ResNet

__all__ = ["MLP", "Classifier", "LeNet5", "LeNet300", "ResNet"]
