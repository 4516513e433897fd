"""A run directory, read: finished, running or interrupted."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch import Tensor

from lottery.foundations.names import renamed
from lottery.masks.history import MaskHistory
from lottery.masks.masks import Masks
from lottery.pruning.dynamic import Move
from lottery.runs.layout import (
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
    decode_masks,
    finished_rounds,
    last_begun,
    lost_its_manifest,
    masks_file,
    round_file,
    run_directory,
)
from lottery.runs.metric import Part
from lottery.runs.pictures import Kind, gallery
from lottery.runs.schema import RoundState, RoundSummary, Row, RunInfo, rows_of
from lottery.runs.states import read_state, state_of
from lottery.storage.checkpoints import encode_checkpoint
from lottery.storage.directory import MANIFEST, StorageError
from lottery.storage.encoding import decode
from lottery.storage.files import local_path
from lottery.tickets.ticket import Ticket

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from lottery.plots.picture import Picture


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
        run.plot()            # the metric against density
        run.ticket(7)         # the mask of round 7 and the weights it starts from
        run.weights(7)        # the weights that round 7 ended with
    """

    def __init__(self, dirpath: str | os.PathLike[str]) -> None:
        self.path = local_path(dirpath)
        self._directory = run_directory(self.path)
        self._masks: tuple[int, MaskHistory] | None = None
        if RUN not in self._directory:
            lost = lost_its_manifest(self._directory.path)
            why = f"{MANIFEST} is missing: restore it from a copy" if lost else f"no {RUN}"
            raise StorageError(f"{self.path} holds no run ({why}). A run is written by LotteryTicket(dirpath=...).")

    @cached_property
    def info(self) -> RunInfo:
        """What was written once: id, seed, versions and settings."""
        return self._directory.read_json(RUN, RunInfo.of)

    @property
    def rounds(self) -> list[int]:
        """The finished rounds, in order."""
        return finished_rounds(self._directory.files())

    @property
    def begun(self) -> int:
        """The last round that was begun."""
        return self._begun()

    @property
    def in_progress(self) -> int | None:
        """The round that was begun and is not finished, or None."""
        begun = self._begun()
        return None if begun in self.rounds else begun

    @property
    def status(self) -> Literal["running", "interrupted", "finished"]:
        """Whether a process is writing the run now; if none is, whether all rounds that were asked for are finished."""
        if self._directory.in_use:
            return "running"
        goal = self.goal
        done = self.in_progress is None and (goal is None or goal in self.rounds)
        return "finished" if done else "interrupted"

    @property
    def goal(self) -> int | None:
        """How many rounds after the dense one were last asked for; None in runs of earlier versions."""
        if GOAL not in self._directory:
            return None
        return self._directory.read_json(GOAL, lambda stored: decode(stored, dict[str, int])["rounds"])

    # numbers

    def summary(self, number: int) -> RoundSummary:
        """The numbers of a finished round.

        Raises:
            StorageError: the round is not finished.
        """
        return self._directory.read_json(self._finished(number, SUMMARY), RoundSummary.of)

    def records(self, number: int) -> list[Row]:
        """What was logged in a round: one row per epoch and per validation, with `step` and `epoch`.

        Of the round in progress, what had been noted when it was last saved.

        Raises:
            StorageError: the round was not begun.
        """
        if number != self.in_progress:
            return self._directory.read_json(self._finished(number, HISTORY), rows_of)
        try:
            saved = self._saved(number)
        except StorageError:
            if number == self.in_progress:
                raise
            return self.records(number)  # it was finished meanwhile
        if number != self.in_progress:
            return self.records(number)
        return saved.history if saved else []

    def history(self, number: int | None = None) -> pandas.DataFrame:
        """All metrics over time: one row per epoch and per validation.

        Args:
            number: of a finished round or the one in progress; default: all finished ones.

        Returns:
            Columns `round`, `density`, `step`, `epoch` and one per metric, NaN where it was not logged.

        Raises:
            StorageError: the round was not begun.
        """
        import pandas

        rows: list[dict[str, object]] = []
        for each in self.rounds if number is None else [operator.index(number)]:
            records = self.records(each)
            if records:
                moves = self._moves(each)
                begun = self.masks[each].density if moves else self._density(each)
            for row in records:
                done = [m.density for m in moves if m.step < row["step"]]
                here = {"round": each, "density": done[-1] if done else begun}
                rows.append({**row, **here})
        frame = pandas.DataFrame(rows)
        first = ["round", "density", "step", "epoch"]
        return frame.reindex(columns=[*first, *frame.columns.difference(first, False)])

    def table(self) -> pandas.DataFrame:
        """One row per round, indexed by round.

        Columns: density, kept, steps, epochs; `start`, `best` and `last` with the monitored metric's name (or every
        metric's last value, where none is monitored); best_step; the test metrics at the best and the last step;
        seconds; status.
        """
        import pandas

        rows = [_row(self.summary(number)) for number in self.rounds]
        begun = self.in_progress
        if begun is not None:
            rows.append({"round": begun, "status": "in progress"})
        frame = pandas.DataFrame(rows, columns=None if rows else ["round", "status"])
        return frame.set_index("round")

    def densities(self) -> pandas.DataFrame:
        """The density of each prunable parameter, and of "all", in each finished round (the index)."""
        import pandas

        rows = {}
        for number in self.rounds:
            summary = self.summary(number)
            rows[number] = {**summary.densities, "all": summary.density}
        return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("round")

    def connectivity(self) -> pandas.DataFrame:
        """What masks leave of the network in each finished round (the index).

        Columns: `kept`, `on a path` from input to output and `sparsest layer`, as densities; `compression` and
        `effective compression`, prunable / kept and prunable / on a path; `dead units` in all. NaN where paths cannot
        be followed, as through recurrent layers; see `lottery.pruning.graph.paths`.
        """
        import pandas

        rows = {}
        for number in self.rounds:
            found = self.summary(number).connectivity
            rows[number] = {
                "kept": found.density,
                "on a path": found.effective_density,
                "sparsest layer": found.lowest_density,
                "compression": found.compression,
                "effective compression": found.effective_compression,
                "dead units": sum(found.dead_units.values()),
            }
        frame = pandas.DataFrame.from_dict(rows, orient="index", dtype=float)
        return frame.rename_axis("round")

    @property
    def metric(self) -> str | None:
        """The column of `table` that says most: the test counterpart of the monitored metric at the best step, the
        monitored metric itself, or the first there is."""
        found = next((self.summary(number).metric for number in self.rounds[:1]), None)
        return None if found is None else found.column

    # tensors

    @property
    def masks(self) -> MaskHistory:
        """The masks of all rounds that were begun, as they were when the round began.

        Example::

            run.masks[7]                       # the masks of round 7
            run.masks.deaths["net.0.weight"]   # the round in which each weight died
        """
        begun = self._begun()
        if self._masks is None or self._masks[0] != begun:
            try:
                self._masks = (begun, self._decoded_masks(masks_file(begun)))
            except StorageError:
                if self._begun() == begun:
                    raise
                return self.masks  # the next round began meanwhile
        return self._masks[1]

    def last_masks(self, number: int) -> Masks:
        """The masks that a finished round ended with: those of `masks`, unless they moved while it trained.

        Of a round in progress, the masks that it started under.
        """
        moved = round_file(number, MOVED)
        if moved in self._directory:
            return self._decoded_masks(moved)[0]
        return self.masks[number]

    def ticket(self, number: int) -> Ticket:
        """The ticket of a round: its mask, and the weights that its training started from.

        Where masks moved while the round trained it is the last one.

        Raises:
            StorageError: the round has no mask yet, or the weights it started from were not kept.
        """
        number = operator.index(number)  # a table gives NumPy's, which JSON cannot hold
        if not 0 <= number <= self._begun():
            raise StorageError(f"{self.path} has no mask for round {number}; finished rounds are {self.rounds}")
        info = self.info
        rewound = info.settings.rewind.rule == "weights" or number == 0
        provenance: dict[str, object] = {
            "run": info.id,
            "round": number,
            "seed": info.seed,
            "versions": info.versions,
            "rewind": asdict(info.settings.rewind),
        }
        if info.settings.dynamic is not None:
            provenance["dynamic"] = info.settings.dynamic
        if number in self.rounds:
            summary = self.summary(number)
            provenance["metrics"] = {part: getattr(summary, part) for part in get_args(Part)}
        return Ticket(
            self.last_masks(number),
            self.weights(("rewind" if number else "initial") if rewound else number - 1),
            provenance,
        )

    def weights(self, of: Literal["initial", "rewind"] | int) -> dict[str, Tensor]:
        """A state dict: "initial" and "rewind" weights, or those that a round ended with.

        All are the module's own, by canonical names: whatever `on_save_checkpoint` makes of a checkpoint, and whether
        or not parts of the module are compiled.

        Raises:
            TypeError: `of` is something else.
            StorageError: they are not there; the message says why.
        """
        if of in ("initial", "rewind") and INITIAL not in self._directory:
            raise StorageError(f"{self.path} is a copy without weights; `run.masks` has the masks of its rounds")
        if of == "initial":
            return renamed(self._directory.read_tensors(INITIAL))
        if of == "rewind":
            if not self._directory.holds(REWIND):
                if 0 in self.rounds:
                    raise self._directory.damaged(REWIND, "is missing")
                raise StorageError(f"{self.path} has no rewind point yet: round 0 has not come to it")
            return weights_in(read_state(self._directory, REWIND, self.info.id))
        try:
            of = operator.index(of)
        except TypeError:
            raise TypeError(f"weights({of!r}): write 'initial', 'rewind' or the number of a round") from None
        name = round_file(of, TRAINED)
        if name not in self._directory:
            if of in self.rounds:
                raise StorageError(
                    f"the weights of round {of} were not kept in {self.path}; LotteryTicket(keep='all') keeps them all"
                )
            raise StorageError(f"{self.path} has no round {of}; finished rounds are {self.rounds}")
        return renamed(self._directory.read_tensors(name))

    def copy(self, dirpath: str | os.PathLike[str], *, weights: bool = False) -> Run:
        """Copy what is finished, verified on the way; without weights a run is small enough to publish.

        Args:
            dirpath: where to, a new directory.
            weights: also the initial and trained weights. The rewind point goes along with them; a round in progress
                does not.

        The copy appears whole or not at all, and is of one moment, also of a run that is being written.

        Raises:
            StorageError: the target exists, a file is damaged, or the disk is full.
        """
        target = local_path(dirpath)
        more = {}
        if weights and REWIND not in self._directory and self._directory.holds(REWIND):  # of an earlier format
            more[REWIND] = encode_checkpoint(read_state(self._directory, REWIND, self.info.id))
        left_out = (START,) if weights else (INITIAL, TRAINED, ".ckpt")
        self._directory.copy(target, lambda name: not name.endswith(left_out), more)
        return Run(target)

    # pictures

    def plot(
        self, kind: Kind | str = "metric", metric: str | None = None, *, ax: Axes | None = None, **options: Any
    ) -> Picture:
        """Draw the run; `kind` and the other arguments are those of `Comparison.plot`."""
        return gallery.draw(kind, {"ticket": [self]}, metric=metric, ax=ax, **options)

    def _decoded_masks(self, name: str) -> MaskHistory:
        initial = self._directory.path / INITIAL
        evidence = initial.stat().st_size if initial.is_file() else 0
        return self._directory.read_as(name, lambda data: decode_masks(data, evidence))

    def _begun(self) -> int:
        """The last round that has masks."""
        return last_begun(self._directory.files())

    def _moves(self, number: int) -> tuple[Move, ...]:
        """When masks moved within a round, and the densities that this left."""
        if self.info.settings.dynamic is None:
            return ()
        if number in self.rounds:
            return self.summary(number).moves
        saved = self._saved(number)
        return saved.moves if saved else ()

    def _saved(self, number: int) -> RoundState | None:
        """What the last checkpoint holds of a round."""
        if not self._directory.holds(LAST):
            return None
        found = state_of(self._directory, LAST, self._directory.read_checkpoint(LAST), self.info.id)
        return found if found.round == number else None

    def _density(self, number: int) -> float:
        return self.summary(number).density if number in self.rounds else self.masks[number].density

    def _finished(self, number: int, name: str) -> str:
        if number not in self.rounds:
            raise StorageError(f"round {number} is not finished in {self.path}; finished rounds are {self.rounds}")
        return round_file(number, name)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {len(self.rounds)} rounds finished)"

    def _repr_html_(self) -> str:
        import html

        title = f"{self.path}: {self.status}, {len(self.rounds)} rounds finished"
        return f"<p>{html.escape(title)}</p>{self.table()._repr_html_()}"  # type: ignore[operator]


def weights_in(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The module's own weights in a state that a run stored; in one of an older version, Lightning's state dict."""
    found = state.get(STATE, {}).get("weights", state["state_dict"])
    return {n: t for n, t in renamed(found).items() if isinstance(t, Tensor)}


def _row(summary: RoundSummary) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(summary, name) for name in ("round", "density", "kept", "steps", "epochs")}
    monitor = summary.monitor
    if monitor is not None:
        row[f"start_{monitor}"] = summary.start.get(monitor)
        row[f"best_{monitor}"] = summary.best.get(monitor)
        row["best_step"] = summary.best.get("step")
        row[f"last_{monitor}"] = summary.last.get(monitor)
    else:
        row.update({f"last_{name}": value for name, value in summary.last.items()})
    for when, tested in (("best", summary.test_best), ("last", summary.test_last)):
        for name, value in tested.items():
            taken = f"{when}_{name}" in row
            row[f"{when}_{name} (test)" if taken else f"{when}_{name}"] = value
    return {**row, "seconds": summary.seconds, "status": "finished"}
