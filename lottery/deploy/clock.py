"""The clock by which networks are timed."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.utils.benchmark import timer


def alone(device: torch.device) -> bool:
    """Whether all work is done by one thread, so that its processor time can be taken."""
    return device.type == "cpu" and torch.get_num_threads() == 1


def clock_of(device: torch.device) -> Callable[[], float]:
    """Seconds: of processor time where one thread of the CPU works alone, which equals time on an idle machine and
    leaves out what other processes take; else by the clock, once the device is done.
    """
    return time.thread_time if alone(device) else timer
