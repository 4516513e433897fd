"""The earliest step to rewind to: from which on the order of the data no longer decides where training ends."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from lottery.foundations import streams
from lottery.foundations.statistics.intervals import mean_interval
from lottery.foundations.statistics.paired import FEWEST
from lottery.foundations.steps import Step
from lottery.runs.branch import Branch
from lottery.runs.layout import run_directory, snapshot_file
from lottery.runs.run import Run
from lottery.storage.directory import StorageError
from lottery.studies.barriers import measure_barrier, read_barrier
from lottery.studies.cell import logged
from lottery.studies.plan import seeding
from lottery.studies.stability import THRESHOLD
from lottery.training.recipes import RecipeCLI, load

if TYPE_CHECKING:
    import pandas


class Length(NamedTuple):
    """Optimizer steps of an epoch and of a whole training; 0 where they are not known."""

    epoch: int
    total: int

    def position(self, step: Step) -> int:
        """Optimizer steps from the beginning."""
        return step.epochs * self.epoch + step.iterations

    def share(self, step: Step) -> float:
        """How far into the training a step is; NaN where the length is not known."""
        return self.position(step) / self.total if self.total else math.nan


@dataclass(frozen=True)
class RewindSearch:
    """The error barriers that were measured, and what they say.

    A step is stable if the upper end of the interval of its mean barrier over seeds is below the threshold: of a
    one-sided interval at 95 %, by Student's t. Fewer than three seeds have none; then the mean decides, and nothing is
    known of how sure that is.

    Args:
        steps: the candidates, in order.
        length: of the training.
        threshold: the barrier below which a training is stable.
        heights: the barrier of each step that was tested, for each seed.
    """

    steps: tuple[Step, ...]
    length: Length
    threshold: float = THRESHOLD
    heights: dict[Step, list[float]] = field(default_factory=dict)

    def stable(self, step: Step) -> bool:
        """Whether the barrier is below the threshold: that of its interval's upper end, or its mean, of few seeds."""
        return self.highest(step) < self.threshold

    def highest(self, step: Step) -> float:
        """The upper end of the interval of the mean barrier; the mean of fewer than three seeds, or of equal ones."""
        mean, _, high = mean_interval(self.heights[step], confidence=0.9)  # one-sided at 95 %
        return high if self.sure and not math.isnan(high) else mean

    @property
    def sure(self) -> bool:
        """Whether there are seeds enough for an interval."""
        return min(map(len, self.heights.values()), default=0) >= FEWEST

    @property
    def found(self) -> Step | None:
        """The earliest tested step from which training is stable; None without any."""
        return next((s for s in self.steps if s in self.heights and self.stable(s)), None)

    def table(self) -> pandas.DataFrame:
        """One row per tested step: its share of the training, the mean barrier, the upper end of its interval, the
        barrier of each seed, whether stable.
        """
        import pandas

        rows = [
            {
                "step": str(step),
                "share": self.length.share(step),
                "barrier": sum(heights) / len(heights),
                "high": self.highest(step),
                "seeds": heights,
                "stable": self.stable(step),
            }
            for step in self.steps
            if (heights := self.heights.get(step))
        ]
        return pandas.DataFrame(rows).set_index("step")


def find_rewind(
    recipe: str | os.PathLike[str],
    dirpath: str | os.PathLike[str],
    *,
    steps: Sequence[str] | None = None,
    seeds: int | Sequence[int] = FEWEST,
    threshold: float = THRESHOLD,
    overrides: Sequence[str] = (),
    every: bool = False,
    show: Callable[[str], None] = lambda line: None,
) -> RewindSearch:
    """Search for the earliest step from which the dense training is stable to the order of the data.

    The recipe's network is trained once and its state stored at each step. From a step a second child is trained to the
    end in another order; the first is the training itself. The search bisects: it takes the barrier to fall with the
    step. What is trained already is not trained again.

    Args:
        recipe: path of a recipe; it needs `lottery.monitor`.
        dirpath: where the trainings are stored.
        steps: the candidates, such as ["init", "100it", "1ep"]; default: 0 and the training's length divided by 128,
            64, ... 2.
        seeds: how many networks, or which; with three or more, an interval over them decides.
        threshold: the barrier below which a training is stable.
        overrides: settings that go before the recipe's.
        every: test every step, for the whole curve, in place of bisecting.
        show: is told about each result.

    Raises:
        ValueError: the recipe monitors nothing, a step lies after the training's end, or how long it is cannot be known
            and no steps are given.
        StorageError: the directory holds trainings of other settings, or without a state of one of the steps.

    Source: Frankle, Dziugaite, Roy & Carbin, "Linear Mode Connectivity and the Lottery Ticket Hypothesis", ICML 2020,
    sections 2 and 4: networks that are stable from a step on have tickets that match when they are rewound to it.
    """
    first = load(str(recipe), overrides)
    if first.ticket.monitor is None:
        raise ValueError(
            f"{recipe} monitors no metric; set lottery.monitor to one that the module logs, such as val_acc"
        )
    length = _length(first)
    if steps is None and not length.total:
        raise ValueError(
            f"how long a training of {recipe} is cannot be told before it: give steps, such as init,100it,1ep"
        )
    numbers = range(seeds) if isinstance(seeds, int) else seeds
    if not numbers:
        raise ValueError(f"seeds={seeds!r}: give 1 or more")
    candidates = _candidates(steps or _spread(length.total), length)
    search = RewindSearch(candidates, length, threshold)
    networks = [_Network(Path(dirpath), str(recipe), tuple(overrides), first.seed_settings, n) for n in numbers]
    for network in networks:
        show(f"seed {network.seed}: training the dense network")
        network.train(search.steps)

    def test(step: Step) -> bool:
        search.heights[step] = []
        for network in networks:
            search.heights[step].append(network.barrier(step))
            show(f"seed {network.seed}: error barrier from {step}: {search.heights[step][-1]:.2%}")
        return search.stable(step)

    if every:
        for step in search.steps:
            test(step)
    else:
        _bisect(search.steps, test)
    return search


def written(recipe: str, step: Step) -> str:
    """The text of a recipe, with another rewind point; everything else stays as it is, comments too.

    Raises:
        ValueError: it has no section `lottery`, or its `rewind` has settings of its own.

    Example:
        >>> print(written("lottery:\\n  rounds: 3\\n  rewind: init  # for now\\n", Step(0, 500)))
        lottery:
          rounds: 3
          rewind: 500it  # for now
        <BLANKLINE>
    """
    lottery = _value(yaml.compose(recipe), "lottery")
    if not isinstance(lottery, yaml.MappingNode) or not lottery.value:
        raise ValueError("the recipe has no section `lottery` to write the step into")
    rewind = _value(lottery, "rewind")
    if isinstance(rewind, yaml.MappingNode):
        raise ValueError(  # noqa: TRY004 (a setting of the user's)
            f"the recipe's rewind has settings of its own; write `to: {step}` into them"
        )
    if rewind is not None:
        begin, end, text = rewind.start_mark.index, rewind.end_mark.index, str(step)
    else:
        first = lottery.value[0][0].start_mark
        begin = end = first.index
        rest = ", " if lottery.flow_style else "\n" + " " * first.column
        text = f"rewind: {step}{rest}"
    return recipe[:begin] + text + recipe[end:]


def _value(node: Any, key: str) -> Any:
    """The node of a key of a YAML mapping; None where there is none."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


@dataclass(frozen=True)
class _Network:
    """One dense training, and the children that go on from its steps."""

    path: Path
    recipe: str
    overrides: tuple[str, ...]
    seed_settings: tuple[str, ...]
    seed: int

    def train(self, steps: Sequence[Step]) -> None:
        with logged(self._directory("dense.log")):
            cli = self._load("dense")
            cli.ticket.snapshots = tuple(steps)
            cli.trainer.fit(cli.model, datamodule=cli.datamodule)
        dense = self._directory("dense")
        lost = [str(s) for s in steps if not run_directory(dense).holds(snapshot_file(s))]
        if lost:
            raise StorageError(
                f"{dense} was trained without storing its state at {', '.join(lost)}: it was begun with other steps, or"
                " ended before. Give those steps, or another directory."
            )

    def barrier(self, step: Step) -> float:
        name = f"step-{step}"
        directory = self._directory(name)
        if read_barrier(directory) is None:
            with logged(self._directory(f"{name}.log")):
                cli = self._load(name)
                dense = self._directory("dense")
                cli.ticket.branch = Branch(str(dense), start=str(step), order=1)
                cli.trainer.fit(cli.model, datamodule=cli.datamodule)
                measure_barrier(cli, Run(dense).weights(0), directory)
        found = read_barrier(directory)
        return math.nan if found is None else found.height

    def _directory(self, name: str) -> Path:
        return self.path / f"seed-{self.seed}" / name

    def _load(self, name: str) -> RecipeCLI:
        own = ("--lottery.rounds", "0", "--lottery.dirpath", str(self._directory(name)))
        quiet = "--trainer.enable_progress_bar", "false"
        seed = seeding(self.seed, self.seed_settings)
        cli = load(self.recipe, [*self.overrides, *seed, *own, *quiet])
        cli.ticket.test_each_round = True
        return cli


def _candidates(steps: Sequence[str], length: Length) -> tuple[Step, ...]:
    """The steps, each once and in order as far as their order is known."""
    found = tuple(dict.fromkeys(Step.parse(step) for step in steps))
    if not length.total:
        return found
    late = [str(step) for step in found if length.position(step) >= length.total]
    if late:
        raise ValueError(
            f"steps: {', '.join(late)} is not before the end of the training, which has {length.total} steps"
        )
    return tuple(sorted(found, key=length.position))


def _bisect(steps: Sequence[Step], passes: Callable[[Step], bool]) -> None:
    """Test what is needed to find the first step that passes, if all after it do."""
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        if passes(steps[middle]):
            high = middle
        else:
            low = middle + 1


def _spread(total: int) -> list[str]:
    """The beginning, and a training's length halved up to seven times."""
    found = dict.fromkeys(total // parts for parts in (128, 64, 32, 16, 8, 4, 2))
    return ["init", *(f"{steps}it" for steps in found if steps)]


def _length(cli: RecipeCLI) -> Length:
    trainer, source = cli.trainer, cli.datamodule or cli.model
    with streams.isolated():
        source.trainer = trainer
        source.prepare_data()
        source.setup("fit")
        loader = source.train_dataloader()
    try:
        batches = len(loader)
    except TypeError:  # endless data
        return Length(0, max(trainer.max_steps, 0))
    limit = trainer.limit_train_batches
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    epoch = max(1, math.ceil(batches / trainer.accumulate_grad_batches))
    epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else 0
    limits = [n for n in (trainer.max_steps, epoch * epochs) if n > 0]
    return Length(epoch, min(limits, default=0))
