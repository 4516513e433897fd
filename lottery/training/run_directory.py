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
    FOLDERS,
    GATHERED,
    GOAL,
    HISTORY,
    INITIAL,
    LAST,
    MOVED,
    REWIND,
    RUN,
    START,
    SUMMARY,
    TRAINED,
    encode_masks,
    finished_rounds,
    is_known,
    masks_file,
    round_file,
    snapshot_file,
)
from lottery.runs.schema import RoundState, RoundSummary, RunInfo
from lottery.runs.starting_point import takes_from_the_end
from lottery.runs.states import optimizers_at_end, read_state
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
    options = run.options
    files: dict[str, bytes | memoryview] = {
        INITIAL: storage.encode_tensors(run.fit.weights()),
        masks_file(0): encode_masks(MaskHistory.of([masks])),
        RUN: storage.encode_json(info.plain()),
        GOAL: _goal(run),
    }
    if options.branch is None:
        state = storage.encode_checkpoint(start)
        files[REWIND if run.rewind_step == Step() else START] = state
        if Step() in options.snapshots:
            files[snapshot_file(Step())] = state
    run.directory.sweep(FOLDERS, loose=True)  # what is left of a run that never began
    run.directory.commit(files)


def open_again(run: ActiveRun) -> None:
    """Make sure that all finished files are whole, before a run is gone on with, and put its directory in order.

    Raises:
        StorageError: a file is damaged or missing, or a state is of another run.
    """
    directory = run.directory
    wrong = directory.wrong()
    if wrong:
        more = f" So are {len(wrong) - 1} more." if len(wrong) > 1 else ""
        raise StorageError(f"{next(iter(wrong.values()))}{more}")
    if directory.format == storage.BEFORE_CHECKPOINTS:
        directory.commit(_loose_states(run))
    directory.sweep(FOLDERS)
    goal = _goal(run)
    if GOAL not in directory or directory.read(GOAL) != goal:
        directory.commit({GOAL: goal})


def _goal(run: ActiveRun) -> bytes:
    return storage.encode_json({"rounds": run.options.rounds})


def _loose_states(run: ActiveRun) -> dict[str, memoryview]:
    """The states that an earlier format had outside of the manifest, each proved to be the run's own."""
    directory = run.directory
    names = [REWIND, *(path.relative_to(directory.path).as_posix() for path in directory.path.glob("snapshots/*.ckpt"))]
    found = {
        name: storage.encode_checkpoint(read_state(directory, name, run.id))
        for name in names
        if is_known(name) and directory.holds(name)
    }
    last = max(finished_rounds(directory.files()), default=None)
    if last is not None and takes_from_the_end(run.options.rewind) and directory.holds(END):
        states = optimizers_at_end(directory, last)
        found[round_file(last, END)] = storage.encode_checkpoint({"round": last, "optimizer_states": states})
    return found


def write_round(current: Round, summary: RoundSummary) -> None:
    """What is written of a round that has ended; with it, the round is finished."""
    run, number = current.run, current.number
    files: dict[str, bytes | memoryview] = {
        round_file(number, TRAINED): storage.encode_tensors(run.fit.weights()),
        round_file(number, HISTORY): storage.encode_json(current.record.history),
        round_file(number, SUMMARY): storage.encode_json(summary.plain()),
    }
    if takes_from_the_end(run.options.rewind):
        states = run.fit.states.capture("epoch")["optimizer_states"]
        files[round_file(number, END)] = storage.encode_checkpoint({"round": number, "optimizer_states": states})
    if current.gathered is not None:
        files[round_file(number, GATHERED)] = storage.encode_tensors(current.gathered.sums)
    if current.mover is not None:
        files[round_file(number, MOVED)] = encode_masks(MaskHistory.of([current.masks]))
    outlived = [LAST, START]  # what nothing needs from now on
    for earlier in (n for n in (number - 1, number) if n + 1 in {number, *finished_rounds(run.directory.files())}):
        outlived += [round_file(earlier, END), round_file(earlier, GATHERED)]
        if run.options.keep != "all":
            outlived.append(round_file(earlier, TRAINED))
    run.directory.commit({name: data for name, data in files.items() if name not in outlived}, drop=outlived)


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
