"""Pictures of a thing by name, where one function adds one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from lottery.foundations.registry import Registry

Draw = TypeVar("Draw", bound=Callable[..., Any])


class Gallery:
    """The pictures of one kind of thing, such as of runs.

    Example:
        >>> gallery = Gallery()
        >>> @gallery.picture("sum")
        ... def draw_sum(numbers, ax=None):
        ...     return f"{sum(numbers)} on {ax}"
        >>> gallery.draw("sum", [1, 2], ax="an axis")
        '3 on an axis'
        >>> gallery.draw("mean", [1, 2])
        Traceback (most recent call last):
        ValueError: kind='mean'; choose from sum
    """

    def __init__(self) -> None:
        self._pictures = Registry[Callable[..., Any]]("kind", "picture", "pictures", callable, "none other")

    def picture(self, kind: str) -> Callable[[Draw], Draw]:
        """Make the decorated function the picture of that name.

        Raises:
            ValueError: another one has the name.
        """
        return self._pictures.register(kind)

    def __iter__(self) -> Iterator[str]:
        return iter(self._pictures)

    def draw(self, kind: str, of: Any, **options: Any) -> Any:
        """What the picture of that name gives of a thing: axes or a figure.

        Args:
            kind: its name.
            of: the thing.
            options: of its function.

        Raises:
            ValueError: there is no such picture.
        """
        if kind not in self:
            raise ValueError(f"kind={kind!r}; choose from {', '.join(self)}")
        drawn = self._pictures.resolve(kind)(of, **options)
        take_literally(drawn)
        return drawn


def take_literally(drawn: Any) -> None:
    """Have names with dollar signs in a picture drawn as they are, rather than set as formulas.

    Args:
        drawn: axes or a figure; whatever else is left alone.
    """
    figure = getattr(drawn, "figure", None)
    if figure is None:
        return
    from matplotlib.text import Text
    from matplotlib.ticker import FixedFormatter

    numbers = {
        id(label)
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        if not isinstance(axis.get_major_formatter(), FixedFormatter)
        for tick in (*axis.majorTicks, *axis.minorTicks)
        for label in (tick.label1, tick.label2)
    }
    for text in figure.findobj(Text):
        if id(text) not in numbers:
            text.set_parse_math(False)
