"""What scores and tracings ask of a fit: batches, losses, and what `forward` gets."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from lottery.foundations import streams
from lottery.foundations.tensors_in import with_tensors
from lottery.training.lightning.data import Data
from lottery.training.lightning.kinds import combined_loader_type, silent_logger
from lottery.training.lightning.loaders import generators_of, set_sampler_epochs

if TYPE_CHECKING:
    from lottery.training.lightning.namespaces import Trainer


class Scoring:
    """Batches and losses of a fit, beside its training.

    Args:
        trainer: the fit's.
        data: its loaders.

    Attributes:
        first_batch: the first training batch, until it is not needed any more.
    """

    def __init__(self, trainer: Trainer, data: Data) -> None:
        self.trainer = trainer
        self._data = data
        self.first_batch: object = None
        self._example: object = None
        self._watching: Callable[[], object] = lambda: None
        self._losses: list[bool] = []

    @contextmanager
    def some_loss(self) -> Iterator[None]:
        """Raise at the end where `training_step` has left out every batch."""
        self._losses = []
        yield
        if self._losses and not any(self._losses):
            raise ValueError(
                f"training_step of {type(self.trainer.lightning_module).__name__} gave None, and so no loss, for each"
                f" of the {len(self._losses)} batches that the score took. Let it take more (batches=), or use a score"
                " without data, such as 'magnitude' or 'synflow'."
            )

    def training_batches(self, seed: int) -> Generator[object, None, None]:
        """Fresh batches of the training data, on the module's device, in an order of their own.

        Every process of a distributed fit gets the same. Between rounds only: the loaders are those of the next one.
        """
        trainer = self.trainer
        source = trainer.fit_loop._data_source.dataloader()
        kind = combined_loader_type(trainer)
        loaders = source if isinstance(source, kind) else kind(source, "max_size_cycle")
        for loader in loaders.flattened:
            if hasattr(loader, "set_round"):
                loader.set_round(self._data.round)
        generators = generators_of(loaders.flattened)
        before = [generator.get_state() for generator in generators]
        streams.seed(seed)
        for index, generator in enumerate(generators):
            generator.manual_seed(streams.derive(seed, "loader", index))
        set_sampler_epochs(loaders.flattened, 0)
        try:
            for batch, *_ in loaders:
                batch = trainer.precision_plugin.convert_input(batch)
                yield trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        finally:
            for generator, state in zip(generators, before, strict=True):
                generator.set_state(state)

    def training_loss(self, module: nn.Module, batch: object) -> Tensor:
        """The loss that `training_step` gives for a batch; what it logs goes nowhere.

        A batch that the step leaves out, by giving None, adds nothing.

        Raises:
            ValueError: the module does its own optimization.
            TypeError: it gives no loss.
        """
        self.check_loss()
        found = self._training_step(module, batch)
        self._losses.append(found is not None)
        if found is None:
            return torch.stack([0 * p.sum() for p in module.parameters() if p.requires_grad]).sum()
        loss = found.get("loss") if isinstance(found, Mapping) else found
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"the training_step of {type(module).__name__} gave {type(found).__name__} and no loss, so there is"
                " nothing to score with"
            )
        return loss

    def check_loss(self) -> None:
        """Raise where `training_step` gives no loss because the module does its own optimization."""
        if not self.trainer.lightning_module.automatic_optimization:
            raise ValueError(
                f"{type(self.trainer.lightning_module).__name__} optimizes manually, so its training_step gives no loss"
                " to score with. Use a score without data, such as 'magnitude' or 'synflow', or a function of your own."
            )

    def note_batch(self, batch: object) -> None:
        """Remember what a training batch looks like, and what `forward` gets of it, from the first of a fit."""
        if self._example is None:
            self.first_batch = batch
            first = batch[0] if isinstance(batch, (list, tuple)) else batch
            if isinstance(first, Mapping):
                takes = inspect.signature(self.trainer.lightning_module.forward).parameters
                first = {k: v for k, v in first.items() if k in takes} or first
            self._example = with_tensors(first, _first_sample)
            self._watch_forward()

    def stop_watching(self) -> None:
        self._watching()
        self._watching = lambda: None

    def example_input(self, seed: int) -> object:
        """What the module's `forward` takes, of one sample: its `example_input_array`, or what it gets in a training
        step.

        Where it is not called in a step, what comes first in a training batch.
        """
        module = self.trainer.lightning_module
        if module.example_input_array is not None:
            return apply_to_collection(module.example_input_array, Tensor, lambda t: t.to(module.device))
        if self._example is None:
            batches = self.training_batches(seed)
            with streams.isolated(), contextlib.closing(batches):
                batch = next(batches)
                self.note_batch(batch)
                # a step says best what forward gets; where it fails, what comes first has to do (without gradients a
                # step of a module that optimizes manually ends before its optimizer's)
                with contextlib.suppress(Exception), torch.no_grad():
                    self._training_step(module, batch)
            self.stop_watching()
        return self._example

    def _training_step(self, module: Any, batch: object) -> object:
        step = module.training_step
        takes_index = len(inspect.signature(step).parameters) > 1
        loggers = self.trainer.loggers
        self.trainer.loggers = [silent_logger(self.trainer) for _ in loggers]
        module.log = module.log_dict = lambda *_, **__: None
        try:
            return step(batch, 0) if takes_index else step(batch)
        finally:
            del module.log, module.log_dict
            self.trainer.loggers = loggers

    def _watch_forward(self) -> None:
        """See what the next call of the module gets, in this step: a validation may call it with something else."""
        self.stop_watching()

        def note(module: object, args: tuple[object, ...], kwargs: dict[str, object], _: object) -> None:
            if module is not self.trainer.lightning_module:
                return
            self.stop_watching()
            called = inspect.signature(module.forward).bind(*args, **kwargs)
            found: object = dict(called.arguments) if called.kwargs else called.args
            if isinstance(found, tuple) and len(found) == 1:
                found = found[0] if isinstance(found[0], Tensor) else found
            self._example = with_tensors(found, _first_sample)

        # not one of the module's own hooks, where torch can do without: a step may copy the module
        register: Any = register_module_forward_hook
        if "with_kwargs" not in inspect.signature(register).parameters:
            register = self.trainer.lightning_module.register_forward_hook
        handle = register(note, with_kwargs=True)
        self._watching = handle.remove


def _first_sample(x: Tensor) -> Tensor:
    return x[:1].detach().clone() if x.ndim else x.detach().clone()
