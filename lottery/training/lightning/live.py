"""What training changes outside of checkpoints: attributes, modes, samplers, parameter groups, the Trainer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from types import SimpleNamespace
from typing import TYPE_CHECKING

from torch.optim import Optimizer

from lottery.foundations import streams
from lottery.training.lightning.kinds import bare_module, is_a
from lottery.training.lightning.loaders import generators_of
from lottery.training.state import Changes, Objects, Root, Snapshot, is_generator, reseed

if TYPE_CHECKING:
    from lottery.training.lightning.namespaces import Trainer

_TRAINER = (
    "accumulate_grad_batches",
    "check_val_every_n_epoch",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "limit_train_batches",
    "limit_val_batches",
    "log_every_n_steps",
    "val_check_batch",  # which it has once its loaders are made
    "val_check_interval",
)
_STRATEGY = ("_optimizers", "lr_scheduler_configs")
SETTINGS = ("trainer", "fit_loop", "epoch_loop")  # roots: what the Trainer is set to
_OF_THE_PROCESS = ("_last_time_checked", "dirpath")  # its clock, where its files go
_SCHEDULING = ("scheduler", "interval", "frequency", "monitor", "strict")
# of what every module has
_SET_BY_MODULES = {"training", "_automatic_optimization", "_param_requires_grad_state"}
_OPTIMIZER = ("state", "param_groups", "defaults", "step")  # in its state, or torch's
_WITHOUT_STATE = ("ProgressBar", "Timer", "LotteryTicket")


def look(trainer: Trainer) -> Objects:
    """The live objects of a fit as they are now."""
    return Objects(dict(_roots(trainer)), _beyond(trainer))


class Live:
    """The live objects of a fit, as they were before its first round.

    Args:
        trainer: a Trainer whose fit begins.
        beforehand: what `look` gave before and after what Lightning did before the rounds, and is not of how they were.
    """

    def __init__(self, trainer: Trainer, beforehand: Sequence[tuple[Objects, Objects]] = ()) -> None:
        self._trainer = trainer
        self.objects = look(trainer)
        for before, after in reversed(beforehand):
            self.objects.undo(before, after)

    def changes(self) -> Changes:
        """What has changed since, as plain data."""
        return self.objects.changes()

    def restore(self, changes: Changes, without: Collection[str] = ()) -> None:
        """Put everything back as it was at first, and then to `changes`; but the Trainer only back, until `enter`.

        Args:
            changes: what `changes` gave, also in another process.
            without: state keys of callbacks that are only put back as they were at first.
        """
        self._trainer.fit_loop._skip_backward = False
        left_out = {*without, *SETTINGS}
        self.objects.restore({k: v for k, v in changes.items() if k not in left_out})
        self._wrap()

    def enter(self, changes: Changes, without: Collection[str] = ()) -> None:
        """Undo what the hooks of a training's start have done, in a training that goes on: all is as `changes` has it,
        but for what is called as one of `without`, which stays as it is.
        """
        self.objects.restore(changes, without)
        self._wrap()

    def _wrap(self) -> None:
        """Have Lightning's wrappers around the optimizers that there are now."""
        strategy = self._trainer.strategy
        wrapped = [known._optimizer for known in strategy._lightning_optimizers]
        if any(a is not b for a, b in zip_longest(wrapped, strategy._optimizers)):
            strategy.optimizers = strategy._optimizers

    @contextmanager
    def undisturbed(self) -> Iterator[Snapshot]:
        """Leave every live object, after the block, as it was before it: as in the snapshot that is given."""
        before = self.objects.snapshot()
        try:
            yield before
        finally:
            self.objects.restore(before.changes, made=before.made)

    def optimizers(self) -> list[Optimizer]:
        """The optimizers that the module or a callback holds, or another object of the user's."""
        return list(self.objects.reached(lambda o: isinstance(o, Optimizer)).values())

    def opaque(self) -> list[str]:
        """What holds state and cannot be captured."""
        return self.objects.opaque()

    def lost(self) -> list[str]:
        """What training has put in the place of something else, and cannot be captured."""
        return self.objects.lost()


class LoaderStates:
    """The state of the data loaders that a loop has built: orders, counters and random generators.

    What it first was is remembered for each loader: the same may come back in a later round.

    Attributes:
        live: what is reached from elsewhere, and how that was when the fit began; None while a tuner runs before it.
    """

    def __init__(self) -> None:
        self.live: Live | None = None
        self._known: list[tuple[list[object], Objects]] = []

    def capture(self, loaders: list[object]) -> Changes:
        """What has changed in loaders since they were first seen, as plain data."""
        return self._objects(loaders).changes() if loaders else {}

    def restore(self, loaders: list[object], changes: Changes) -> None:
        """Put loaders back as they were first, and then to `changes`."""
        if loaders:
            self._objects(loaders).restore(changes)

    def seed(self, loaders: list[object], seed: int) -> bool:
        """Start every generator of random numbers anew; whether there are any."""
        own = generators_of(loaders)
        for index, generator in enumerate(own):
            generator.manual_seed(streams.derive(seed, "loader", index))
        found = self._objects(loaders).reached(is_generator) if loaders else {}
        for name, generator in found.items():
            if not any(generator is known for known in own):
                reseed(generator, streams.derive(seed, "loader", name))
        return bool(own or found)

    def _objects(self, loaders: list[object]) -> Objects:
        for known, objects in self._known:
            pairs = zip(known, loaders, strict=False)
            if len(known) == len(loaders) and all(a is b for a, b in pairs):
                return objects
        roots = {f"loader {i}": SimpleNamespace(it=it) for i, it in enumerate(loaders)}
        earlier = None if self.live is None else self.live.objects
        objects = Objects(roots, earlier=earlier)
        self._known.append((list(loaders), objects))
        return objects


def _roots(trainer: Trainer) -> Iterator[tuple[str, Root]]:
    module = trainer.lightning_module
    own = vars(bare_module(trainer)).keys() - _SET_BY_MODULES
    yield "module", Root(module, without=own)
    if trainer.datamodule is not None:
        yield "datamodule", Root(trainer.datamodule, without=("trainer",))
    seen: Counter[str] = Counter()  # keys of callbacks without a state may be equal
    for callback in trainer.callbacks:
        if not is_a(callback, *_WITHOUT_STATE):
            key = callback.state_key
            seen[key] += 1
            name = f"{key} {seen[key]}" if seen[key] > 1 else key
            yield name, Root(callback, without=_OF_THE_PROCESS)
    for index, optimizer in enumerate(trainer.optimizers):
        yield f"optimizer {index}", Root(optimizer, without=_OPTIMIZER)
    for index, config in enumerate(trainer.lr_scheduler_configs):
        yield f"scheduling {index}", Root(config, only=_SCHEDULING)
    yield "strategy", Root(trainer.strategy, only=_STRATEGY)
    yield "trainer", Root(trainer, only=_TRAINER)
    fit_loop = trainer.fit_loop
    yield "fit_loop", Root(fit_loop, only=("max_epochs", "min_epochs"))
    yield "epoch_loop", Root(fit_loop.epoch_loop, only=("max_steps", "min_steps"))
    for loop, kind in ((fit_loop, "train_dataloaders"), (fit_loop.epoch_loop.val_loop, "val_dataloaders")):
        given = loop._data_source.instance
        if not any(given is known for known in (None, module, trainer.datamodule)):
            loaders = getattr(given, "flattened", given)
            yield kind, Root(SimpleNamespace(given=loaders))


def _beyond(trainer: Trainer) -> dict[str, object]:
    """What is a part of the fit, and is no state of the user's."""
    schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
    silent = [c for c in trainer.callbacks if is_a(c, *_WITHOUT_STATE)]
    parts: dict[str, Iterable[object]] = {"logger": trainer.loggers, "scheduler": schedulers, "callback": silent}
    named = {f"{kind} {i}": p for kind, ps in parts.items() for i, p in enumerate(ps)}
    return {"the Trainer": trainer, **named}
