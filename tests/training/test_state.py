"""Values as plain data and live objects: what training changes is captured, stored safely and put back."""

from __future__ import annotations

import argparse
import array
import collections
import dataclasses
import datetime
import enum
import io
import queue
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import pytest
import situations
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from situations import SITUATIONS
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset
from torchmetrics import MaxMetric, MeanMetric, MetricTracker
from torchmetrics.classification import MulticlassAccuracy

from lottery.training.state import Objects, Unstorable, decode, describe, encode, fill, is_plain, reseed, same


class Phase(enum.Enum):
    WARM = 1
    COLD = 2


class Pair(NamedTuple):
    left: Any
    right: Any


def stored(plain: Any) -> Any:
    """What is read back from a file, safely."""
    buffer = io.BytesIO()
    torch.save(plain, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.sampled_from(Phase),
    st.sampled_from([np.float64(0.1), np.int8(-3), np.float32("nan"), np.bool_(True)]),
    st.just(datetime.timedelta(seconds=3.5)),
    st.just(Path("a/b")),
    st.just(torch.arange(6.0).view(2, 3)),
    st.just(torch.tensor([1, 2], dtype=torch.int16)),
    arrays.arrays(
        st.sampled_from(["f8", "f2", "i4", "u1", "c16", "?", "M8[s]"]),
        arrays.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3),
    ),
)
KEYS = st.one_of(st.text(max_size=3), st.integers(), st.tuples(st.integers(), st.text(max_size=2)))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(Pair, inner, inner),
        st.dictionaries(KEYS, inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3).map(collections.OrderedDict),
        st.lists(inner, max_size=3).map(lambda items: collections.deque(items, 5)),
        st.frozensets(st.integers(), max_size=2),  # of more, the order may differ
    ),
    max_leaves=8,
)


@given(VALUES)
def test_every_value_comes_back_from_its_plain_form(value: Any) -> None:
    again = decode(stored(encode(value)))
    assert type(again) is type(value)
    assert repr(again) == repr(value) or same(encode(again), encode(value))


@given(VALUES, VALUES)
def test_plain_forms_are_the_same_only_of_equal_values(one: Any, other: Any) -> None:
    assert same(encode(one), encode(one))
    if same(encode(one), encode(other)):
        assert repr(one) == repr(other) or isinstance(one, (set, frozenset, dict))


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.Generator().manual_seed(3),
        lambda: np.random.default_rng(3),
        lambda: np.random.Generator(np.random.MT19937(3)),
        lambda: np.random.Generator(np.random.Philox(3)),
        lambda: np.random.RandomState(3),
        lambda: random.Random(3),
    ],
)
def test_a_generator_goes_on_with_the_same_draws(make: Any) -> None:
    def draw(generator: Any) -> list[float]:
        if isinstance(generator, torch.Generator):
            return torch.rand(3, generator=generator).tolist()
        return [generator.random() for _ in range(3)]

    generator = make()
    draw(generator)
    plain = stored(encode(generator))
    expected = draw(generator)
    live = make()
    fill(live, decode(plain))
    assert draw(live) == expected
    assert draw(decode(plain)) == expected
    reseed(generator, 2**62), reseed(live, 2**62)
    assert draw(generator) == draw(live)


def test_what_has_no_plain_form_is_named() -> None:
    with pytest.raises(Unstorable, match=r"here\['a'\]\[1\] \(object\)"):
        encode({"a": [1, object()]}, "here")
    assert not is_plain([np.float64(1.0)]) and is_plain({"a": [1, torch.zeros(2)]})


class Shuffled(Sampler):
    def __init__(self) -> None:
        self.random, self.passes = np.random.default_rng(5), 0

    def __iter__(self) -> Any:
        self.passes += 1
        return iter(self.random.permutation(8).tolist())

    def __len__(self) -> int:
        return 8


class Noisy(Dataset):
    def __init__(self) -> None:
        self.random, self.epoch = random.Random(1), 0
        self.names = [str(i) for i in range(5000)]  # data

    def __getitem__(self, index: int) -> float:
        return self.random.random()

    def __len__(self) -> int:
        return 8


class Everything(nn.Module):
    """Attributes of every kind that training changes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("unsaved", torch.zeros(2), persistent=False)
        self.best, self.tracker = MaxMetric(), MetricTracker(MulticlassAccuracy(3))
        self.temperature, self.history, self.phase = 1.0, [], Phase.WARM
        self.shadow = {"layer.weight": torch.zeros(2, 2)}
        self.counts: Any = collections.defaultdict(list)
        self.curriculum = SimpleNamespace(level=1, array=np.zeros(3))
        self.alias = self.curriculum
        self.hidden = [nn.Linear(1, 1)]  # in no state dict
        self.data = Noisy()
        self.loader = DataLoader(TensorDataset(torch.zeros(8)), sampler=Shuffled())
        self.cached: Any = None

    def train_a_little(self) -> None:
        self.best(torch.tensor(float(len(self.history))))
        self.tracker.increment()
        self.tracker.update(torch.tensor([0, 1]), torch.tensor([0, 2]))
        self.temperature *= 0.5
        self.history.append(np.float32(self.temperature))
        self.phase = Phase.COLD
        self.shadow["layer.weight"] += 1
        self.counts["seen"].append(len(self.history))
        self.curriculum.level += 1
        self.curriculum.array[0] += 1
        with torch.no_grad():
            self.hidden[0].weight += 1
        self.unsaved += 1
        self.data[0], list(self.loader)
        self.data.epoch += 1
        self.norm.eval()
        self.layer.weight.requires_grad_(False)
        self.cached = torch.full((2,), self.temperature)
        if not hasattr(self, "late"):
            self.late = MeanMetric()
        self.late.update(self.temperature)


def looked_at(module: Everything) -> Any:
    """What a user would see, and the draws that come next."""
    return encode(
        [
            module.best.compute(),
            [m.compute() for m in list(module.tracker)[1:]],
            module.temperature,
            module.history,
            module.phase,
            module.shadow,
            dict(module.counts),
            [module.curriculum.level, module.curriculum.array],
            module.hidden[0].weight.detach(),
            [module.unsaved, module.norm.training, module.layer.weight.requires_grad],
            [module.data.epoch, module.data[0], list(module.loader.sampler)],
            module.cached,
            module.late.compute() if hasattr(module, "late") else None,
        ]
    )


@given(st.integers(0, 3), st.integers(0, 3))
def test_live_objects_are_put_back_in_this_process_and_in_another(before: int, after: int) -> None:
    module = Everything()
    objects = Objects({"module": module})
    for _ in range(before):
        module.train_a_little()
    changes = stored(objects.changes())
    reference = Everything()
    for _ in range(before):
        reference.train_a_little()
    for _ in range(after):
        module.train_a_little()
    objects.restore(changes)
    assert module.alias is module.curriculum
    assert same(looked_at(module), looked_at(reference))

    another = Everything()
    Objects({"module": another}).restore(changes)
    reference = Everything()
    for _ in range(before):
        reference.train_a_little()
    assert same(looked_at(another), looked_at(reference))


def test_what_does_not_change_is_not_stored_and_large_data_are_not_looked_at() -> None:
    module = Everything()
    objects = Objects({"module": module})
    assert objects.changes() == {}
    module.data.names.append("x")
    assert objects.changes() == {}


def test_objects_stay_the_ones_that_were_there() -> None:
    module = Everything()
    objects = Objects({"module": module})
    history, shadow, best = module.history, module.shadow["layer.weight"], module.best
    module.history, module.best = [3], MaxMetric()
    module.shadow["layer.weight"].add_(1)
    objects.restore({})
    assert module.history is history == [] and module.best is best
    assert module.shadow["layer.weight"] is shadow and not shadow.any()


class Tail(list):
    """A list with an attribute."""

    seen = 0


class Counting:
    """Its class counts."""

    made: ClassVar[list[int]] = []
    total = 0

    def __init__(self) -> None:
        self.parts = [Step(torch.zeros(1), 0)]
        self.tail, self.namespace = Tail(), argparse.Namespace(level=0)
        self.queue, self.user = queue.Queue(), collections.UserDict()
        self.bytes, self.numbers = bytearray(b"a"), array.array("d", [0.5])
        self.layer = nn.Linear(2, 2)
        self.optimizer = torch.optim.Adam(self.layer.parameters())
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.5)
        self.current = self.best = [0.0]

    def train_a_little(self) -> None:
        step = len(self.parts)
        self.parts.append(Step(torch.ones(1) * step, step, previous=self.parts[0]))
        self.tail.append(step)
        self.tail.seen = step
        self.namespace.level += 1
        self.namespace.late = argparse.Namespace(step=step)
        self.queue.put(step)
        self.user[step] = step
        self.bytes.append(step)
        self.numbers.append(step)
        for parameter in self.layer.parameters():
            parameter.grad = torch.full_like(parameter, float(step))
        self.optimizer.step()
        self.schedule.step()
        self.current = self.best = [*self.best, float(step)]
        Counting.total += step
        Counting.made.append(step)

    def looked_at(self) -> Any:
        optimizer = self.optimizer.state_dict()
        return encode(
            [
                [(part.value, part.number) for part in self.parts],
                [list(self.tail), self.tail.seen, vars(self.namespace)["level"]],
                [list(self.queue.queue), self.queue.unfinished_tasks, self.user.data],
                [self.bytes, self.numbers, self.schedule.get_last_lr(), optimizer],
                [self.current, Counting.total, list(Counting.made)],
            ]
        )


@dataclasses.dataclass
class Step:
    """What a replay buffer holds."""

    value: torch.Tensor
    number: int
    previous: Step | None = None


@given(st.integers(0, 3), st.integers(0, 3))
def test_objects_of_the_users_and_of_the_standard_library_are_put_back(before: int, after: int) -> None:
    Counting.total, Counting.made = 0, []
    owner = Counting()
    objects = Objects({"module": owner})
    for _ in range(before):
        owner.train_a_little()
    changes, expected = stored(objects.changes()), owner.looked_at()
    for _ in range(after):
        owner.train_a_little()
    objects.restore(changes)
    assert same(owner.looked_at(), expected)
    assert owner.current is owner.best

    Counting.total, Counting.made = 0, []
    another = Counting()
    Objects({"module": another}).restore(changes)
    assert same(another.looked_at(), expected)
    assert another.current is another.best
    assert type(another.parts[-1]) is Step and type(another.tail) is Tail
    assert objects.lost() == []


def test_what_has_no_plain_form_inside_of_a_container_is_named_and_not_made_none() -> None:
    owner = SimpleNamespace(jobs=[1], frame=pd.DataFrame({"x": [1.0]}))
    objects = Objects({"module": owner})
    owner.jobs.append(object())
    owner.frame["x"] += 1
    changes = stored(objects.changes())
    assert objects.lost() == [f"module.frame ({describe(owner.frame)})", "module.jobs[1] (object)"]
    another = SimpleNamespace(jobs=[1], frame=pd.DataFrame({"x": [1.0]}))
    Objects({"module": another}).restore(changes)
    assert another.jobs == [1]


class Closing:
    """Its objects do something when they go."""

    def __del__(self) -> None:
        pass


def test_no_object_is_made_of_a_class_that_would_run_code() -> None:
    owner = SimpleNamespace(held=[])
    objects = Objects({"module": owner})
    owner.held.append(Closing())
    assert objects.lost() == [f"module.held[0] ({__name__}.Closing)"]
    tag = next(iter(encode(Phase.WARM)))
    for name in (f"{__name__}:Closing", "subprocess:Popen", "os:system"):
        changes = {
            "module": {"held": {tag: "object", "at": "+module.held"}},
            "+module.held": {"": {tag: "made", "class": name}},
        }
        objects.restore(changes)
        assert owner.held == []


def test_what_is_as_it_was_stays_the_object_that_it_is() -> None:
    owner = SimpleNamespace(current=[1], rows=[])
    objects = Objects({"module": owner})
    owner.current = current = [2]
    owner.rows.append(owner.current)
    snapshot = objects.snapshot()
    owner.current, owner.rows[0] = [3], 4
    objects.restore(snapshot.changes, made=snapshot.made)
    assert owner.current is current and owner.rows[0] is current == [2]
    another = SimpleNamespace(current=[1], rows=[])
    Objects({"module": another}).restore(stored(snapshot.changes))
    assert another.current is another.rows[0] and another.current == [2]


def test_what_holds_state_and_cannot_be_stored_is_named() -> None:
    owner = SimpleNamespace(schedule=lambda epoch: epoch, file=io.StringIO(), stream=iter([1]), size=3)
    objects = Objects({"callback": owner})
    assert objects.opaque() == [
        "callback.schedule (a lambda)",
        "callback.file (_io.StringIO)",
        "callback.stream (list_iterator)",
    ]
    assert objects.lost() == []
    owner.helper = object()
    assert objects.lost() == ["callback.helper (object)"]
    objects.restore({})
    assert not hasattr(owner, "helper")


def test_nothing_that_runs_code_is_looked_up() -> None:
    tag = next(iter(encode(Phase.WARM)))
    with pytest.raises(LookupError, match="no enumeration"):
        decode({tag: "enum", "class": "os:system", "name": "x"})
    with pytest.raises(LookupError, match="no container"):
        decode({tag: "container", "class": "subprocess:Popen", "items": []})
    with pytest.raises(LookupError, match="not a function of torchmetrics"):
        decode({tag: "function", "name": "os:getcwd"})
    with pytest.raises(LookupError, match="Popen"):
        decode({tag: "class", "name": "subprocess:Popen"})


@given(st.sampled_from(SITUATIONS), st.integers(1, 3), st.integers(1, 3))
def test_what_objects_are_to_each_other_comes_back(make: type[situations.Base], before: int, after: int) -> None:
    def grow(situation: situations.Base, first: int, times: int) -> list[float]:
        values = []
        for number in range(first, first + times):
            situation.grow(number + 0.5)
            values.append(situation.value())
        return values

    whole = make()
    grow(whole, 0, before)
    expected = grow(whole, before, after)

    situation = make()
    objects = Objects({"module": situation})
    for number in range(before):
        grow(situation, number, 1)
        snapshot = objects.snapshot()
        objects.restore(snapshot.changes, made=snapshot.made)  # changes nothing
    state = state_of(situation)
    changes = stored(objects.changes())
    assert objects.lost() == []
    assert grow(situation, before, after) == expected

    put(situation, objects, changes, state)
    assert grow(situation, before, after) == expected

    another = make()
    there = Objects({"module": another})
    put(another, there, changes, state)
    assert grow(another, before, after) == expected


def state_of(situation: Any) -> dict[str, torch.Tensor]:
    own = situation if isinstance(situation, nn.Module) else _layer(situation)
    return {} if own is None else stored(dict(own.state_dict()))


def put(situation: Any, objects: Objects, changes: Any, state: dict[str, torch.Tensor]) -> None:
    """As a fit does: what is reached has its parts before the state dict is loaded."""
    objects.restore(changes)
    own = situation if isinstance(situation, nn.Module) else _layer(situation)
    if own is not None:
        own.load_state_dict(state)
    objects.restore(changes)


def _layer(situation: Any) -> nn.Module | None:
    return getattr(situation, "layer", None)
