"""Objects put back: those that a snapshot names, found or made again, and filled with what they held."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torchmetrics import Metric

from lottery.state.classes import Missing, make
from lottery.state.graph import HOOKS, NEW, NOW, PARTS, TRAINED, WHOLE, Node
from lottery.state.numbers import TAG
from lottery.state.values import decode, empty, fill, is_whole, same, tagged

GONE = {TAG: "gone"}


class Restoring:
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
        if node is None and is_a_form("state", wanted):
            node = self._now.get(where)
        if node is not None and is_a_form(wanted[TAG], there := node.plain[WHOLE]):
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
        for attribute, plain in differences(there, wanted):
            try:
                if attribute == WHOLE:
                    self._fill(owner, plain, is_fresh)
                elif is_a_form("gone", plain):
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


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """What attributes are after, where they were not that before."""
    for attribute in {**before, **after}:
        plain = after.get(attribute, GONE)
        if not same(before.get(attribute, GONE), plain):
            yield attribute, plain


def numbered(changed: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """The changed attributes of a module: hooks that were there first have the numbers that they have in this process."""
    found = dict(changed)
    for attribute in HOOKS:
        known = {repr(hook): number for number, hook in first.get(attribute, ())}
        if attribute in changed:
            hooks = [[known.get(repr(h), n), h] for n, h in changed[attribute]]
            found[attribute] = hooks
    return found


def has_hashes(plain: Mapping[str, Any]) -> bool:
    """Whether a container looks at what it holds when that is put into it."""
    return any(f[TAG] in ("mapping", "container") for f in tagged(list(plain.values())))


def is_a_form(tag: str, plain: Any) -> bool:
    """Whether a plain form is one of a kind."""
    return type(plain) is dict and plain.get(TAG) == tag


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
