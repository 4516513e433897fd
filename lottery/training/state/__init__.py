"""The state of live objects: what training changes outside of any `state_dict`, captured as plain data and put back."""

from lottery.training.state.classes import describe
from lottery.training.state.generators import is_generator, reseed
from lottery.training.state.graph import Root
from lottery.training.state.numbers import TAG, Plain
from lottery.training.state.objects import Changes, Objects, Snapshot
from lottery.training.state.tensors import tensors_kept
from lottery.training.state.values import Unstorable, decode, encode, fill, is_plain, same

__all__ = [
    "TAG",
    "Changes",
    "Objects",
    "Plain",
    "Root",
    "Snapshot",
    "Unstorable",
    "decode",
    "describe",
    "encode",
    "fill",
    "is_generator",
    "is_plain",
    "reseed",
    "same",
    "tensors_kept",
]
