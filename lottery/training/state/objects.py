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

import torch

from lottery.training.state.classes import describe
from lottery.training.state.graph import NEW, NOW, WHOLE, Node, Root, Walk
from lottery.training.state.numbers import TAG, Plain
from lottery.training.state.restoring import GONE, Restoring, differences, has_hashes, is_a_form, is_one, numbered
from lottery.training.state.values import same, tagged

Changes = dict[str, dict[str, Plain]]  # name of an object: attribute: plain form


@dataclass
class Snapshot:
    """How live objects are at a moment.

    Args:
        changes: what differs from how they were first, as plain data.
        made: the objects that were not there first, by name, to put them back themselves in the same process.
    """

    changes: Changes
    made: dict[str, object]


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
        self, roots: Mapping[str, object], beyond: Mapping[str, object] | None = None, earlier: Objects | None = None
    ) -> None:
        self._roots = {name: root if isinstance(root, Root) else Root(root) for name, root in roots.items()}
        self._beyond = beyond or {}
        self._made: dict[str, object] = {}  # when something was put back
        walk = Walk(self._roots, self._beyond, {})
        self._first = walk.found
        self._names = {id(thing): name for name, thing in self._beyond.items()}
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

        def by_identity(which: int, plain: Plain) -> Plain:
            return _renamed(plain, ids[which].__getitem__)

        for node in list(self._first.values()):
            names = [o._names.get(id(node.owner), "") for o in (before, after)]
            if names[0] not in before._first or names[1] not in after._first:
                continue
            old, new = before._first[names[0]].plain, after._first[names[1]].plain
            for attribute, plain in new.items():
                was = by_identity(0, old.get(attribute, GONE))
                then = by_identity(1, plain)
                now = by_identity(2, node.plain.get(attribute, GONE))
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
                changed = dict(differences(self._first[name].plain, node.plain))
            else:
                snapshot.made[name] = node.owner
            if changed:
                snapshot.changes[name] = changed
        return snapshot

    def restore(
        self,
        changes: Mapping[str, Mapping[str, Plain]],
        without: Collection[str] = (),
        made: Mapping[str, object] | None = None,
    ) -> None:
        """Put every object back to how it was first, and then to `changes`.

        Args:
            changes: what `changes` gave, also in another process.
            without: roots that stay as they are, with what belongs to them.
            made: the objects that were not there first, of a snapshot of this process; by default, those that were made
                the last time, or new ones.
        """
        is_of_now = made is not None
        if made is None:  # what was made before stays what it is
            made = {n: o for n, o in self._made.items() if is_one(o, changes.get(n))}
        there = {name: Node(owner, {WHOLE: None}) for name, owner in made.items()}
        there |= self._first
        look = Walk(self._roots, self._beyond, there, NOW)
        look.include(there.values())
        owners = {name: node.owner for name, node in there.items()}
        again = Restoring({**self._beyond, **owners}, look.found, changes)
        wanted = {
            name: {**first.plain, **numbered(again.had(changes.get(name, {})), first.plain)}
            for name, first in self._first.items()
        }
        wanted |= {n: dict(changes[n]) for n in changes if n in again.new}
        # what nothing leads to may belong to others; what hashes depend on comes first
        reached = self._led_to(wanted)
        for name in sorted(reached, key=lambda name: has_hashes(wanted[name])):
            if not _belongs(name, without):
                again.put(name, wanted[name])
        if not is_of_now:  # others may hold those that training has made
            self._made |= {name: again.at(name) for name in again.new}

    def reached(self, is_wanted: Callable[[object], bool]) -> dict[str, Any]:
        """The objects of a kind that are reached now, by name."""
        found = self._look(NEW).found
        return {n: node.owner for n, node in found.items() if is_wanted(node.owner)}

    def opaque(self) -> list[str]:
        """What holds state and has no plain form: open files, iterators, processes, lambdas."""
        return [
            f"{name} ({describe(node.owner)})"
            for name, node in self._first.items()
            if is_a_form("opaque", node.plain[WHOLE]) and _holds_state(node.owner)
        ]

    def lost(self) -> list[str]:
        """What training has put where something else was, or has changed, and that has no plain form; one for each
        attribute."""
        found: dict[str, str] = {}
        for name, node in self._look(NEW).found.items():
            first = self._first.get(name)
            plain = node.plain[WHOLE]
            unknown = first is None and (is_a_form("opaque", plain) or is_a_form("subclass", plain))
            if unknown or (first and is_a_form("opaque", plain) and plain != first.plain[WHOLE]):
                where = name.removeprefix(NEW)
                text = f"{where} ({describe(node.owner)})"
                found.setdefault(where.partition("[")[0], text)
        return list(found.values())

    def _look(self, mark: str) -> Walk:
        return Walk(self._roots, self._beyond, self._first, mark)

    def _led_to(self, wanted: Mapping[str, Mapping[str, Plain]]) -> list[str]:
        """The names of what roots, and classes, lead to in plain forms."""
        found = dict.fromkeys(name for name in wanted if name in self._roots or name.startswith("class "))
        queue = list(found)
        while queue:
            for form in tagged(list(wanted[queue.pop()].values())):
                at = form["at"] if form[TAG] == "object" else ""
                if at in wanted and at not in found:
                    found[at] = None
                    queue.append(at)
        return list(found)

    def _taken(self, earlier: Objects, plain: Plain) -> Plain:
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

    def _owner(self, name: str) -> object:
        return self._first[name].owner if name in self._first else self._beyond[name]


def _renamed(plain: Plain, name: Callable[[str], str | int]) -> Plain:
    """A plain form with other names for objects."""
    if isinstance(plain, (list, tuple)):
        return type(plain)([_renamed(p, name) for p in plain])
    if not isinstance(plain, dict):
        return plain
    if is_a_form("object", plain):
        return {TAG: "object", "at": name(plain["at"])}
    return type(plain)([(k, _renamed(v, name)) for k, v in plain.items()])


def _belongs(name: str, roots: Collection[str]) -> bool:
    return any(name == r or name.startswith((f"{r}.", f"{r}[")) for r in roots)


def _holds_state(value: object) -> bool:
    if isinstance(value, types.FunctionType):
        return value.__name__ == "<lambda>"
    kinds = (
        *(Iterator, io.IOBase, subprocess.Popen, socket.socket),
        *(threading.Thread, threading.local, multiprocessing.process.BaseProcess),
        *(weakref.WeakValueDictionary, weakref.WeakKeyDictionary, weakref.WeakSet),
        *(torch.distributions.Distribution, torch.quasirandom.SobolEngine),
    )
    package = type(value).__module__.partition(".")[0]
    return isinstance(value, kinds) or package in ("multiprocessing", "sqlite3")
