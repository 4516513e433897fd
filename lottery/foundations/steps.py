"""Positions in a training: "500it", "2ep" or "2ep50it"."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TEXT = re.compile(r"(?:(?P<epochs>[0-9]+)ep)?(?:(?P<iterations>[0-9]+)it)?")


@dataclass(frozen=True)
class Step:
    """A point of one round: so many whole epochs, then so many optimizer steps.

    Args:
        epochs: whole epochs from the start of the round, at least 0.
        iterations: optimizer steps after those epochs, at least 0.

    Raises:
        ValueError: a number is negative.

    Example:
        >>> Step.parse("2ep50it")
        Step(epochs=2, iterations=50)
        >>> str(Step(iterations=500)), str(Step())
        ('500it', 'init')
    """

    epochs: int = 0
    iterations: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.iterations < 0:
            raise ValueError(f"{self!r} lies before the start of the round")

    @classmethod
    def parse(cls, text: str | Step) -> Step:
        """Read "2ep", "500it", "2ep50it" or "init" (the same as "0it").

        Raises:
            ValueError: the text is none of these; the message shows the forms.
        """
        if isinstance(text, Step):
            return text
        if text == "init":
            return cls()
        match = _TEXT.fullmatch(str(text))
        if not match or not str(text):
            raise ValueError(
                f"{text!r} is not a step. Write 'init', '500it' (optimizer steps), '2ep' (epochs) or '2ep50it'."
            )
        return cls(int(match["epochs"] or 0), int(match["iterations"] or 0))

    def __str__(self) -> str:
        parts = [f"{n}{unit}" for n, unit in ((self.epochs, "ep"), (self.iterations, "it")) if n]
        return "".join(parts) or "init"
