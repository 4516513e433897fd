"""What a value of an axis is, and how a file registers its values."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Value:
    """One value of an axis.

    Attributes:
        name: the value's name, unique in its axis.
        what: one line about it.
        make: makes the object anew, for each fit.
        needs: what it asks of the values beside it.
        lacks: what it does not give to the values beside it.
        gives: what it gives to the values beside it, and others do not.
        package: what must be there to import, without which it is left out.
        refused: a part of the message with which it is refused before training; None if it trains.
        gap: a law that is known not to hold, and why; the others do.
        more: what only its own axis knows.
    """

    name: str
    what: str
    make: Callable[..., Any]
    needs: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()
    package: str | None = None
    refused: str | None = None
    gap: tuple[str, str] | None = None
    more: Any = None

    @property
    def heavy(self) -> bool:
        """Whether it comes from a package that costs too much to be tried beside everything else."""
        light = ("torch", "pytorch_lightning", "schedulefree", "pytorch_optimizer")
        return self.package is not None and self.package.partition(".")[0] not in light

    @property
    def installed(self) -> bool:
        return self.package is None or importlib.util.find_spec(self.package) is not None


class Axis(dict[str, Value]):
    """Values by name, in the order of their file; the first is the base, beside which others are tried.

    Used as a decorator, it registers the function below it, whose docstring says what the value is.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    @property
    def base(self) -> str:
        return next(iter(self))

    def __call__(
        self,
        *,
        name: str | None = None,
        needs: str = "",
        lacks: str = "",
        gives: str = "",
        package: str | None = None,
        refused: str | None = None,
        gap: tuple[str, str] | None = None,
        more: Any = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def register(make: Callable[..., Any]) -> Callable[..., Any]:
            self.add(
                Value(
                    name or make.__name__.rstrip("_").replace("_", " "),
                    (make.__doc__ or "").strip().rstrip("."),
                    make,
                    frozenset(needs.split()),
                    frozenset(lacks.split()),
                    frozenset(gives.split()),
                    package,
                    refused,
                    gap,
                    more,
                )
            )
            return make

        return register

    def add(self, value: Value) -> None:
        if value.name in self:
            raise ValueError(f"{self.name}: two values are called {value.name!r}")
        self[value.name] = value
