"""Pictures of a thing by name, where one function adds one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from lottery.foundations.registry import Registry

if TYPE_CHECKING:
    from lottery.plots.picture import Picture

Draw = TypeVar("Draw", bound=Callable[..., Any])


class Gallery:
    """The pictures of one kind of thing, such as of runs.

    Example:
        >>> gallery = Gallery()
        >>> @gallery.picture("sum")
        ... def draw_sum(numbers, *, ax=None, start=0):
        ...     return f"{sum(numbers, start)} on {ax}"
        >>> gallery.draw("sum", [1, 2], ax="an axis")
        '3 on an axis'
        >>> gallery.draw("sum", [1, 2], first=3)
        Traceback (most recent call last):
        ValueError: first=3: kind='sum' has no such option; its options are ax, start
        >>> gallery.draw("mean", [1, 2])
        Traceback (most recent call last):
        ValueError: kind='mean'; choose from sum
    """

    def __init__(self) -> None:
        self._pictures = Registry[Callable[..., Any]]("kind", "picture", "pictures", callable, "none other")

    def picture(self, kind: str) -> Callable[[Draw], Draw]:
        """Make the decorated function the picture of that name; its keyword arguments are its options.

        Raises:
            ValueError: another one has the name.
        """
        return self._pictures.register(kind)

    def __iter__(self) -> Iterator[str]:
        return iter(self._pictures)

    def options(self, kind: str) -> list[str]:
        """The names of the options of a picture.

        Raises:
            ValueError: there is no such picture.
        """
        if kind not in self:
            raise ValueError(f"kind={kind!r}; choose from {', '.join(self)}")
        return list(inspect.signature(self._pictures.resolve(kind)).parameters)[1:]

    def draw(self, kind: str, of: Any, **options: Any) -> Picture:
        """The picture of that name of a thing.

        Args:
            kind: its name.
            of: the thing.
            options: of its function; None stands for its default.

        Raises:
            ValueError: there is no such picture, or it has no such option.
        """
        known = self.options(kind)
        given = {name: value for name, value in options.items() if value is not None}
        for name, value in given.items():
            if name not in known and "options" not in known:  # of what it is drawn from
                shown = f"{name}={value!r}" if isinstance(value, (str, int, float)) else name
                raise ValueError(f"{shown}: kind={kind!r} has no such option; its options are {', '.join(known)}")
        return self._pictures.resolve(kind)(of, **given)
