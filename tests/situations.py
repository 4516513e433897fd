"""What users' modules keep between batches: objects that `grow` changes, and a `value` that depends on all of it."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import fractions
import functools
import itertools
import types
import weakref
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn

T = TypeVar("T")


class Base:
    """A user's object."""

    def grow(self, by: float) -> None:
        """Change what is kept."""

    def value(self) -> float:
        """What is read from it."""
        raise NotImplementedError


class Node:
    def __init__(self, value: Any, previous: Any = None) -> None:
        self.value, self.previous, self.next = value, previous, None


class Slotted:
    __slots__ = ("__hidden", "__weakref__", "shown")

    def __init__(self, value: float) -> None:
        self.shown, self.__hidden = value, [value]

    def hidden(self) -> float:
        return sum(self.__hidden)


@dataclasses.dataclass(frozen=True, eq=True)
class Frozen:
    value: float
    earlier: tuple[float, ...] = ()


class Statistics(NamedTuple):
    count: int
    history: list[Any]


class Box(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value


class LinkedList(Base):
    def __init__(self) -> None:
        self.head: Any = None

    def grow(self, by: float) -> None:
        node = Node(by, self.head)
        if self.head is not None:
            self.head.next = node
        self.head = node

    def value(self) -> float:
        node, total = self.head, 0.0
        while node is not None:
            total, node = total + node.value, node.previous
            assert node is None or node.next.previous is node
        return total


class PoolAndIndex(Base):
    """The same objects in a list and in a dictionary, and one list in two places."""

    def __init__(self) -> None:
        self.pool: list[Any] = []
        self.index: dict[int, Any] = {}
        self.owner: Any = None

    def grow(self, by: float) -> None:
        key = len(self.pool) % 3
        if key not in self.index:
            self.index[key] = Node(0.0)
            self.pool.append(self.index[key])
        self.index[key].value += by
        self.owner = Node(self.pool)

    def value(self) -> float:
        return sum(n.value for n in self.pool) + len(self.owner.value)


class Rotated(Base):
    """Objects that were there first change places, and new ones come."""

    def __init__(self) -> None:
        self.current, self.last = Node(0.0), Node(1.0)
        self.double = [Node(0.0), Node(1.0)]
        self.constant = self.frozen = Frozen(0.0)

    def grow(self, by: float) -> None:
        self.last, self.current = self.current, Node(by)
        self.double.reverse()
        self.double[0].value += by
        self.frozen = Frozen(by, (*self.frozen.earlier, by))

    def value(self) -> float:
        values = [self.current.value, 2 * self.last.value, self.double[0].value]
        return sum(values) + sum(self.frozen.earlier) + 100 * self.constant.value


class OfEveryClass(Base):
    def __init__(self) -> None:
        self.slotted: list[Any] = []
        self.keys: dict[Any, float] = {}
        self.seen: set[Any] = set()
        self.statistics = Statistics(0, [])
        self.boxes: list[Any] = []
        self.spaces: list[Any] = []

    def grow(self, by: float) -> None:
        self.slotted.append(Slotted(by))
        self.keys[Frozen(float(len(self.keys)))] = by
        self.seen.add(Frozen(by))
        count, history = self.statistics
        self.statistics = Statistics(count + 1, [*history, Node(by)])
        self.boxes.append(Box[float](by))
        self.spaces.append(types.SimpleNamespace(value=by))

    def value(self) -> float:
        found = sum(s.shown + s.hidden() for s in self.slotted)
        found += self.keys[Frozen(0.0)] + len(self.seen)
        found += sum(n.value for n in self.statistics.history)
        return found + sum(b.value for b in (*self.boxes, *self.spaces))


class References(Base):
    """To itself, by weak references, by methods."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.weak: Any = None
        self.me, self.total = self, 0.0
        self.add = self.add_once

    def add_once(self, by: float) -> None:
        self.total += by

    def add_twice(self, by: float) -> None:
        self.total += 2 * by

    def grow(self, by: float) -> None:
        self.kept.append(Node(by, self))
        self.weak = weakref.ref(self.kept[-1])
        self.add(by)
        self.add = self.add_twice

    def value(self) -> float:
        assert self.me is self and all(n.previous is self for n in self.kept)
        return float(self.weak().value + self.total)


class Counted:
    """Its class counts."""

    total: ClassVar[float] = 0.0


class ClassesAndFunctions(Base):
    def __init__(self) -> None:
        Counted.total = 0.0
        self.kind, self.counted = Counted, Counted()
        _double.total = 0.0  # type: ignore[attr-defined]
        self.function: Any = _double

    def grow(self, by: float) -> None:
        self.kind.total += by
        self.function.total += by

    def value(self) -> float:
        return float(Counted.total + self.function.total)


class Values(Base):
    """What is not changed, but replaced."""

    def __init__(self) -> None:
        self.values: list[Any] = [
            *(fractions.Fraction(0), decimal.Decimal(0), slice(0), range(1)),
            datetime.datetime(2020, 1, 1),
        ]
        self.numbers = itertools.count()

    def grow(self, by: float) -> None:
        fraction, number, part, numbers, day = self.values
        self.values = [
            fraction + fractions.Fraction(1, 3),
            number + decimal.Decimal("0.1"),
            slice(part.stop + 1),
            range(len(numbers) + 1),
            day + datetime.timedelta(days=1),
        ]
        self.last = next(self.numbers)

    def value(self) -> float:
        fraction, number, part, numbers, day = self.values
        found = float(fraction) + float(number) + part.stop + len(numbers) + day.day
        return float(found + self.last)


class Arrays(Base):
    def __init__(self) -> None:
        self.record = np.zeros(2, dtype=[("a", "f4"), ("b", "i8")])
        self.masked = np.ma.zeros(3)
        self.objects = np.array([None, 0.0], object)

    def grow(self, by: float) -> None:
        self.record["a"][0] += by
        self.masked[0] += by
        self.masked.mask = [0, 1, 0]
        self.objects[1] += by
        self.late = np.array([[by]], order="F")

    def value(self) -> float:
        found = self.record["a"].sum() + self.masked.sum() + self.objects[1]
        return float(found + self.late.sum())


class Tensors(Base):
    """That look into one another, also into weights."""

    def __init__(self) -> None:
        self.layer = nn.Linear(2, 2)
        nn.init.zeros_(self.layer.weight)
        self.whole = torch.zeros(6)
        self.part = self.whole[2:]
        self.best: Any = None
        self.sparse = [torch.eye(2).to_sparse(), torch.eye(2).to_sparse_csr()]
        self.first_sparse = self.sparse[1]

    def grow(self, by: float) -> None:
        with torch.no_grad():
            self.sparse[0].mul_(by + 1)
            self.sparse[1] = (by * torch.ones(2, 2)).to_sparse_csr()
            self.first_sparse.values().add_(by)
        if self.best is None:
            self.best = {"weight": self.layer.weight.detach()}
            self.late = torch.zeros(4)
            self.late_part = self.late[2:]
        self.part += by
        self.late_part += by
        with torch.no_grad():
            self.layer.weight += by

    def value(self) -> float:
        tensors = [self.whole, self.late, self.best["weight"], self.first_sparse]
        tensors += self.sparse
        tensors = [tensor.to_dense() for tensor in tensors]
        return float(sum(tensor.sum() for tensor in tensors))


class LateParts(Base):
    """Modules and optimizers that training makes."""

    def __init__(self) -> None:
        self.layer: Any = None

    def grow(self, by: float) -> None:
        if self.layer is None:
            self.layer = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
            nn.init.ones_(self.layer[0].weight)
            nn.init.ones_(self.layer[0].bias)
            parameters = self.layer.parameters()
            self.optimizer = torch.optim.Adam(parameters, 0.1)
            self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 1)
        self.layer(torch.tensor([[by], [0.0]])).pow(2).sum().backward()
        self.layer[0].weight.grad.fill_(by)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()

    def value(self) -> float:
        found = float(self.layer[0].weight.detach().sum())
        found += float(self.layer[1].running_mean.sum())
        return found + float(self.schedule.get_last_lr()[0])


class Ordered(Base):
    """Containers whose order matters."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.recent: Any = collections.deque(maxlen=3)
        self.grouped: Any = collections.defaultdict(list)

    def grow(self, by: float) -> None:
        self.seen.add(64 * (8 - len(self.seen)))
        self.recent.append(Node(by))
        self.grouped[len(self.recent)].append(self.recent[-1])

    def value(self) -> float:
        found = next(iter(self.seen)) + sum(node.value for node in self.recent)
        return found + sum(n.value for nodes in self.grouped.values() for n in nodes)


class Hooks(nn.Module, Base):
    """Hooks with a state of their own, and buffers that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        nn.init.ones_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.layer.register_forward_hook(_Scale())
        self.handle: Any = self.layer.register_forward_hook(_double)
        self.register_buffer("there", torch.zeros(1), persistent=False)
        self.calls = 0

    def grow(self, by: float) -> None:
        self.calls += 1
        if self.calls == 2:
            self.handle.remove()
            del self.there
            self.register_buffer("late", torch.zeros(1), persistent=False)
        if self.calls > 2:
            self.late += by
        self.result = float(self.layer(torch.ones(1, 1)).detach())

    def value(self) -> float:
        there = hasattr(self, "there") + 2 * hasattr(self, "late")
        return self.result + there + float(getattr(self, "late", 0.0))


class Structure(nn.Module, Base):
    """Parts, weights and buffers that come, go, and take each other's place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = _ones()
        self.stack = nn.ModuleList([_ones()])
        self.waiting = [_ones(), _ones()]
        self.aux: Any = _ones()
        self.mean = torch.zeros(1)
        self.scale: Any = None
        self.latent = torch.ones(1, requires_grad=True)
        self.step = functools.partial(_times, Node(1.0))
        self.calls = 0

    def grow(self, by: float) -> None:
        self.calls += 1
        if self.calls == 2:
            self.stack.append(self.waiting.pop())
            self.layer.bias = nn.Parameter(torch.ones(1))
            del self.mean
            self.register_buffer("mean", torch.zeros(1))
            self.aux = None
            self.layer.weight.importance = by  # type: ignore[assignment]
            self.scale = nn.Parameter(torch.ones(1))
        self.mean += by
        (self.latent * by).sum().backward()
        self.step.args[0].value += by
        with torch.no_grad():
            for parameter in self.parameters():
                parameter += by

    def value(self) -> float:
        found = sum(float(p.detach().sum()) for p in self.parameters())
        found += sum(float(part.weight.detach().sum()) for part in self.waiting)
        grad = 0.0 if self.latent.grad is None else float(self.latent.grad)
        found += float(getattr(self.layer.weight, "importance", 0.0)) + grad
        return found + float(self.mean) + self.step(2.0)


def _ones() -> nn.Linear:
    layer = nn.Linear(1, 1)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _times(node: Node, by: float) -> float:
    return float(node.value * by)


class _Scale:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, module: Any, args: Any, out: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return out * self.calls


def _double(module: Any, args: Any, out: torch.Tensor) -> torch.Tensor:
    return 2 * out


SITUATIONS = [
    *(LinkedList, PoolAndIndex, Rotated, OfEveryClass, References),
    *(ClassesAndFunctions, Values, Arrays, Tensors, LateParts, Ordered, Hooks),
    Structure,
]
