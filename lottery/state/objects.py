"""Live objects, looked through attribute by attribute: what training changed in them since they were first seen.

Lightning checkpoints hold what has a `state_dict`. Training changes more: a temperature that the module lowers, a
callback's counter, a sampler's own generator, metrics that live over epochs, train and eval modes, `requires_grad`. An
`Objects` remembers how everything that is reachable from a few roots was, gives what differs from it as plain data, and
puts objects back: those of this process, or those that the same script makes in another.
"""

from __future__ import annotations

import io
import multiprocessing.process
import socket
import subprocess
import threading
import types
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torchmetrics import Metric

from lottery.state.classes import Missing, describe, make
from lottery.state.graph import (
    HOOKS,
    NEW,
    NOW,
    PARTS,
    TRAINED,
    WHOLE,
    Node,
    Root,
    Walk,
)
from lottery.state.numbers import TAG
from lottery.state.values import (
    decode,
    empty,
    fill,
    is_whole,
    same,
    tagged,
)

Changes = dict[str, dict[str, Any]]  # name of an object: attribute: plain form
_GONE = {TAG: "gone"}


@dataclass
class Snapshot:
    """How live objects are at a moment.

    Args:
        changes: what differs from how they were first, as plain data.
        made: the objects that were not there first, by name, to put them back themselves in the same process.
    """

    changes: Changes
    made: dict[str, Any]


class Objects:
    """What is reachable from a few roots, as it is now.

    Args:
        roots: objects by name, looked at in this order; what is reached from two belongs to the first.
        beyond: objects by name that are never looked into.
        earlier: an earlier look, for what objects that it has seen already were at first.

    Example:
        >>> from types import SimpleNamespace
        >>> module = SimpleNamespace(temperature=1.0, seen=[])
        >>> objects = Objects({"module": module})
        >>> module.temperature = 0.5
        >>> before = objects.changes()
        >>> module.seen.append(3)
        >>> objects.changes()
        {'module': {'temperature': 0.5}, 'module.seen': {'': [3]}}
        >>> objects.restore(before)
        >>> module
        namespace(temperature=0.5, seen=[])
    """

    def __init__(
        self,
        roots: Mapping[str, Any],
        beyond: Mapping[str, Any] | None = None,
        earlier: Objects | None = None,
    ) -> None:
        self._roots = {
            name: root if isinstance(root, Root) else Root(root)
            for name, root in roots.items()
        }
        self._beyond = beyond or {}
        walk = Walk(self._roots, self._beyond, {})
        self._first, self._state = walk.found, walk.beyond
        self._names = {id(thing): name for name, thing in self._state.items()}
        self._names |= {id(node.owner): name for name, node in self._first.items()}
        if earlier is not None:
            for node in list(self._first.values()):
                there = earlier._first.get(earlier._names.get(id(node.owner), ""))
                for attribute, plain in there.plain.items() if there else ():
                    if attribute in node.plain:
                        node.plain[attribute] = self._taken(earlier, plain)

    def undo(self, before: Objects, after: Objects) -> None:
        """Take for how things were first what they were `before`, where nothing has changed them since `after`."""
        ids = [{name: i for i, name in o._names.items()} for o in (before, after, self)]

        def by_identity(which: int, plain: Any) -> Any:
            return _renamed(plain, ids[which].__getitem__)

        for node in list(self._first.values()):
            names = [o._names.get(id(node.owner), "") for o in (before, after)]
            if names[0] not in before._first or names[1] not in after._first:
                continue
            old, new = before._first[names[0]].plain, after._first[names[1]].plain
            for attribute, plain in new.items():
                was = by_identity(0, old.get(attribute, _GONE))
                then = by_identity(1, plain)
                now = by_identity(2, node.plain.get(attribute, _GONE))
                if same(was, then) or not same(then, now):
                    continue
                if attribute in old:
                    node.plain[attribute] = self._taken(before, old[attribute])
                else:
                    del node.plain[attribute]

    def changes(self) -> Changes:
        """What differs from how it was first, as plain data."""
        return self.snapshot().changes

    def snapshot(self) -> Snapshot:
        """How everything is now."""
        snapshot = Snapshot({}, {})
        for name, node in self._look(NEW).found.items():
            changed = node.plain
            if name in self._first:
                changed = dict(_differences(self._first[name].plain, node.plain))
            else:
                snapshot.made[name] = node.owner
            if changed:
                snapshot.changes[name] = changed
        return snapshot

    def restore(
        self,
        changes: Mapping[str, Mapping[str, Any]],
        without: Collection[str] = (),
        made: Mapping[str, Any] | None = None,
    ) -> None:
        """Put every object back to how it was first, and then to `changes`.

        Args:
            changes: what `changes` gave, also in another process.
            without: roots that stay as they are, with what belongs to them.
            made: the objects that were not there first, of a snapshot of this process; by default, new ones.
        """
        made = made or {}
        look = Walk(self._roots, self._beyond, {**self._owners(), **made}, NOW)
        look.include(self._first)
        look.include({name: Node(owner, {}) for name, owner in made.items()})
        again = _Again({**look.beyond, **self._owners(), **made}, look.found, changes)
        wanted = {
            name: {**first.plain, **_numbered(changes.get(name, {}), first.plain)}
            for name, first in self._first.items()
        }
        wanted |= {n: dict(changes[n]) for n in changes if n in again.new}
        # what hashes depend on comes first
        for late in (False, True):
            for name, plain in wanted.items():
                if _has_hashes(plain) is late and not _belongs(name, without):
                    again.put(name, plain)

    def reached(self, is_wanted: Callable[[Any], bool]) -> dict[str, Any]:
        """The objects of a kind that are reached now, by name."""
        found = self._look(NEW).found
        return {n: node.owner for n, node in found.items() if is_wanted(node.owner)}

    def opaque(self) -> list[str]:
        """What holds state and has no plain form: open files, iterators, processes, lambdas."""
        return [
            f"{name} ({describe(node.owner)})"
            for name, node in self._first.items()
            if _is("opaque", node.plain[WHOLE]) and _holds_state(node.owner)
        ]

    def lost(self) -> list[str]:
        """What training has put where something else was, or has changed, and that has no plain form; one for each
        attribute."""
        found: dict[str, str] = {}
        for name, node in self._look(NEW).found.items():
            first = self._first.get(name)
            plain = node.plain[WHOLE]
            unknown = first is None and (_is("opaque", plain) or _is("subclass", plain))
            if unknown or (
                first and _is("opaque", plain) and plain != first.plain[WHOLE]
            ):
                where = name.removeprefix(NEW)
                text = f"{where} ({describe(node.owner)})"
                found.setdefault(where.partition("[")[0], text)
        return list(found.values())

    def _look(self, mark: str) -> Walk:
        return Walk(self._roots, self._beyond, self._owners(), mark)

    def _owners(self) -> dict[str, Any]:
        return {name: node.owner for name, node in self._first.items()}

    def _taken(self, earlier: Objects, plain: Any) -> Any:
        """The plain form here of what has another one there; what is not known here is first what it was there."""

        def name_here(name: str) -> str:
            thing = earlier._owner(name)
            if id(thing) not in self._names:
                here = self._names[id(thing)] = f"{name} of before"
                self._first[here] = Node(thing, {})
                for attribute, held in earlier._first[name].plain.items():
                    self._first[here].plain[attribute] = self._taken(earlier, held)
            return self._names[id(thing)]

        return _renamed(plain, name_here)

    def _owner(self, name: str) -> Any:
        return self._first[name].owner if name in self._first else self._state[name]


class _Again:
    """The objects that a snapshot names: those that are there, and new ones where they are not.

    Args:
        there: objects by name.
        now: what is reached at present, by name.
        changes: plain forms by name; what is not `there` is made.

    Attributes:
        new: names of those that were not there first and can be had.
    """

    def __init__(
        self,
        there: dict[str, Any],
        now: Mapping[str, Node],
        changes: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._there, self._now, self._changes = there, now, changes
        self._fresh: set[str] = set()
        self.new = {name for name in changes if name.startswith(NEW)}
        for name in sorted(self.new):
            try:
                self.at(name)
            except Missing:
                self._take_what_stands_there(name)
        self._leave_out()

    def at(self, name: str) -> Any:
        """The object of a name.

        Raises:
            Missing: there is none, and it cannot be made.
        """
        if name not in self._there:
            if name not in self.new:
                raise Missing(name)
            plain = self._changes[name][WHOLE]
            self._there[name] = self._empty(plain)
            self._fresh.add(name)
        return self._there[name]

    def _empty(self, plain: Any) -> Any:
        """A new object; what may hold another one is still empty."""
        if isinstance(plain, (list, dict)) and TAG not in plain:
            return empty(plain)
        tag = plain[TAG] if isinstance(plain, dict) else ""
        if tag == "made":
            return make(plain["class"])
        if tag in ("mapping", "container", "objects"):
            return empty(plain)
        if tag in ("opaque", "state", "subclass"):
            raise Missing(tag)
        return self.value(plain)

    def value(self, plain: Any) -> Any:
        """The value of a plain form.

        Raises:
            Missing: it names what there is not.
        """
        return decode(plain, self.at)

    def _take_what_stands_there(self, name: str) -> None:
        """Take for an object that cannot be made the one of its kind that hooks have put in its place."""
        wanted, where = self._changes[name][WHOLE], name.removeprefix(NEW)
        node = self._now.get(NOW + where)
        if node is None and _is("state", wanted):
            node = self._now.get(where)
        if node is not None and _is(wanted[TAG], there := node.plain[WHOLE]):
            kinds = [[p.get(key) for key in ("class", "is")] for p in (wanted, there)]
            if kinds[0] == kinds[1]:
                self._there[name] = node.owner

    def _leave_out(self) -> None:
        """Forget what holds something that cannot be had: nothing is made in part."""
        holders: dict[str, list[str]] = {}
        for name in self.new:
            for form in tagged(list(self._changes[name].values())):
                if form[TAG] == "object":
                    holders.setdefault(form["at"], []).append(name)
        queue = [n for n in (*self.new, *holders) if n not in self._there]
        gone = set(queue)
        while queue:
            for holder in holders.get(queue.pop(), ()):
                if holder in self._fresh and holder not in gone:
                    gone.add(holder)
                    queue.append(holder)
        for name in gone:
            self._there.pop(name, None)
        self.new -= gone

    def put(self, name: str, wanted: Mapping[str, Any]) -> None:
        """Have an object be what its plain form says; what cannot be had is left as it is."""
        owner, node = self._there[name], self._now.get(name)
        is_fresh = name in self._fresh
        if is_fresh and isinstance(owner, (Metric, Optimizer)):
            values = {k: self.value(v) for k, v in wanted.items() if k != WHOLE}
            # which wraps methods
            if isinstance(owner, Optimizer):
                Optimizer.__setstate__(owner, values)
            else:
                owner.__setstate__(values)
            return
        there = {} if node is None or is_fresh else node.plain
        for attribute, plain in _differences(there, wanted):
            try:
                if attribute == WHOLE:
                    self._fill(owner, plain, is_fresh)
                elif plain == _GONE:
                    _delete(owner, attribute)
                elif isinstance(owner, nn.Module) and not name.startswith(NEW):
                    _set_in_module(owner, attribute, self.value(plain))
                else:
                    _set(owner, attribute, self.value(plain))
            except Missing:
                continue  # named as lost

    def _fill(self, owner: Any, plain: Any, is_fresh: bool) -> None:
        tag = plain.get(TAG) if isinstance(plain, dict) else None
        if tag == "state":
            owner.load_state_dict(self.value(plain["state"]))
        elif tag not in ("made", "opaque", "view") and not (
            is_fresh and is_whole(owner)
        ):
            fill(owner, self.value(plain))


def _differences(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """What attributes are after, where they were not that before."""
    for attribute in {**before, **after}:
        plain = after.get(attribute, _GONE)
        if not same(before.get(attribute, _GONE), plain):
            yield attribute, plain


def _numbered(changed: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """The changed attributes of a module: hooks that were there first have the numbers that they have in this process."""
    found = dict(changed)
    for attribute in HOOKS:
        known = {repr(hook): number for number, hook in first.get(attribute, ())}
        if attribute in changed:
            hooks = [[known.get(repr(h), n), h] for n, h in changed[attribute]]
            found[attribute] = hooks
    return found


def _renamed(plain: Any, name: Callable[[str], Any]) -> Any:
    """A plain form with other names for objects."""
    if isinstance(plain, (list, tuple)):
        return type(plain)([_renamed(p, name) for p in plain])
    if not isinstance(plain, dict):
        return plain
    if _is("object", plain):
        return {TAG: "object", "at": name(plain["at"])}
    return type(plain)([(k, _renamed(v, name)) for k, v in plain.items()])


def _has_hashes(plain: Mapping[str, Any]) -> bool:
    """Whether a container looks at what it holds when that is put into it."""
    return any(f[TAG] in ("mapping", "container") for f in tagged(list(plain.values())))


def _belongs(name: str, roots: Collection[str]) -> bool:
    return any(name == r or name.startswith((f"{r}.", f"{r}[")) for r in roots)


def _is(tag: str, plain: Any) -> bool:
    return type(plain) is dict and plain.get(TAG) == tag


def _holds_state(value: Any) -> bool:
    if isinstance(value, types.FunctionType):
        return value.__name__ == "<lambda>"
    kinds = (Iterator, io.IOBase, subprocess.Popen, threading.Thread, socket.socket)
    weak = (weakref.WeakValueDictionary, weakref.WeakKeyDictionary, weakref.WeakSet)
    return isinstance(value, (*kinds, *weak, multiprocessing.process.BaseProcess))


def _set_in_module(owner: nn.Module, attribute: str, value: Any) -> None:
    place, _, name = attribute.partition(".")
    if attribute == TRAINED:
        for weight, flag in value.items():
            owner._parameters[weight].requires_grad_(flag)  # type: ignore[union-attr]
    elif attribute in HOOKS:
        hooks = vars(owner)[attribute]
        hooks.clear()
        hooks.update(map(tuple, value))
    elif place in PARTS and name:
        if place == "_buffers" and name not in owner._buffers:
            owner._non_persistent_buffers_set.add(name)
        vars(owner)[place][name] = value
    else:
        _set(owner, attribute, value)


def _set(owner: Any, attribute: str, value: Any) -> None:
    in_slot = isinstance(
        getattr(type(owner), attribute, None), types.MemberDescriptorType
    )
    if isinstance(owner, type):
        type.__setattr__(owner, attribute, value)
    elif in_slot or not hasattr(owner, "__dict__"):
        object.__setattr__(owner, attribute, value)
    else:
        vars(owner)[attribute] = value


def _delete(owner: Any, attribute: str) -> None:
    place, _, name = attribute.partition(".")
    if isinstance(owner, nn.Module) and place in PARTS and name:
        vars(owner)[place].pop(name, None)
        if place == "_buffers":
            owner._non_persistent_buffers_set.discard(name)
    elif isinstance(owner, type):
        type.__delattr__(owner, attribute)
    elif attribute in getattr(owner, "__dict__", ()):
        del vars(owner)[attribute]
    else:
        object.__delattr__(owner, attribute)
