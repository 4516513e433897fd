"""The files of a run directory: what each is called, and how masks are written in one."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path

from lottery.foundations.steps import Step
from lottery.masks.history import MaskHistory
from lottery.storage.declared import check_declared, least_size
from lottery.storage.directory import Directory
from lottery.storage.encoding import decode, decode_json, decode_metadata, decode_tensors, encode_tensors
from lottery.storage.files import local_path

STATE = "lottery"  # the key of what a run adds to a Lightning checkpoint
CALLBACK = "LotteryTicket"  # the key of the callback's state among those of others there
STUDY = "study.json"  # what makes a directory a study

RUN = "run.json"
LAST = "last.ckpt"  # the round in progress
INITIAL = "initial.safetensors"
START = "start.ckpt"  # the state that round 0 began from, until it is finished; where that is the rewind point, there
REWIND = "rewind.ckpt"
GOAL = "goal.json"  # how many rounds were last asked for
SUMMARY = "summary.json"  # of each round: with it, it is finished
HISTORY = "history.json"  # of each round: its metrics over time
TRAINED = "weights.safetensors"  # of each round that keeps them
MOVED = "moved.safetensors"  # the last masks of a round in which they moved
END = "end.ckpt"  # the optimizers at the end of the latest round, of each round for rules that need them
RETRIED = "retried.json"  # of a round that is trained otherwise than the others, since it had diverged
BARRIER = "barrier.json"  # the error barrier of the training
GATHERED = "gathered.safetensors"  # what a score gathered while a round trained

FOLDERS = ("rounds", "masks", "snapshots")  # of a run, which hold no other run

_OF_ROUNDS = "|".join(map(re.escape, (SUMMARY, HISTORY, TRAINED, MOVED, END, GATHERED, RETRIED)))
_OF_RUNS = "|".join(map(re.escape, (RUN, LAST, INITIAL, START, REWIND, GOAL, END, BARRIER)))
_KNOWN = re.compile(
    rf"{_OF_RUNS}|rounds/\d{{2,6}}/(?:{_OF_ROUNDS})|masks/\d{{2,6}}\.safetensors|snapshots/(?:init|\d[\depit]*)\.ckpt"
)


def run_directory(path: str | os.PathLike[str]) -> Directory:
    """The directory of a run, wherever the process goes; its round in progress can be trained again.

    Raises:
        ValueError: the path is the URL of a store.
    """
    return Directory(local_path(path).absolute(), loose=(LAST,), known=is_known)


def is_known(name: str) -> bool:
    """Whether a file of a run directory has this name.

    Example:
        >>> is_known("rounds/07/summary.json"), is_known("../summary.json"), is_known("notes.txt")
        (True, False, False)
    """
    return _KNOWN.fullmatch(name) is not None


def round_file(number: int, name: str) -> str:
    """Path of a round's file inside a run directory."""
    return f"rounds/{number:02d}/{name}"


def finished_rounds(names: Iterable[str]) -> list[int]:
    """The rounds that are finished, by the names of the files of a run, in order."""
    parts = [name.split("/") for name in names]
    return sorted(int(p[1]) for p in parts if p[0] == "rounds" and p[2:] == [SUMMARY])


def lost_its_manifest(path: Path) -> bool:
    """Whether a directory without a manifest holds what was trained."""
    return (path / LAST).exists() or any(path.glob(f"rounds/*/{SUMMARY}"))


def last_begun(names: Iterable[str]) -> int:
    """The last round that has masks, by the names of the files of a run."""
    parts = [name.split("/") for name in names]
    return max(int(p[1].partition(".")[0]) for p in parts if p[0] == "masks")


def masks_file(number: int) -> str:
    """Path of the masks of all rounds up to this one, inside a run directory."""
    return f"masks/{number:02d}.safetensors"


def snapshot_file(step: Step) -> str:
    """Path of the state at a step of round 0, inside a run directory."""
    return f"snapshots/{step}.ckpt"


def encode_masks(history: MaskHistory) -> bytes:
    """The masks of all rounds as one safetensors file in memory: one coded tensor."""
    shapes = {name: list(deaths.shape) for name, deaths in history.deaths.items()}
    described = {"rounds": json.dumps(len(history)), "shapes": json.dumps(shapes)}
    weights = sum(deaths.numel() for deaths in history.deaths.values())
    return encode_tensors({"deaths": history.pack()}, described, at_least=least_size(weights))


def decode_masks(data: bytes, evidence: int = 0) -> MaskHistory:
    """What `encode_masks` wrote.

    Args:
        data: the bytes.
        evidence: bytes beside these in which the same weights lie.

    Raises:
        ValueError: it is damaged, or says something else.
    """
    described = decode_metadata(data)
    tensors = decode_tensors(data)
    if set(tensors) != {"deaths"} or not {"shapes", "rounds"} <= described.keys():
        raise ValueError(f"it holds {sorted(tensors)} and says {sorted(described)} in place of coded masks")
    shapes = decode(decode_json(described["shapes"]), dict[str, tuple[int, ...]])
    rounds = decode(decode_json(described["rounds"]), int)
    check_declared(sum(map(math.prod, shapes.values())), len(data) + evidence)
    return MaskHistory.unpack(tensors["deaths"], shapes, rounds)
