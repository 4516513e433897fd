"""The files of a run directory: what each is called, and how masks are written in one."""

from __future__ import annotations

import json

from lottery.foundations.steps import Step
from lottery.masks.history import MaskHistory
from lottery.storage.encoding import decode_metadata, decode_tensors, encode_tensors

RUN = "run.json"
INITIAL = "initial.safetensors"
REWIND = "rewind.ckpt"
TRAINED = "weights.safetensors"  # of each round that keeps them
MOVED = "moved.safetensors"  # the last masks of a round in which they moved
END = "end.ckpt"  # the optimizers at the end of the latest round, for rules that need them
GATHERED = "gathered.safetensors"  # what a score gathered while a round trained


def round_file(round: int, name: str) -> str:
    """Path of a round's file inside a run directory."""
    return f"rounds/{round:02d}/{name}"


def masks_file(round: int) -> str:
    """Path of the masks of all rounds up to this one, inside a run directory."""
    return f"masks/{round:02d}.safetensors"


def snapshot_file(step: Step) -> str:
    """Path of the state at a step of round 0, inside a run directory."""
    return f"snapshots/{step}.ckpt"


def encode_masks(history: MaskHistory) -> bytes:
    """The masks of all rounds as one safetensors file in memory: one coded tensor."""
    shapes = {name: list(deaths.shape) for name, deaths in history.deaths.items()}
    described = {"rounds": json.dumps(len(history)), "shapes": json.dumps(shapes)}
    return encode_tensors({"deaths": history.pack()}, described)


def decode_masks(data: bytes) -> MaskHistory:
    """What `encode_masks` wrote."""
    described = decode_metadata(data)
    shapes, rounds = json.loads(described["shapes"]), json.loads(described["rounds"])
    return MaskHistory.unpack(decode_tensors(data)["deaths"], shapes, rounds)
