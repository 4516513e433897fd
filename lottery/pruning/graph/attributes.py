"""Sizes that modules note as attributes, such as a number of heads, and which units they are numbers of.

While a forward pass is followed, whole numbers among the attributes of modules know where they are noted. One that only
ever gives the size of a dimension with units shrinks with these; one that anything else is made of stays as it is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lottery.pruning.graph.sizes import Size

if TYPE_CHECKING:
    from typing_extensions import Self

    from lottery.pruning.graph.labels import Labels

Places = frozenset[str]


class Noted(Size):
    """A size that is an attribute, or a product of such sizes.

    Args:
        value: how large it is.
        places: of the attributes that it is made of, such as "blocks.0.attention.heads"; an entry of a tuple has its
            number, as in "widths.1".
        fixed: where the places of attributes are put that something else is made of.

    Example:
        >>> fixed = set()
        >>> heads, width = Noted(4, {"heads"}, fixed), Noted(8, {"width"}, fixed)
        >>> sorted((heads * width).places), width // 2, fixed
        (['heads', 'width'], 4, {'width'})
    """

    places: Places
    fixed: set[str]

    def __new__(cls, value: int, places: Iterable[str] = (), fixed: set[str] | None = None) -> Self:
        size = super().__new__(cls, value, 0)
        size.places = frozenset(places)
        size.fixed = set() if fixed is None else fixed
        return size

    def stay(self) -> int:
        """The plain number, from which something else is made."""
        self.fixed.update(self.places)
        return int.__int__(self)

    def __mul__(self, other: int) -> int:
        if isinstance(other, Noted):
            return Noted(int.__mul__(self, other), self.places | other.places, self.fixed)
        if type(other) is int:
            return Noted(int.__mul__(self, other), self.places, self.fixed)
        return other * self.stay()

    __rmul__ = __mul__


def _with_plain(operation: Callable[..., Any], reflected: bool = False) -> Any:
    def plain(self: Noted, *others: Any) -> Any:
        operands = self.stay(), *others
        return operation(*reversed(operands) if reflected else operands)

    return plain


for _name in ("add", "sub", "floordiv", "truediv", "mod", "pow"):
    for _side in ("", "r"):
        setattr(Noted, f"__{_side}{_name}__", _with_plain(getattr(operator, _name), bool(_side)))
setattr(Noted, "__neg__", _with_plain(operator.neg))  # noqa: B010 (as the others)
setattr(Noted, "__float__", _with_plain(float))  # noqa: B010


def noted_in(value: object) -> Iterator[Noted]:
    """The noted sizes among the arguments of a function."""
    if isinstance(value, Noted):
        yield value
    elif isinstance(value, (tuple, list, dict, slice)):
        parts = [value.start, value.stop, value.step] if isinstance(value, slice) else value
        for part in parts.values() if isinstance(parts, dict) else parts:
            yield from noted_in(part)


@contextmanager
def noted(module: nn.Module, uses: Uses) -> Iterator[None]:
    """Inside the block the whole numbers from 2 on among the attributes of modules are `Noted`.

    Not those of torch's own layers, which follow the shapes of their tensors.
    """
    changed: list[tuple[dict[str, Any], str, Any, Any]] = []
    for path, part in module.named_modules():
        own, foreign = vars(part), _of_torch(part)
        for name, value in list(own.items()):
            if name[0] == "_" or name in foreign:
                continue
            if (size := uses.as_noted(value, f"{path}.{name}" if path else name)) is not None:
                changed.append((own, name, value, size))
                own[name] = size
    try:
        yield
    finally:
        for own, name, value, size in changed:
            if own.get(name) is size:  # else forward has set another
                own[name] = value


def renoted(module: nn.Module, sizes: Mapping[str, int]) -> None:
    """Give attributes of modules other sizes, by place.

    Raises:
        ValueError: there is no such attribute, or it is no whole number.

    Example:
        >>> net = nn.Module()
        >>> net.heads, net.widths = 4, (2, 3)
        >>> renoted(net, {"heads": 3, "widths.1": 2})
        >>> net.heads, net.widths
        (3, (2, 2))
    """
    parts = dict(module.named_modules())
    for place, size in sizes.items():
        own, name, number = _found(parts, place)
        entries = [own[name]] if number is None else list(own[name])
        if type(size) is not int or type(entries[number or 0]) is not int:
            raise ValueError(f"{place} is {entries[number or 0]!r}, and not a whole number that {size!r} could replace")
        entries[number or 0] = size
        own[name] = size if number is None else type(own[name])(entries)


def other_sizes(module: nn.Module, smaller: nn.Module) -> dict[str, int]:
    """Place of an attribute to its value in a smaller module of the same classes, where that is another.

    Example:
        >>> one, other = nn.Module(), nn.Module()
        >>> one.heads, other.heads = 4, 1
        >>> other_sizes(one, other)
        {'heads': 1}
    """
    with noted(module, uses := Uses()):
        pass
    parts, sizes = dict(smaller.named_modules()), {}
    for place, value in uses.values.items():
        own, name, number = _found(parts, place)
        size = own[name] if number is None else own[name][number]
        if type(size) is int and size != value:
            sizes[place] = size
    return sizes


def _found(parts: Mapping[str, nn.Module], place: str) -> tuple[dict[str, Any], str, int | None]:
    """The attributes among which one is, its name, and which of its entries is meant."""
    place, _, last = place.rpartition(".") if place.rpartition(".")[2].isdigit() else (place, "", None)
    path, _, name = place.rpartition(".")
    if path not in parts or name not in vars(parts[path]):
        raise ValueError(f"{type(parts['']).__name__} has no attribute {place}, which notes a size")
    return vars(parts[path]), name, None if last is None else int(last)


def _of_torch(part: nn.Module) -> frozenset[str]:
    """The attributes that torch's own layers have, not its containers."""
    kinds = [kind for kind in type(part).__mro__ if kind.__module__.startswith("torch.nn.modules")]
    layers = [kind for kind in kinds if kind.__module__.rpartition(".")[2] not in ("module", "container")]
    names = (
        vars(part)
        if layers and layers[0] is type(part)
        else (name for kind in layers for name in getattr(kind, "__constants__", ()))
    )
    return frozenset(names) - ({"hidden_size"} if isinstance(part, (nn.RNNBase, nn.RNNCellBase)) else set())


class Uses:
    """Where sizes that are attributes were given for the sizes of features.

    Attributes:
        values: place of an attribute to its value.
        fixed: places of attributes that anything else is made of.
        found: the places that a size is made of, with the labels along the dimension, shape (size, any number).
    """

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.fixed: set[str] = set()
        self.found: list[tuple[Places, Tensor]] = []

    def as_noted(self, value: Any, place: str) -> Any:
        """The value of an attribute, with its place; None where it is no size."""
        if type(value) is int and value > 1:
            self.values[place] = value
            return Noted(value, {place}, self.fixed)
        if type(value) in (tuple, list) and value and all(type(n) is int for n in value):
            return type(value)(self.as_noted(n, f"{place}.{i}") or n for i, n in enumerate(value))
        return None

    def note(self, size: Noted, rows: Tensor) -> None:
        """That features have this size along a dimension, at whose places these labels are, shape (size, number)."""
        if bool((rows == rows[:, :1]).all()):
            rows = rows[:, :1]
        self.found.append((size.places, rows))

    def settle(self, labels: Labels) -> dict[str, Tensor]:
        """Tie what one attribute is the size of, and pin what cannot follow.

        Args:
            labels: where ties and pins are noted.

        Returns:
            Place of an attribute that follows to the labels of which it is the number, shape (value, any number).
        """
        lone = {place for places, _ in self.found if len(places) == 1 for place in places}
        while late := {place for use in self.found for place in self._stuck(lone, *use)}:
            self.fixed |= late
        following: dict[str, Tensor] = {}
        for places, rows in self.found:
            if free := (places & lone) - self.fixed:
                (place,) = free
                mine = _in_parts(rows, self.values[place], outside=len(places) == 1)
                labels.together(following.setdefault(place, mine)[:, :1], mine)
            else:
                what = " * ".join(sorted(places))
                labels.pin(rows, 0, (0, len(rows)), f"{what} is a size that something else is made of")
        return following

    def _stuck(self, lone: set[str], places: Places, rows: Tensor) -> Places:
        """Places that cannot follow in one use, though nothing else is made of them."""
        free = (places & lone) - self.fixed
        followed = len(free) == 1 and all(len(rows) % self.values[place] == 0 for place in free)
        return frozenset() if followed else free


def _in_parts(rows: Tensor, value: int, outside: bool) -> Tensor:
    """Several times as many rows as a value, so many to each: those of a part follow each other, or lie in each."""
    if outside:
        return rows.reshape(-1, value, rows.shape[1]).transpose(0, 1).flatten(1)
    return rows.reshape(value, -1)
