"""Everything that can be checked of a run directory, and what of it can be made again."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from lottery.foundations.names import renamed
from lottery.runs.layout import (
    BARRIER,
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
    STATE,
    SUMMARY,
    TRAINED,
    is_known,
    lost_its_manifest,
    round_file,
    run_directory,
)
from lottery.runs.remaking import missing_for, unfinish
from lottery.runs.run import Run
from lottery.runs.states import optimizers_at_end, read_state, state_of
from lottery.storage import encode_tensors
from lottery.storage.directory import MANIFEST, Directory, StorageError

_OF_A_ROUND = (SUMMARY, HISTORY, TRAINED, MOVED, GATHERED, END)


@dataclass(frozen=True)
class Finding:
    """What is wrong with a file.

    Args:
        file: its path.
        what: what is wrong, in words.
        way: what repairing does about it; None where nothing can be done.
        mend: does it.
    """

    file: Path
    what: str
    way: str | None = None
    mend: Callable[[], object] = lambda: None


def verify_run(path: Path) -> list[Finding]:
    """What is wrong with a run: sizes, hashes, types, ids, and whether its parts go together.

    Args:
        path: the run directory; read without a lock, also while it is written.
    """
    directory = run_directory(path)
    if not (directory.path / MANIFEST).exists() and lost_its_manifest(directory.path):
        return [_lost_manifest(directory)]
    try:
        run = Run(path)
        run.info  # noqa: B018 (everything else is checked against it)
    except StorageError as error:
        return [Finding(directory.path / RUN, str(error))]
    damaged = directory.wrong()
    found = [_damage(run, directory, name, what, set(damaged)) for name, what in damaged.items()]
    found += _failing(run, directory, _masks(run, directory), set(damaged))
    if not any(finding.file.parent.name == "masks" for finding in found):  # by which the others are judged
        rounds = (_round(run, directory, number) for number in run.rounds)
        checks = itertools.chain(_weights(run, directory), _states(run, directory), *rounds)
        found += _failing(run, directory, checks, set(damaged))
    if not directory.in_use and (left := _orphans(directory)):
        where = directory.path / left[0]
        what = f"{len(left)} files that a process has left behind when it ended: {', '.join(left[:5])}"
        found.append(Finding(where, what, "deleted", lambda: directory.sweep(FOLDERS)))
    return found


Checks = Iterable[tuple[str, Callable[[], str | None]]]


def _failing(run: Run, directory: Directory, checks: Checks, damaged: set[str]) -> Iterator[Finding]:
    """The checks that fail of files whose bytes are right."""
    for file, check in checks:
        if file in damaged:
            continue
        try:
            wrong = check()
        except StorageError as error:
            wrong = str(error)
        except Exception as error:  # noqa: BLE001 (parts that do not go together fail in many ways)
            wrong = f"it does not go with the rest: {type(error).__name__}: {error}"
        if wrong:
            yield _damage(run, directory, file, wrong, {file, *damaged})


def _readable(read: Callable[[], object]) -> Callable[[], None]:
    def check() -> None:
        read()

    return check


def _masks(run: Run, directory: Directory) -> Checks:
    def whole() -> str | None:
        shapes = {name: tuple(shape) for name, shape in run.info.settings.parameters.items()}
        coded = {name: tuple(deaths.shape) for name, deaths in run.masks.deaths.items()}
        if coded != shapes:
            return f"its masks have the shapes {coded}, the run's parameters {shapes}"
        if len(run.masks) != run.begun + 1:
            return f"it has the masks of {len(run.masks)} rounds, not of {run.begun + 1}"
        return None

    for name in directory.files():
        if name.startswith("masks/"):
            yield name, whole
    if GOAL in directory:
        yield GOAL, _readable(lambda: run.goal)


def _round(run: Run, directory: Directory, number: int) -> Checks:
    def summary() -> str | None:
        said, masks = run.summary(number), run.last_masks(number)
        if said.round != number:
            return f"it is of round {said.round}"
        if (said.kept, said.prunable) != (masks.kept, masks.total):
            return f"it says that {said.kept} of {said.prunable} weights are kept; the masks keep {masks.kept}"
        return None

    def trained() -> str | None:
        weights = run.weights(number)
        for name, mask in run.last_masks(number).items():
            if name not in weights or weights[name].shape != mask.shape:
                return f"it has no {name} of the shape {tuple(mask.shape)}"
            if bool((weights[name][~mask] != 0).any()):
                return f"pruned weights of {name} are not zero"
        broken = [n for n, w in weights.items() if n in run.masks.deaths and not bool(torch.isfinite(w).all())]
        return f"{', '.join(broken)} is NaN or infinite" if broken else None

    yield round_file(number, SUMMARY), summary
    yield round_file(number, HISTORY), _readable(lambda: run.records(number))
    if round_file(number, TRAINED) in directory:
        yield round_file(number, TRAINED), trained
    if round_file(number, GATHERED) in directory:
        yield round_file(number, GATHERED), _readable(lambda: directory.read_tensors(round_file(number, GATHERED)))
    if round_file(number, END) in directory:
        yield round_file(number, END), _readable(lambda: optimizers_at_end(directory, number))


def _weights(run: Run, directory: Directory) -> Checks:
    def fits() -> str | None:
        weights = run.weights("initial")
        wrong = [n for n, d in run.masks.deaths.items() if n not in weights or weights[n].shape != d.shape]
        return f"it has no {', '.join(wrong)} of the shape of its mask" if wrong else None

    if INITIAL in directory:
        yield INITIAL, fits


def _states(run: Run, directory: Directory) -> Checks:
    def state(name: str) -> str | None:
        weights = renamed(read_state(directory, name, run.info.id)[STATE].get("weights", {}))
        wrong = [n for n, d in run.masks.deaths.items() if weights and tuple(weights[n].shape) != tuple(d.shape)]
        return f"it has no {', '.join(wrong)} of the shape of its mask" if wrong else None

    def last() -> None:
        state_of(directory, LAST, directory.read_checkpoint(LAST), run.info.id)

    for name in (START, REWIND, *(n for n in directory.files() if n.startswith("snapshots/"))):
        if directory.holds(name):
            yield name, functools.partial(state, name)
    if directory.holds(LAST) and not directory.in_use:  # it is replaced, and carries its checksums inside
        yield LAST, last


def _damage(run: Run, directory: Directory, name: str, what: str, lost: set[str]) -> Finding:
    """What is wrong with a file, and what can be done."""
    path = directory.path / name
    what = what.removeprefix(f"{path} ").partition(". Restore it")[0].partition(". Delete it")[0]
    parts = name.split("/")
    if name == LAST:
        way = "deleted; the round in progress starts over, with the same results, when the run is gone on with"
        return Finding(path, what, way, lambda: directory.delete([LAST]))
    if name in (GOAL, BARRIER):
        return Finding(path, what, "left out; it is written again", lambda: directory.commit({}, drop=[name]))
    if name == INITIAL and (data := _initial_again(run, directory, lost)) is not None:
        return Finding(path, what, "made again from the first state", lambda: directory.commit({INITIAL: data}))
    if parts[0] == "rounds" and parts[2] in _OF_A_ROUND:
        number = int(parts[1])
        if not (missing := missing_for(run, directory, number, lost)):
            way = f"round {number} is trained again, with the same results, when the run is gone on with"
            return Finding(path, what, way, lambda: unfinish(directory, number))
        return Finding(path, f"{what}. Round {number} cannot be trained again without {', '.join(missing)}")
    return Finding(path, what)


def _initial_again(run: Run, directory: Directory, lost: set[str]) -> bytes | None:
    """The initial weights, from the state that round 0 began with; None where that is not there, or is another."""
    wanted = directory.files()[INITIAL]["sha256"]
    for name in (START, REWIND):
        if name in directory and name not in lost:
            with contextlib.suppress(StorageError):
                data = encode_tensors(renamed(read_state(directory, name, run.info.id)[STATE]["weights"]))
                if hashlib.sha256(data).hexdigest() == wanted:
                    return data
    return None


def _orphans(directory: Directory) -> list[str]:
    named, root = directory.files(), directory.path
    found = [*root.iterdir(), *itertools.chain(*((root / folder).rglob("*") for folder in FOLDERS))]
    names = [path.relative_to(root).as_posix() for path in found if path.is_file()]
    loose = [name for name in names if name != LAST and directory.holds(name)]
    return [name for name in names if is_known(name) and name not in named and name != LAST and name not in loose]


def _lost_manifest(directory: Directory) -> Finding:
    """A directory without a manifest: what its files say, they say themselves."""
    root = directory.path
    names = [n.relative_to(root).as_posix() for n in root.rglob("*") if n.is_file()]
    known = [name for name in names if is_known(name) and name != LAST]

    def make() -> None:
        directory.commit({name: (root / name).read_bytes() for name in known})

    what = "is missing, so no hash tells whether the files beside it are whole"
    return Finding(root / MANIFEST, what, f"made again of the {len(known)} files as they are now", make)
