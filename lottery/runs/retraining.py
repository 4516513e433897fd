"""What a round starts from: the rewind point and the retraining rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lottery.foundations.steps import Step

_OPTIMIZER_DEFAULTS = {"weights": "rewind", "learning-rate": "fresh", "fine-tune": "keep"}


@dataclass(frozen=True)
class Rewind:
    """Where each round after the dense one begins.

    Args:
        to: the rewind point, a step of round 0: "init", "500it", "2ep" or "2ep50it".
        rule: what goes back to the rewind point.
            "weights": weights, buffers, learning-rate schedule and progress (weight rewinding).
            "learning-rate": schedule and progress; the weights stay as trained (learning-rate rewinding).
            "fine-tune": nothing; training goes on for `length` at the final learning rate, schedulers at rest.
        optimizer: the optimizer's state (momentum and the like): "rewind" takes that of the rewind point, "keep" that
            of the end of the round before, "fresh" starts empty. By default what the rule suggests: "rewind" for
            weights, "fresh" for learning-rate, "keep" for fine-tune.
        length: for "fine-tune" only: how long to train, such as "5ep" (of a Trainer limited by max_epochs) or "500it"
            (of one limited by max_steps). Those last epochs or steps of the Trainer's round are trained again.

    Raises:
        ValueError: an unknown rule or optimizer, or a length that does not go with the rule.

    Example:
        >>> Rewind("2ep").step, Rewind.of("500it").rule
        (Step(epochs=2, iterations=0), 'weights')

    Source: Renda, Frankle & Carbin, "Comparing Rewinding and Fine-tuning in Neural Network Pruning", ICLR 2020,
    section 2; rewinding to step k: Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis",
    ICML 2020, section 2.
    """

    to: str = "init"
    rule: Literal["weights", "learning-rate", "fine-tune"] = "weights"
    optimizer: Literal["rewind", "fresh", "keep"] | None = None
    length: str | None = None

    def __post_init__(self) -> None:
        if self.rule not in _OPTIMIZER_DEFAULTS:
            raise ValueError(f"rule={self.rule!r}; the rules are {', '.join(map(repr, _OPTIMIZER_DEFAULTS))}")
        if self.optimizer is None:
            object.__setattr__(self, "optimizer", _OPTIMIZER_DEFAULTS[self.rule])
        if self.optimizer not in ("rewind", "fresh", "keep"):
            raise ValueError(f"optimizer={self.optimizer!r}; the choices are 'rewind', 'fresh', 'keep'")
        object.__setattr__(self, "to", str(Step.parse(self.to)))
        if (self.rule == "fine-tune") != (self.length is not None):
            raise ValueError("length= says how long to fine-tune: give it with rule='fine-tune', and only there")
        if self.length is not None:
            length = Step.parse(self.length)
            if bool(length.epochs) == bool(length.iterations):
                raise ValueError(f"length={self.length!r}; write whole epochs ('5ep') or steps ('500it')")
            if self.to != "init":
                raise ValueError("fine-tuning does not rewind: leave out `to`")

    @classmethod
    def of(cls, value: str | Mapping[str, Any] | Rewind) -> Rewind:
        """A step in text or a mapping of arguments, as a `Rewind`."""
        if isinstance(value, Rewind):
            return value
        return cls(**value) if isinstance(value, Mapping) else cls(to=value)

    @property
    def step(self) -> Step:
        """The rewind point; for "fine-tune" see `resolve`."""
        return Step.parse(self.to)

    def resolve(self, max_epochs: int | None, max_steps: int) -> Step:
        """The step of round 0 at which the rewind point is stored, for a Trainer with these limits (-1: none).

        Raises:
            ValueError: the step is not before the end of the round, or cannot be told from the limits.
        """
        epochs = -1 if max_epochs is None else max_epochs
        step = self.step
        if self.length is not None:
            length = Step.parse(self.length)
            limit, used, name = (
                (epochs, length.epochs, "max_epochs") if length.epochs else (max_steps, length.iterations, "max_steps")
            )
            if limit < 0:
                raise ValueError(f"fine-tuning for {self.length!r} needs a Trainer with {name}=...; it has none")
            if used > limit:
                raise ValueError(f"fine-tuning for {self.length!r} is longer than the round ({name}={limit})")
            step = Step(limit - used, 0) if length.epochs else Step(0, limit - used)
        too_late = 0 <= epochs <= step.epochs or 0 <= max_steps <= step.iterations
        if too_late and step != Step():
            limits = f"max_epochs={epochs}" if 0 <= epochs <= step.epochs else f"max_steps={max_steps}"
            raise ValueError(f"rewind={str(step)!r} is not before the end of a round ({limits}). Rewind earlier.")
        return step
