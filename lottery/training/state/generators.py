"""Generators of random numbers of torch, NumPy and Python, and their states."""

from __future__ import annotations

import random
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import torch

Generator: TypeAlias = (
    torch.Generator | random.Random | np.random.Generator | np.random.RandomState | np.random.BitGenerator
)


def is_generator(value: object) -> TypeGuard[Generator]:
    """Whether a value is a generator of random numbers."""
    kinds = (*(torch.Generator, random.Random), *(np.random.Generator, np.random.RandomState, np.random.BitGenerator))
    return isinstance(value, kinds) and not isinstance(value, random.SystemRandom)


def reseed(generator: Generator, seed: int) -> None:
    """Start a generator anew."""
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        bits.state = type(bits)(seed).state
    elif isinstance(generator, np.random.BitGenerator):
        generator.state = type(generator)(seed).state
    elif isinstance(generator, np.random.RandomState):
        generator.seed(seed % 2**32)
    else:
        generator.seed(seed)


def state_of(generator: Generator) -> tuple[str, object]:
    """Whose a generator is, and the state that it is in."""
    if isinstance(generator, torch.Generator):
        return "torch", generator.get_state()
    if isinstance(generator, np.random.Generator):
        return "numpy", generator.bit_generator.state
    if isinstance(generator, np.random.BitGenerator):
        return "numpy bits", generator.state
    if isinstance(generator, np.random.RandomState):
        return "numpy legacy", generator.get_state(legacy=True)
    return "python", generator.getstate()


def put_state(generator: Generator, state: Any) -> None:
    """Put a generator into a state of its kind."""
    if isinstance(generator, (torch.Generator, np.random.RandomState)):
        generator.set_state(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.BitGenerator):
        generator.state = state
    else:
        generator.setstate(state)


def in_state(of: str, state: Any) -> Generator:
    """A new generator in a state that `state_of` gave."""
    found: Generator
    if of == "torch":
        found = torch.Generator()
    elif of == "numpy":
        found = np.random.Generator(getattr(np.random, state["bit_generator"])())
    elif of == "numpy bits":
        found = getattr(np.random, state["bit_generator"])()
    elif of == "numpy legacy":
        found = np.random.RandomState()
    else:
        found = random.Random()
    put_state(found, state)
    return found
