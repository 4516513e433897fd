"""The data of a fit: its loaders, and from which random streams each order was drawn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch

from lottery.foundations import streams
from lottery.training.lightning.live import SETTINGS, Live, LoaderStates
from lottery.training.lightning.loaders import built_loaders, generators_of, iterables_of, set_sampler_epochs
from lottery.training.state import Changes, Plain

if TYPE_CHECKING:
    from lottery.training.lightning.namespaces import Trainer


class Data:
    """The loaders of a fit.

    Args:
        trainer: the fit's.

    Attributes:
        round: the round that loaders are told whose order depends on it.
        origin: the random streams from which the iterator of this epoch was made; None without one.
        is_stale: whether the next epoch has to make an iterator anew.
        validation: what loaders of validations are to go on with, once they are made.
        lost_orders: data sets whose order in an epoch that was cut cannot be known.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.round = 0
        self.origin: dict[str, Plain] | None = None
        self.is_stale = False
        self.validation: Changes | None = None
        self.lost_orders: list[str] = []
        self._live: Live | None = None
        self._orders = LoaderStates()
        self._first_iterator: Mapping[str, Plain] | None = None
        self._built: Changes = {}
        self._build_from: tuple[Changes, Changes, Collection[str]] | None = None

    def begin(self, live: Live) -> None:
        """The rounds begin, with these live objects."""
        self._live = self._orders.live = live

    def persistent(self) -> list[str]:
        """The training data loaders, as far as they are made, whose workers live on from epoch to epoch."""
        return [
            type(loader).__name__ for loader in self._train_loaders() if getattr(loader, "persistent_workers", False)
        ]

    def capture_validation(self) -> Changes:
        """What has changed in the loaders of validations, as plain data."""
        return self._orders.capture(self._validation_loaders())

    def capture_streams(self) -> dict[str, Plain]:
        """All random streams as they are now, and what the training's loaders have counted."""
        return {
            "streams": streams.capture(),
            "generators": [g.get_state() for g in self._generators()],
            "loaders": self._orders.capture(self._train_loaders()),
        }

    def restore_streams(self, state: Mapping[str, Plain]) -> None:
        """Put back what `capture_streams` gave."""
        streams.restore(state["streams"])
        self._restore_loaders(state)

    def _restore_loaders(self, state: Mapping[str, Plain], counters: bool = True) -> None:
        if counters:
            self._orders.restore(self._train_loaders(), state.get("loaders", {}))
        for generator, known in zip(self._generators(), state["generators"], strict=False):
            generator.set_state(known)

    def seed(self, seed: int) -> None:
        """Start all random streams from one seed."""
        streams.seed(seed)
        self._seed_loaders(seed)

    def put_live(self, live: Changes, without: Collection[str] = ()) -> None:
        """Have live objects as `live` has them, but for the loaders."""
        assert self._live is not None
        now = self.capture_streams()
        self._live.enter(live, without)
        self._restore_loaders(now)

    def drop(self) -> None:
        """Have all loaders made anew."""
        loop = self.trainer.fit_loop
        for part in (loop, loop.epoch_loop.val_loop):
            if part._data_fetcher is not None:
                part._data_fetcher.teardown()
                part._data_fetcher = None
            part._combined_loader = None
        self.origin = None

    def make_iterator_again(
        self, origin: Mapping[str, Plain], given: int, states: object = None, reorder: bool = False
    ) -> None:
        """Make an epoch's iterator as it was made first and pass over the batches that it has given.

        To reorder, `origin` is another one, and loaders whose order depends on the round are told it first.
        """
        loop = self.trainer.fit_loop
        self.build_as(origin)
        fetcher = loop._data_fetcher
        set_sampler_epochs(self._train_loaders(), loop.epoch_progress.current.processed)
        if states is not None:
            loop._combined_loader._load_state_dicts(states)
            self.tell_round()
            iter(fetcher)
        else:
            if reorder:
                self.tell_round()
            if origin["kind"] == "iterate":
                self.restore_streams(origin)
                iter(fetcher)
            if "first" in origin:
                self.restore_streams(origin["first"])
            self._pass_over(given)
        self.origin = dict(origin)

    def begin_epoch(self, loaders: Changes, seed: int) -> Callable[[], None]:
        """Start a round at the beginning of an epoch, on random streams of its own.

        Args:
            loaders: what they are to have counted.
            seed: of the streams.

        Returns:
            What is to be called in an epoch that makes an iterator of its own, before it does.
        """
        loop = self.trainer.fit_loop
        self._first_iterator = {"generators": [], "loaders": loaders}
        streams.seed(seed)
        loop.setup_data()
        if self._seed_loaders(seed):  # the iterator was made with other draws
            self._orders.restore(self._train_loaders(), loaders)
            self.seed(seed)
            self.note_iterator("iterate")
            iter(loop._data_fetcher)

        def count_as_captured() -> None:
            generators = [g.get_state() for g in self._generators()]
            self._orders.restore(self._train_loaders(), loaders)
            self._seed_loaders(seed)
            self._restore_loaders({"generators": generators}, counters=False)

        return count_as_captured

    def _pass_over(self, given: int) -> None:
        fetcher, after_first = self.trainer.fit_loop._data_fetcher, None
        for already in range(given):
            if next(fetcher, None) is None:
                raise ValueError(
                    f"the round was stopped after {given} batches of an epoch, and the data that it is to go on with"
                    f" have {already}. Go on with the data of the run, or start anew in another dirpath."
                )
            after_first = after_first or streams.fingerprint(streams.capture())
        fetcher.fetched -= given  # the epoch loop adds them again
        if given and streams.fingerprint(streams.capture()) != after_first:
            self.lost_orders = iterables_of(self._train_loaders())

    def build_as(self, origin: Mapping[str, Plain]) -> None:
        """Build the loaders and their first iterator from the random streams of `origin`."""
        self._first_iterator = origin
        self.restore_streams(origin)
        self.trainer.fit_loop.setup_data()

    def note_iterator(self, kind: Literal["build", "iterate"]) -> None:
        origin = {"kind": kind, "built": self._built, **self.capture_streams()}
        self.origin = origin

    def tell_round(self) -> None:
        """Tell the round to loaders whose order depends on it."""
        for loader in self._train_loaders():
            if hasattr(loader, "set_round"):
                loader.set_round(self.round)

    def before_build(self) -> None:
        """Have loaders made as they were made first, where making them changes what the next ones are."""
        if self._build_from is not None:
            built, _, without = self._build_from
            self.put_live(built, {*without, *SETTINGS})
        if self._live is not None:
            self._built = self._live.changes()

    def build_from(self, built: Changes, live: Changes, without: Collection[str]) -> None:
        """Have the loaders that are made next made where live objects are as `built` says, which are then as `live`
        says.
        """
        self._build_from = built, live, without

    def after_build(self) -> None:
        if self._build_from is not None:
            _, live, without = self._build_from
            self._build_from = None
            self.put_live(live, {*without, *SETTINGS})

    def before_first_iterator(self) -> None:
        if self._first_iterator is not None:
            self._restore_loaders(self._first_iterator)
            self._first_iterator = None
        if self.origin is not None:
            now = self.capture_streams()
            self.origin |= {k: now[k] for k in ("generators", "loaders")}

    def before_first_batch(self) -> None:
        """Samplers draw their order when first asked, after hooks that may have drawn from the same streams."""
        if self.origin is not None:
            self.origin["first"] = self.capture_streams()

    def after_validation_build(self) -> None:
        """Have loaders of validations, once they are made, go on as they were."""
        if self.validation is not None:
            self._orders.restore(self._validation_loaders(), self.validation)
            self.validation = None

    def _train_loaders(self) -> list[Any]:
        return built_loaders(self.trainer.fit_loop)

    def _validation_loaders(self) -> list[object]:
        return built_loaders(self.trainer.fit_loop.epoch_loop.val_loop)

    def _generators(self) -> list[torch.Generator]:
        return generators_of(self._train_loaders())

    def _seed_loaders(self, seed: int) -> bool:
        """Seed what draws the order of the data; whether there is anything."""
        return self._orders.seed(self._train_loaders(), seed)

    def states_of_loaders(self) -> list[dict[str, Plain]] | None:
        """States of the loaders, where all have one that counts just the batches handed to the module."""
        loop = self.trainer.fit_loop
        prefetching = loop._data_fetcher is None or loop._data_fetcher.length is None
        stateful = all(hasattr(loader, "load_state_dict") for loader in self._train_loaders())
        return [loader.state_dict() for loader in self._train_loaders()] if stateful and not prefetching else None
