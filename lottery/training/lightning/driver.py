"""What a fit with several rounds is driven by."""

from __future__ import annotations

from typing import Literal, Protocol

Position = Literal["start", "epoch", "batch"]


class Driver(Protocol):
    """What a fit with several rounds is driven by."""

    def run(self) -> None:
        """Called in place of the training; calls `Fit.train` once per round."""

    def after_batch(self) -> None:
        """Called after the hooks of a batch and before its validation."""

    def wants_boundary(self) -> bool:
        """Asked after every batch whether `at_boundary` has anything to do."""

    def restored(self) -> None:
        """Called when live objects were put back after a training had started."""

    def at_boundary(self, position: Position | Literal["end"]) -> None:
        """Called with "epoch" or "batch" where a state can be captured and the round goes on, and with "end" after the
        last epoch of a round."""
