"""Writing a run: what a beginning and a finished round put into its directory, and whose the states there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lottery import storage
from lottery.foundations.steps import Step
from lottery.masks.history import MaskHistory
from lottery.masks.masks import Masks
from lottery.runs.layout import (
    END,
    GATHERED,
    HISTORY,
    INITIAL,
    LAST,
    MOVED,
    REWIND,
    RUN,
    SUMMARY,
    TRAINED,
    encode_masks,
    masks_file,
    round_file,
    snapshot_file,
)
from lottery.runs.schema import RoundState, RoundSummary, RunInfo
from lottery.runs.starting_point import takes_from_the_end
from lottery.storage.directory import StorageError
from lottery.training.round import ActiveRun, Round


def write_beginning(run: ActiveRun, info: RunInfo, masks: Masks, start: Mapping[str, Any]) -> None:
    """What is written once; with it, the directory holds a run.

    Args:
        run: the run.
        info: what defines it.
        masks: those of round 0.
        start: the state that round 0 begins from; a branch takes that from the run that it branches off.
    """
    directory, options = run.directory, run.options
    files = {
        INITIAL: storage.encode_tensors(run.fit.weights()),
        masks_file(0): encode_masks(MaskHistory.of([masks])),
        RUN: storage.encode_json(info.plain()),
    }
    if options.branch is None:
        directory.write_checkpoint(LAST, start)
        if run.rewind_step == Step():
            directory.write_checkpoint(REWIND, start)
        if Step() in options.snapshots:
            directory.write_checkpoint(snapshot_file(Step()), start)
    directory.commit(files)


def write_round(current: Round, summary: RoundSummary) -> None:
    """What is written of a round that has ended; with it, the round is finished."""
    run, number = current.run, current.number
    if takes_from_the_end(run.options.rewind):
        states = run.fit.states.capture("epoch")["optimizer_states"]
        run.directory.write_checkpoint(END, {"round": number, "optimizer_states": states})
    files = {
        round_file(number, TRAINED): storage.encode_tensors(run.fit.weights()),
        round_file(number, HISTORY): storage.encode_json(current.record.history),
        round_file(number, SUMMARY): storage.encode_json(summary.plain()),
    }
    if current.gathered is not None:
        files[round_file(number, GATHERED)] = storage.encode_tensors(current.gathered.sums)
    if current.mover is not None:
        files[round_file(number, MOVED)] = encode_masks(MaskHistory.of([current.masks]))
    outlived = [LAST]  # what nothing needs from now on
    if number > 0:
        outlived.append(round_file(number - 1, GATHERED))
        if run.options.keep != "all":
            outlived.append(round_file(number - 1, TRAINED))
    run.directory.commit(files, drop=outlived)


def own_state(run: ActiveRun, state: Mapping[str, Any], name: str) -> RoundState:
    """What a round has put into a state that a file of the directory holds.

    Raises:
        StorageError: it is not one of this run.
    """
    own = RoundState.within(state)
    if own is None or own.run != run.id:
        whose = "no run" if own is None else f"run {own.run}"
        raise run.directory.damaged(name, f"is of {whose}, not of run {run.id}")
    return own


def resumed_state(run: ActiveRun, checkpoint: Mapping[str, Any], *, new: bool) -> RoundState:
    """What a round has put into the user's `ckpt_path`.

    Args:
        run: the run.
        checkpoint: the Lightning checkpoint.
        new: whether the run is only beginning, so that no checkpoint can be of it.

    Raises:
        StorageError: it is not one of this run; the message says what to give instead.
    """
    own, path = RoundState.within(checkpoint), run.directory.path
    if new and own is None:
        raise StorageError(
            "ckpt_path is a checkpoint of a training without LotteryTicket, so the weights that it began with are not"
            " known. Leave out ckpt_path; to begin a run with the weights of a checkpoint, load them into the module"
            " (load_from_checkpoint)."
        )
    if own is None:
        raise StorageError(
            f"ckpt_path is not a checkpoint of the run in {path}. Leave out ckpt_path to go on with that run, or give a"
            " new dirpath."
        )
    if new:
        raise StorageError(
            f"ckpt_path is a checkpoint of round {own.round} of a run that is not in {path}. Give LotteryTicket the"
            " dirpath of that run, or leave out ckpt_path."
        )
    if own.run != run.id:
        raise StorageError(
            f"ckpt_path belongs to run {own.run}, but {path} holds run {run.id}. Give LotteryTicket the dirpath of the"
            " checkpoint's run, or leave out ckpt_path."
        )
    return own
