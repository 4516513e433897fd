"""What Lightning knows of signals."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lottery.training.lightning.namespaces import Trainer


def requeue_signal(trainer: Trainer) -> int | None:
    """The signal with which SLURM asks for the job to be put back into the queue, None where nothing asks."""
    environment: Any = trainer._accelerator_connector.cluster_environment
    kinds = [kind.__name__ for kind in type(environment).__mro__]  # of lightning_fabric or lightning.fabric
    if "SLURMEnvironment" not in kinds or not environment.auto_requeue:
        return None
    return environment.requeue_signal or signal.SIGUSR1


def handlers_before(trainer: Trainer) -> dict[int, Any]:
    """The handlers of signals that there were before the fit."""
    return dict(trainer._signal_connector._original_handlers)
