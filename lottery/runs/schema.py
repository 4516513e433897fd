"""What the files of a run say, as types: read once, checked then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from torch import Tensor

from lottery.pruning.dynamic import Move
from lottery.pruning.graph.paths import ConnectivitySummary
from lottery.runs.layout import CALLBACK
from lottery.runs.metric import Metric, Metrics, Mode, decide
from lottery.runs.retraining import Rewind
from lottery.storage.encoding import decode

Row = Mapping[str, int | float]
"""`step`, `epoch`, and the metrics that were logged since the row before."""


def rows_of(stored: object) -> list[Row]:
    """What was logged in a round, as plain data.

    Raises:
        ValueError: something is of another type; the message says where.
    """
    return [*decode(stored, list[dict[str, int | float]])]


@dataclass(frozen=True)
class Settings:
    """What a run was trained with. Runs of earlier versions may lack what has a default.

    Args:
        pruning: the arguments of its `Pruning`.
        rewind: where its rounds begin.
        monitor: the metric by which the best step is chosen, None for none, and "min" or "max".
        parameters: the shape of each prunable parameter.
        seed_everything: the seed that Lightning gave the process, None where it gave none.
        dynamic: the method by which masks move while they train, None where they stay.
        module: the name of its class.
        hyperparameters: the module's.
        data: the hyperparameters of the data module, or what else is known of the data.
        optimizers: each with its class and arguments.
        lr_schedulers: the same of schedulers.
        max_epochs: the Trainer's limit, None or -1 for none.
        max_steps: the Trainer's limit, None or -1 for none.
        stored: all of it as plain data, and the Trainer's other arguments. It is what fits are compared by.
    """

    pruning: Mapping[str, object]
    rewind: Rewind
    monitor: tuple[str | None, Mode]
    parameters: Mapping[str, tuple[int, ...]]
    seed_everything: str | None = None
    dynamic: Mapping[str, object] | None = None
    module: str | None = None
    hyperparameters: object = None
    data: object = None
    optimizers: Sequence[Mapping[str, Any]] = ()
    lr_schedulers: Sequence[object] = ()
    max_epochs: int | None = None
    max_steps: int | None = None
    stored: Mapping[str, object] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, stored: Mapping[str, object]) -> Settings:
        """The settings in plain data.

        Raises:
            ValueError: something is missing, or of another type; the message says where.
        """
        return decode(_with_itself(stored), cls)


_FORMER = {"moving": "dynamic", "instead_of": "branch"}  # names that earlier versions wrote
# what a score or a structure did before there was a setting for it
_UNRECORDED: Mapping[str, Mapping[str, object]] = {"channel": {"norms": "over survivors"}, "grasp": {"absolute": False}}


def _with_itself(settings: Mapping[str, object]) -> dict[str, object]:
    named = {_FORMER.get(name, name): value for name, value in settings.items()}
    pruning = named.get("pruning")
    if isinstance(pruning, Mapping):
        named["pruning"] = {
            name: {**_UNRECORDED.get(str(piece.get("name")), {}), **piece} if isinstance(piece, Mapping) else piece
            for name, piece in pruning.items()
        }
    return {**named, "stored": named}


@dataclass(frozen=True)
class RunInfo:
    """What is written once, when a run begins.

    Args:
        id: tells this run from all others.
        seed: from which the random streams of rounds 1, 2, ... are derived.
        versions: of Python and of what changes results, by name.
        environment: what else of the machine may change them.
        settings: what defines the run.
    """

    id: str
    seed: int
    versions: Mapping[str, str]
    settings: Settings
    environment: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: object) -> RunInfo:
        """What `plain` returned.

        Raises:
            ValueError: something is missing, or of another type; the message says where.
        """
        plain = decode(stored, dict[str, Any])
        settings = plain.get("settings")
        return decode({**plain, "settings": _with_itself(settings)} if isinstance(settings, Mapping) else plain, cls)

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return {
            "id": self.id,
            "seed": self.seed,
            "versions": self.versions,
            "environment": self.environment,
            "settings": self.settings.stored,
        }


@dataclass(frozen=True)
class Retried:
    """How a round is trained otherwise than the others, since it had diverged.

    Args:
        attempt: which it is after the first: 1, 2, ...
        seed: of the round's random streams; None for one that follows from the run's seed and the attempt.
        learning_rate: what all learning rates are multiplied by.
    """

    attempt: int
    seed: int | None = None
    learning_rate: float = 1.0

    @classmethod
    def of(cls, stored: object) -> Retried:
        """What `asdict` made plain.

        Raises:
            ValueError: something is missing, or of another type; the message says where.
        """
        return decode(stored, cls)


@dataclass(frozen=True)
class RoundSummary:
    """A finished round in numbers.

    Args:
        round: its number; 0 is dense.
        density: kept / prunable at its end.
        kept: weights that its masks keep.
        prunable: weights that masks can take.
        densities: the density of each prunable parameter.
        steps: optimizer steps in all, those before the rewind point included.
        epochs: the same of epochs.
        monitor: the metric by which the best step was chosen, None for none.
        mode: whether its smallest or its largest value is best.
        start: metrics before any training.
        best: metrics at the best step, with `step` and `epoch`; empty where nothing is monitored.
        last: the last value of each metric.
        test_best: test metrics at the best step.
        test_last: test metrics at the end.
        seconds: time spent training.
        logged_steps: steps as loggers count them.
        connectivity: what the masks leave of the network.
        moves: the moves of the masks within the round.
        metric: the number that says most, decided when round 0 ended; None where nothing was logged.
        retried: how it was trained otherwise than the others, since it had diverged; None where it was not.
    """

    round: int
    density: float
    kept: int
    prunable: int
    densities: Mapping[str, float]
    steps: int
    epochs: int
    monitor: str | None
    mode: Mode
    start: Metrics
    best: Metrics
    last: Metrics
    test_best: Metrics
    test_last: Metrics
    seconds: float
    logged_steps: int
    connectivity: ConnectivitySummary
    moves: tuple[Move, ...] = ()
    metric: Metric | None = None
    retried: Retried | None = None

    @classmethod
    def of(cls, stored: object) -> RoundSummary:
        """What `plain` returned; summaries of earlier versions get the metric that is decided now.

        Raises:
            ValueError: something is missing, or of another type; the message says where.
        """
        plain = decode(stored, dict[str, Any])
        found = decode(plain, cls)
        return found if "metric" in plain else found.with_metric(None)

    def with_metric(self, first: Metric | None) -> RoundSummary:
        """With the metric of the run's first round; of None with what its own numbers decide."""
        own = decide(self.monitor, self.mode, last=self.last, test_best=self.test_best, test_last=self.test_last)
        return replace(self, metric=first or own)

    def value(self, metric: Metric | None) -> float | None:
        """That of a metric; None where it was not logged, or was not finite."""
        if metric is None:
            return None
        metrics: Metrics = getattr(self, metric.part)
        return metrics.get(metric.name)

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class RoundState:
    """What checkpoints hold of a round while it trains: plain containers and tensors.

    Args:
        run: the id of its run.
        round: its number.
        masks: those it trains under, packed.
        shapes: the shape of each.
        record: the arguments of its `lottery.training.record.Record`.
        gathered: what a score has gathered, by parameter; empty for those that gather nothing.
        moving: the state of the masks' mover; empty where masks stay.
        epoch_starts: the step at which each epoch began.
        metrics: Lightning's, as they were last logged.
        fresh: the names of those that were logged since they were last noted.
        streams: what Lightning's checkpoints leave out, as `States.state` gives it.
        unmoved: the pruned weights that no optimizer moves.
    """

    run: str
    round: int
    masks: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, ...]]
    record: Mapping[str, Any]
    gathered: Mapping[str, Tensor]
    moving: Mapping[str, Any]
    epoch_starts: list[int]
    metrics: Mapping[str, Tensor]
    fresh: list[str]
    streams: Mapping[str, object]
    unmoved: list[str] | None = None

    @classmethod
    def within(cls, checkpoint: Mapping[str, Any]) -> RoundState | None:
        """That of a checkpoint, None where it is of a training without LotteryTicket.

        Raises:
            ValueError: something is missing, or of another type; the message says where.
        """
        callbacks = checkpoint.get("callbacks")
        found = callbacks.get(CALLBACK) if isinstance(callbacks, Mapping) else None
        return decode(found, cls) if found else None

    def plain(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def history(self) -> list[Row]:
        """What was logged so far."""
        return list(self.record["history"])

    @property
    def moves(self) -> tuple[Move, ...]:
        """How masks have moved so far."""
        return tuple(Move(**move) for move in self.moving.get("moves", ()))
