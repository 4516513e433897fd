"""The states that a run directory holds, each proved to be the run's own."""

from __future__ import annotations

from typing import Any

from lottery.runs.layout import END, round_file
from lottery.runs.schema import RoundState
from lottery.storage.directory import Directory, StorageError


def read_state(directory: Directory, name: str, run: str) -> dict[str, Any]:
    """A state of a run's rounds.

    Args:
        directory: the run's.
        name: of the file.
        run: the run's id.

    Raises:
        StorageError: it is missing, damaged, or of another run.
    """
    state = directory.read_checkpoint(name)
    state_of(directory, name, state, run)
    return state


def state_of(directory: Directory, name: str, state: dict[str, Any], run: str) -> RoundState:
    """What a round has put into a state that a file of the directory holds.

    Raises:
        StorageError: it is none, or of another run.
    """
    try:
        own = RoundState.within(state)
    except ValueError as error:
        raise directory.damaged(name, f"does not say what a state says ({error})") from None
    if own is None or own.run != run:
        whose = "no run" if own is None else f"run {own.run}"
        raise directory.damaged(name, f"is of {whose}, not of run {run}")
    return own


def optimizers_at_end(directory: Directory, number: int) -> list[dict[str, Any]]:
    """The states of the optimizers at the end of a round; only those of the latest round are kept.

    Raises:
        StorageError: they are not there, or damaged.
    """
    name = round_file(number, END)
    if name not in directory and directory.holds(END):
        name = END  # where runs of an earlier format have it
    if not directory.holds(name):
        raise StorageError(
            f"{directory.path} does not keep the optimizers' state at the end of round {number}: it has that of the"
            " latest finished round only. Rewind weights or learning rates, with optimizer='rewind' or 'fresh'."
        )
    end = directory.read_checkpoint(name)
    if end.get("round") != number or not isinstance(end.get("optimizer_states"), list):
        raise directory.damaged(name, f"is of round {end.get('round')!r}, but that of round {number} is needed")
    return end["optimizer_states"]
