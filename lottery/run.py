"""A run directory, read: finished, running or interrupted."""

from __future__ import annotations

import operator
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from lottery.storage import Directory, StorageError
from lottery.ticket import Ticket

if TYPE_CHECKING:
    import pandas

RUN = "run.json"
INITIAL = "initial.safetensors"
REWIND = "rewind.ckpt"


def round_file(round: int, name: str) -> str:
    """Path of a round's file inside a run directory."""
    return f"rounds/{round:02d}/{name}"


class Run:
    """A run directory, opened read-only. Nothing is read before it is asked for.

    Args:
        dirpath: the `dirpath` of a `LotteryTicket`.

    Raises:
        StorageError: there is no run at that path.

    Example::

        run = Run("checkpoints/digits")
        run.rounds            # [0, 1, 2, ...]: the finished rounds
        run.table()           # one row per round
        run.ticket(7)         # the mask of round 7 and the weights it starts from
        run.weights(7)        # the weights that round 7 ended with
    """

    def __init__(self, dirpath: str | os.PathLike[str]) -> None:
        self.path = Path(dirpath)
        self._directory = Directory(self.path)
        if RUN not in self._directory:
            raise StorageError(
                f"{self.path} holds no run (no {RUN}). A run is written by LotteryTicket(dirpath=...)."
            )

    @cached_property
    def info(self) -> dict[str, Any]:
        """What was written once: id, seed, versions and settings."""
        return self._directory.read_json(RUN)

    @property
    def rounds(self) -> list[int]:
        """The finished rounds, in order."""
        return self._rounds_with("summary.json")

    def summary(self, round: int) -> dict[str, Any]:
        """The numbers of a finished round.

        Raises:
            StorageError: the round is not finished.
        """
        return self._directory.read_json(self._finished(round, "summary.json"))

    def history(self, round: int) -> list[dict[str, float]]:
        """The metrics of a finished round over time: one row per epoch and per validation."""
        return self._directory.read_json(self._finished(round, "history.json"))

    def ticket(self, round: int) -> Ticket:
        """The ticket of a round: its mask, and the weights that its training started from.

        Raises:
            StorageError: the round has no mask yet, or the weights it started from were not kept.
        """
        round = operator.index(round)  # a table gives NumPy's, which JSON cannot hold
        name = round_file(round, "mask.safetensors")
        if name not in self._directory:
            raise StorageError(
                f"{self.path} has no mask for round {round}; finished rounds are {self.rounds}"
            )
        rule = self.info["settings"]["rewind"]["rule"]
        rewound = rule == "weights" or round == 0
        provenance = {
            "run": self.info["id"],
            "round": round,
            "seed": self.info["seed"],
            "versions": self.info["versions"],
            "rewind": self.info["settings"]["rewind"],
        }
        if round in self.rounds:
            summary = self.summary(round)
            provenance["metrics"] = {
                key: summary[key]
                for key in ("start", "best", "last", "test_best", "test_last")
            }
        return Ticket(
            self._directory.read_masks(name),
            self.weights(("rewind" if round else "initial") if rewound else round - 1),
            provenance,
        )

    def weights(self, of: Literal["initial", "rewind"] | int) -> dict[str, Tensor]:
        """A state dict: "initial" and "rewind" weights, or those that a round ended with.

        Raises:
            TypeError: `of` is something else.
            StorageError: they are not there; the message says why.
        """
        if of == "initial":
            return self._directory.read_tensors(INITIAL)
        if of == "rewind":
            if not (self.path / REWIND).exists():
                raise StorageError(
                    f"{self.path} has no rewind point yet: round 0 has not come to it"
                )
            state = self._directory.read_checkpoint(REWIND)["state_dict"]
            return {k: v for k, v in state.items() if isinstance(v, Tensor)}
        try:
            of = operator.index(of)
        except TypeError:
            raise TypeError(
                f"weights({of!r}): write 'initial', 'rewind' or the number of a round"
            ) from None
        name = round_file(of, "weights.safetensors")
        if name not in self._directory:
            if of in self.rounds:
                raise StorageError(
                    f"the weights of round {of} were not kept in {self.path}; LotteryTicket(keep='all') keeps them all"
                )
            raise StorageError(
                f"{self.path} has no round {of}; finished rounds are {self.rounds}"
            )
        return self._directory.read_tensors(name)

    @property
    def in_progress(self) -> int | None:
        """The round that was begun and is not finished, or None."""
        begun = self._rounds_with("mask.safetensors")
        return begun[-1] if begun and begun[-1] not in self.rounds else None

    def table(self) -> pandas.DataFrame:
        """One row per round, indexed by round.

        Columns: density, kept, steps, epochs; `start`, `best` and `last` with the monitored metric's name (or every
        metric's last value, where none is monitored); best_step; the test metrics; seconds; status.
        """
        import pandas

        rows = [_row(self.summary(round)) for round in self.rounds]
        if self.in_progress is not None:
            rows.append({"round": self.in_progress, "status": "in progress"})
        frame = pandas.DataFrame(rows, columns=None if rows else ["round", "status"])
        return frame.set_index("round")

    def _rounds_with(self, file: str) -> list[int]:
        names = [name.split("/") for name in self._directory.files()]
        return sorted(int(name[1]) for name in names if name[2:] == [file])

    def _finished(self, round: int, name: str) -> str:
        if round not in self.rounds:
            raise StorageError(
                f"round {round} is not finished in {self.path}; finished rounds are {self.rounds}"
            )
        return round_file(round, name)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {len(self.rounds)} rounds finished)"


def _row(summary: dict[str, Any]) -> dict[str, Any]:
    row = {
        name: summary[name] for name in ("round", "density", "kept", "steps", "epochs")
    }
    monitor = summary["monitor"]
    if monitor is not None:
        row[f"start_{monitor}"] = summary["start"].get(monitor)
        row[f"best_{monitor}"] = summary["best"].get(monitor)
        row["best_step"] = summary["best"].get("step")
        row[f"last_{monitor}"] = summary["last"].get(monitor)
    else:
        row.update({f"last_{name}": value for name, value in summary["last"].items()})
    row.update({f"best_{name}": value for name, value in summary["test_best"].items()})
    row.update({f"last_{name}": value for name, value in summary["test_last"].items()})
    return {**row, "seconds": summary["seconds"], "status": "finished"}
