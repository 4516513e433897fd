"""Which hooks a fit's module and callbacks have of their own, and what Lightning has no hook for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lottery.training.lightning.namespaces import Trainer

# Lightning's callbacks that write weights
_WRITING = ("WeightAveraging", "StochasticWeightAveraging")


def overridden(trainer: Trainer, hooks: Iterable[str]) -> list[str]:
    """Those of `hooks` that callbacks and the module have of their own, such as ``MyCallback.on_train_batch_end``.

    Lightning's own are passed over, but for those of callbacks that write weights.
    """
    return [
        f"{type(owner).__name__}.{hook}"
        for owner in (*trainer.callbacks, trainer.lightning_module)
        for hook in hooks
        if hook in vars(owner) or _is_own(type(owner), hook)
    ]


def _is_own(kind: type, hook: str) -> bool:
    home = next((base for base in kind.__mro__ if hook in vars(base)), None)
    if home is None:
        return False
    package = home.__module__.partition(".")[0]
    return package not in ("lightning", "pytorch_lightning", "lottery") or home.__name__ in _WRITING


def checked_saves(trainer: Trainer, check: Callable[[Mapping[str, object]], None]) -> AbstractContextManager[None]:
    """Have `check` see every checkpoint that the Trainer is about to write, and stop it by raising."""
    return _before(trainer.strategy, "save_checkpoint", lambda checkpoint, *_, **__: check(checkpoint))


def before_checkpoints(trainer: Trainer, action: Callable[[], None]) -> AbstractContextManager[None]:
    """Have `action` called before the state of anything is taken into a checkpoint."""
    return _before(trainer._checkpoint_connector, "dump_checkpoint", lambda *_, **__: action())


def before_validations(trainer: Trainer, action: Callable[[], None]) -> AbstractContextManager[None]:
    """Have `action` called before each validation of a training, and before any callback knows of it."""
    return _before(trainer.fit_loop.epoch_loop.val_loop, "run", action)


def before_clipping(trainer: Trainer, action: Callable[[], None]) -> AbstractContextManager[None]:
    """Have `action` called where gradients are about to be clipped, after every hook that may have written them."""
    manual = not trainer.lightning_module.automatic_optimization
    own = overridden(trainer, ["configure_gradient_clipping"])

    def act(*_: object, **__: object) -> None:
        if manual or own or trainer.gradient_clip_val:
            action()

    method = "clip_gradients" if manual else "_clip_gradients"
    return _before(trainer.precision_plugin, method, act)


@contextmanager
def _before(owner: object, method: str, action: Callable[..., None]) -> Iterator[None]:
    original, own = getattr(owner, method), vars(owner).get(method)

    def with_action(*args: object, **kwargs: object) -> object:
        action(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, method, with_action)
    try:
        yield
    finally:
        delattr(owner, method)
        if own is not None:
            setattr(owner, method, own)
