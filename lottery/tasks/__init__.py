"""What recipes train: small data sets, in memory, with a fixed and resumable order, and small classifiers."""

from lottery.tasks.data import MNIST1D, BatchLoader, Digits, FashionMNIST, InMemory, Split, Splits
from lottery.tasks.models import MLP, Classifier, LeNet5, LeNet300, ResNet

__all__ = [
    "MLP",
    "MNIST1D",
    "BatchLoader",
    "Classifier",
    "Digits",
    "FashionMNIST",
    "InMemory",
    "LeNet5",
    "LeNet300",
    "ResNet",
    "Split",
    "Splits",
]
