"""What a study is to train: seeds x rounds x arms, in the order in which answers come early."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lottery import storage
from lottery.runs.layout import STUDY
from lottery.storage.directory import Directory, StorageError
from lottery.storage.encoding import decode
from lottery.studies import controls
from lottery.studies.controls import Control
from lottery.studies.evidence.margin import Margin

RECIPE = "recipe.yaml"
TICKET = "ticket"
FORMAT = 1


@dataclass(frozen=True)
class Cell:
    """One run directory of a study: a whole run of the arm "ticket", or one training of a control.

    Args:
        arm: "ticket", or that of a control.
        seed: the seed.
        round: the round whose ticket the control is of; None for the arm "ticket", which has all rounds.
    """

    arm: str
    seed: int
    round: int | None = None

    @property
    def key(self) -> str:
        """Its directory within the study."""
        run = f"{self.arm}/seed-{self.seed}"
        return run if self.round is None else f"{run}/round-{self.round:02d}"

    @classmethod
    def of(cls, key: str) -> Cell:
        """The cell of a directory.

        Example:
            >>> Cell.of("reinit/seed-3/round-07"), Cell.of("ticket/seed-0").round
            (Cell(arm='reinit', seed=3, round=7), None)
        """
        arm, seed, *rest = key.split("/")
        number = int(rest[0].removeprefix("round-")) if rest else None
        return cls(arm, int(seed.removeprefix("seed-")), number)


@dataclass(frozen=True)
class Look:
    """A look at a study, at which it was judged.

    Args:
        seeds: those that no look before had judged.
        arms, rounds: the controls and the rounds that were compared.
        when: the time, in ISO format.
        spent: the share of the level.
    """

    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    rounds: tuple[int, ...]
    when: str
    spent: float


@dataclass(frozen=True)
class Plan:
    """The grid of a study.

    Args:
        recipe: the text of the recipe.
        overrides: settings that go before the recipe's, as for `lottery run`.
        seeds: the seeds; each gives initial weights, data order and everything random.
        controls: the controls, as `lottery.controls.resolve` takes them.
        rounds: the rounds whose tickets are compared with controls.
        last: the last round of a ticket's run.
        seed_settings: settings of the recipe that follow the seed, beside `seed_everything`.
        margin: how much worse than dense is still as good, as `lottery.studies.evidence.Margin` reads it; None for the
            usual one.
        level: chance of a false claim; None for the usual one.
        looks: the looks at the study so far.

    Raises:
        ValueError: nothing or something twice is asked for, a control is unknown, or margin or level are out of range.
    """

    recipe: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]
    controls: tuple[Any, ...]
    rounds: tuple[int, ...]
    last: int
    seed_settings: tuple[str, ...] = ()
    margin: float | str | None = None
    level: float | None = None
    looks: tuple[Look, ...] = ()

    def __post_init__(self) -> None:
        for name in ("seeds", "rounds"):
            numbers = getattr(self, name)
            if not numbers or len(set(numbers)) < len(numbers):
                raise ValueError(f"{name}={list(numbers)} must be one number or more, each once")
        if min(self.seeds) < 0 or max(self.seeds) >= 2**32:
            raise ValueError(f"seeds={list(self.seeds)}: a seed is a number from 0 to 2**32 - 1")
        if min(self.rounds) < 1 or max(self.rounds) > self.last:
            raise ValueError(
                f"rounds={list(self.rounds)}: round 0 is dense and {self.last} is the last of the recipe, so give"
                f" some of 1 to {self.last}"
            )
        if self.margin is not None:
            Margin.read(self.margin)
        if self.level is not None and not 0 < self.level < 0.5:
            raise ValueError(f"level={self.level!r} must be between 0 and 0.5; 0.05 is usual")
        _ = self.arms  # each control is known, and there once

    @cached_property
    def arms(self) -> dict[str, Control]:
        """The controls by the name of their arm."""
        found = [controls.resolve(control) for control in self.controls]
        names = [control.arm for control in found]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"controls: {', '.join(sorted(twice))} is there twice")
        return {control.arm: control for control in found}

    def cells(self) -> Iterator[Cell]:
        """All cells, the most telling first: tickets, then one density after the other over all seeds and arms.

        Densities come in the order that narrows down soonest where tickets stop winning: the last, the middle, the
        quarters.
        """
        for seed in self.seeds:
            yield Cell(TICKET, seed)
        for number in [*coarse_to_fine(sorted(self.rounds)), 0]:
            for arm in self.arms:
                if number in self.rounds_of(arm):
                    for seed in self.seeds:
                        yield Cell(arm, seed, number)

    def rounds_of(self, arm: str) -> tuple[int, ...]:
        """The rounds of a control; one that trains the ticket itself in another order does so with dense too."""
        return (0, *self.rounds) if self.arms[arm].order else self.rounds

    def seeded(self, seed: int) -> list[str]:
        """The overrides of the recipe for a seed."""
        return [*self.overrides, *seeding(seed, self.seed_settings)]

    def extended(self, other: Plan) -> Plan:
        """This plan and the seeds, controls and rounds of another.

        Raises:
            ValueError: they are of other recipes or settings; the message shows where they differ.
        """
        if lines := _difference(self.recipe, other.recipe):
            raise ValueError("the recipe is another:\n" + "\n".join(lines))
        if self.overrides != other.overrides:
            mine, theirs = (" ".join(p.overrides) or "none" for p in (self, other))
            raise ValueError(f"the settings are {mine} in the study, {theirs} now")
        for name in ("margin", "level"):
            mine, its = getattr(self, name), getattr(other, name)
            if self.looks and its is not None and its != mine:
                raise ValueError(
                    f"the {name} is {'the usual one' if mine is None else mine} in the study, which was judged by it,"
                    f" and {its} now; `lottery inspect STUDY --{name} {its}` reads the study with another"
                )

        def both(name: str) -> tuple[Any, ...]:
            mine = getattr(self, name)
            return (*mine, *(v for v in getattr(other, name) if v not in mine))

        known = self.arms.values()
        more = (c for c in other.controls if controls.resolve(c) not in known)
        return dataclasses.replace(
            self,
            seeds=both("seeds"),
            controls=(*self.controls, *more),
            rounds=tuple(sorted(both("rounds"))),
            margin=self.margin if other.margin is None else other.margin,
            level=self.level if other.level is None else other.level,
        )

    def write(self, path: Path) -> None:
        """Store the plan in a study's directory, with what another process has added to it meanwhile.

        Raises:
            ValueError: the directory holds a study of other settings.
            StorageError: it is damaged, or cannot be written.
        """
        Plan.change(path, lambda there: self if there is None else there.extended(self))

    @classmethod
    def change(cls, path: Path, changed: Callable[[Plan | None], Plan]) -> Plan:
        """Read the plan of a directory, change and write it, while no other process does; waits for one that does.

        Args:
            path: of the study.
            changed: makes the new plan of the one that is there, None without any.
        """
        with _held(Directory(path)):
            plan = changed(cls.read(path) if (path / STUDY).exists() else None)
            plan._write(path)
        return plan

    def _write(self, path: Path) -> None:
        """A file that says it already is left alone."""
        plain = dataclasses.asdict(self)
        recipe = plain.pop("recipe").encode()
        study = storage.encode_json({"format": FORMAT, **plain})
        for file, data in ((path / RECIPE, recipe), (path / STUDY, study)):
            if not file.exists() or file.read_bytes() != data:
                storage.write(file, data)

    @classmethod
    def read(cls, path: Path) -> Plan:
        """The plan of a study's directory.

        Raises:
            StorageError: there is none, or it is damaged.
        """
        try:
            plain: dict[str, Any] = storage.decode_json((path / STUDY).read_bytes())
            if plain.pop("format") != FORMAT:
                raise StorageError(f"{path} is a study of another version of lottery; use that version")
            plain = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
            plain["looks"] = tuple(decode(look, Look) for look in plain.get("looks", ()))
            return cls(recipe=(path / RECIPE).read_text(), **plain)
        except FileNotFoundError as error:
            raise StorageError(f"{path} holds no study: there is no {Path(error.filename).name} in it") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StorageError(
                f"{path / STUDY} is damaged ({error}). The runs beside it are intact: start the same study again in"
                " another directory and move them there."
            ) from error


@contextlib.contextmanager
def _held(directory: Directory) -> Iterator[None]:
    """A directory, locked for the moment that it takes to write a plan."""
    with contextlib.ExitStack() as stack:
        for patience in reversed(range(100)):
            try:
                stack.enter_context(directory.locked())
                break
            except StorageError:
                if not patience or not directory.path.is_dir() or not os.access(directory.path, os.W_OK):
                    raise
                time.sleep(0.05)
        yield


def seeding(seed: int, settings: Sequence[str] = ()) -> list[str]:
    """Overrides that give a recipe a seed: initial weights, everything random, and what `settings` name.

    Example:
        >>> seeding(3, ["data.init_args.seed"])
        ['--seed_everything', '3', '--data.init_args.seed', '3']
    """
    names = ("seed_everything", *settings)
    return [word for name in names for word in (f"--{name}", str(seed))]


def coarse_to_fine(rounds: Sequence[int]) -> list[int]:
    """The last, then the middles of what is left between.

    Example:
        >>> coarse_to_fine([1, 2, 3, 4, 5, 6, 7, 8])
        [8, 4, 2, 6, 1, 3, 5, 7]
    """
    order, spans = [rounds[-1]], [(0, len(rounds) - 1)]
    while spans:
        following = []
        for low, high in spans:
            if low < high:
                middle = (low + high) // 2
                order.append(rounds[middle])
                following += [(low, middle), (middle + 1, high)]
        spans = following
    return order


def _difference(mine: str, theirs: str) -> list[str]:
    lines = difflib.unified_diff(mine.splitlines(), theirs.splitlines(), "in the study", "now", n=0, lineterm="")
    return list(lines)
