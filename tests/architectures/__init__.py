"""Small networks of the kinds that people prune, each with inputs of several sizes."""

from architectures import convolutional, others, sequential
from architectures.made import ARCHITECTURES, Inputs, Made

__all__ = ["ARCHITECTURES", "Inputs", "Made", "convolutional", "others", "sequential"]
