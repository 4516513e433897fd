"""Benchmark tasks: small data sets, in memory, with a fixed and resumable order."""

from lottery.data.digits import Digits
from lottery.data.fashion_mnist import FashionMNIST
from lottery.data.in_memory import InMemory, Split, Splits
from lottery.data.loader import BatchLoader
from lottery.data.mnist1d import MNIST1D

__all__ = [
    "MNIST1D",
    "BatchLoader",
    "Digits",
    "FashionMNIST",
    "InMemory",
    "Split",
    "Splits",
]
