"""Benchmark tasks: small data sets, in memory, with a fixed and resumable order."""

from lottery.tasks.data.digits import Digits
from lottery.tasks.data.fashion_mnist import FashionMNIST
from lottery.tasks.data.in_memory import InMemory, Split, Splits
from lottery.tasks.data.loader import BatchLoader
from lottery.tasks.data.mnist1d import MNIST1D

__all__ = ["MNIST1D", "BatchLoader", "Digits", "FashionMNIST", "InMemory", "Split", "Splits"]
