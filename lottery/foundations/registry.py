"""Pieces of one kind by name: what scores, structures, pictures and their like have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Generic, TypeVar, cast

P = TypeVar("P")
T = TypeVar("T", bound=Callable[..., object])


@dataclass(frozen=True)
class Registry(Generic[P]):
    """Pieces of one kind by name: dataclasses, whose fields are their settings, and functions, which have none.

    Args:
        argument: the argument that such a piece is given as.
        kind: what errors call one.
        plural: what errors call all of them.
        accepts: whether an object is such a piece, registered or not.
        otherwise: what a user may give beside a name and a mapping, for errors.

    Example:
        >>> scores = Registry[Callable[[int], int]]("score", "score", "scores", callable, "a function")
        >>> @scores.register("square")
        ... def square(x: int) -> int:
        ...     return x * x
        >>> scores.resolve("square")(3), scores.find(square)
        (9, 'square')
        >>> scores.resolve("sqare")
        Traceback (most recent call last):
        ValueError: there is no score 'sqare'. Did you mean square? The scores are square.
    """

    argument: str
    kind: str
    plural: str
    accepts: Callable[[object], bool]
    otherwise: str
    _named: dict[str, Callable[..., Any]] = field(default_factory=dict, init=False)

    def register(self, *names: str) -> Callable[[T], T]:
        """Decorator: give a dataclass or function its names.

        Raises:
            ValueError: another one has the name.
        """

        def decorate(piece: T) -> T:
            for name in names:
                known = self._named.get(name, piece)
                if _home(known) != _home(piece):
                    raise ValueError(f"there is a {self.kind} {name!r} already, in {known.__module__}")
                self._named[name] = piece
            return piece

        return decorate

    def resolve(self, piece: str | Mapping[str, object] | P) -> P:
        """A piece from its name, from a mapping with its name and settings, from its class, or as it is.

        Raises:
            ValueError: an unknown name or setting; the message lists what is close, or all.
            TypeError: it is none of these.
        """
        if isinstance(piece, str):
            return self._build(piece, {})
        if isinstance(piece, Mapping):
            settings = dict(piece)
            return self._build(settings.pop("name", None), settings)
        if isinstance(piece, type):
            return self.resolve(piece())
        if self.accepts(piece):
            return piece
        raise TypeError(
            f"{self.argument}={piece!r}: give a name ({', '.join(self.available())}), a mapping with a name and"
            f" settings, or {self.otherwise}"
        )

    def __iter__(self) -> Iterator[str]:
        """The names, in the order in which they were registered."""
        return iter(self._named)

    def available(self) -> dict[str, str]:
        """Every name with one line about it, in alphabetical order."""
        return {name: (piece.__doc__ or "").strip().split("\n")[0] for name, piece in sorted(self._named.items())}

    def find(self, piece: P) -> str | None:
        """The name of a piece, the first of several; None of a user's own that has none."""
        for name, known in self._named.items():
            if known is piece or known is type(piece):
                return name
        return None

    def _build(self, name: object, settings: dict[str, object]) -> P:
        if name not in self._named:
            close = get_close_matches(str(name), self._named)
            hint = f"Did you mean {' or '.join(close)}? " if close else ""
            raise ValueError(
                f"there is no {self.kind} {name!r}. {hint}The {self.plural} are {', '.join(self.available())}."
            )
        piece = self._named[name]
        configurable = isinstance(piece, type)
        known = [f.name for f in fields(cast(Any, piece))] if configurable else []
        if unknown := settings.keys() - set(known):
            raise ValueError(
                f"the {self.kind} {name!r} has no setting {', '.join(sorted(unknown))}; it has"
                f" {', '.join(known) or 'none'}"
            )
        return piece(**settings) if configurable else cast(P, piece)


def described(name: str, piece: object) -> dict[str, object]:
    """A piece as plain data, the same however it was written: its name and settings, functions by their names."""
    if not is_dataclass(piece) or isinstance(piece, type):
        return {"name": name}
    settings = asdict(piece).items()
    return {"name": name, **{k: getattr(v, "__qualname__", v) for k, v in settings}}


def _home(piece: Any) -> tuple[str, str]:
    """Where a piece is defined: what is defined there again, as in a notebook, takes the place of the old."""
    return piece.__module__, piece.__qualname__
