"""The state of live objects: what training changes outside of any `state_dict`, captured as plain data and put back."""

from lottery.state.classes import describe
from lottery.state.generators import is_generator, reseed
from lottery.state.graph import Root
from lottery.state.numbers import TAG
from lottery.state.objects import Changes, Objects, Snapshot
from lottery.state.tensors import tensors_kept
from lottery.state.values import (
    Unstorable,
    decode,
    encode,
    fill,
    is_plain,
    same,
)

__all__ = [
    "TAG",
    "Changes",
    "Objects",
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
