"""Objects put back: those that a snapshot names, found or made again, and filled with what they held."""

from __future__ import annotations

import collections
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from lottery.training.state.classes import Missing, make, name_of
from lottery.training.state.graph import HOOKS, MEMBERS, NEW, NOW, PARTS, SAVED, TENSOR_HOOKS, TRAINED, WHOLE, Node
from lottery.training.state.numbers import TAG, Plain
from lottery.training.state.values import decode, empty, fill, is_whole, same, tagged

GONE = {TAG: "gone"}
_WITHOUT_CONTENTS = ("made", "opaque", "view", "of the state dict")


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
        self, there: dict[str, Any], now: Mapping[str, Node], changes: Mapping[str, Mapping[str, Plain]]
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

    def at(self, name: str) -> object:
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

    def _empty(self, plain: Plain) -> object:
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

    def value(self, plain: Plain) -> Any:
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

    def had(self, changed: Mapping[str, Plain]) -> dict[str, Plain]:
        """Changed attributes, less those that hold what cannot be had: they are as they were first."""
        return {
            attribute: plain
            for attribute, plain in changed.items()
            if all(f[TAG] != "object" or f["at"] in self._there for f in tagged(plain))
        }

    def put(self, name: str, wanted: Mapping[str, Plain]) -> None:
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
                    _put_in_module(owner, attribute, self.value(plain))
                elif type(owner) in (Tensor, nn.Parameter):
                    _put_in_tensor(owner, attribute, self.value(plain))
                elif attribute == MEMBERS:
                    _put_members(owner, self.value(plain))
                else:
                    _set(owner, attribute, self.value(plain))
            except Missing:
                continue  # named as lost

    def _fill(self, owner: Any, plain: Plain, is_fresh: bool) -> None:
        tag = plain.get(TAG) if isinstance(plain, dict) else None
        if tag == "state":
            owner.load_state_dict(self.value(plain["state"]))
        elif tag not in _WITHOUT_CONTENTS and not (is_fresh and is_whole(owner)):
            fill(owner, self.value(plain))


def differences(before: Mapping[str, Plain], after: Mapping[str, Plain]) -> Iterator[tuple[str, Plain]]:
    """What attributes are after, where they were not that before."""
    for attribute in {**before, **after}:
        plain = after.get(attribute, GONE)
        if not same(before.get(attribute, GONE), plain):
            yield attribute, plain


def numbered(changed: Mapping[str, Plain], first: Mapping[str, Plain]) -> dict[str, Plain]:
    """The changed attributes of an object; hooks that were there first have their numbers of this process."""
    found = dict(changed)
    for attribute in (*HOOKS, *TENSOR_HOOKS):
        if attribute in changed and not is_a_form("gone", changed[attribute]):
            known = {repr(hook): n for n, hook, _ in first.get(attribute, ())}
            hooks = changed[attribute]
            found[attribute] = [[known.get(repr(h), n), h, how] for n, h, how in hooks]
    return found


def has_hashes(plain: Mapping[str, Plain]) -> bool:
    """Whether a container looks at what it holds when that is put into it."""
    return any(f[TAG] in ("mapping", "container") for f in tagged(list(plain.values())))


def is_a_form(tag: str, plain: Plain) -> bool:
    """Whether a plain form is one of a kind."""
    return type(plain) is dict and plain.get(TAG) == tag


def is_one(value: Any, plain: Mapping[str, Plain] | None) -> bool:
    """Whether an object may become what a plain form says without being another one."""
    if plain is None:
        return False
    whole = plain[WHOLE]
    if isinstance(value, Tensor):
        data = whole["data"] if is_a_form("tensor", whole) else whole
        is_parameter = is_a_form("tensor", whole) and "parameter" in whole
        fits = isinstance(data, Tensor) and data.shape == value.shape
        return fits and is_parameter is isinstance(value, nn.Parameter)
    if isinstance(whole, dict) and "class" in whole:
        return bool(name_of(type(value)) == whole["class"])
    return type(whole) is type(value) and TAG not in whole


def _put_in_module(owner: nn.Module, attribute: str, value: Any) -> None:
    place, _, name = attribute.partition(".")
    if attribute == TRAINED:
        for weight, flag in value.items():
            parameter = owner._parameters.get(weight)
            if parameter is not None and parameter.requires_grad != flag:
                parameter.requires_grad_(flag)
    elif attribute == SAVED:
        unsaved = owner._non_persistent_buffers_set
        unsaved.clear()
        unsaved.update(buffer for buffer, is_saved in value.items() if not is_saved)
    elif attribute in HOOKS:
        flags = [vars(owner)[flag] for flag in HOOKS[attribute]]
        _put_hooks(vars(owner)[attribute], value, flags)
    elif place in PARTS and name:
        vars(owner)[place][name] = value
    else:
        _set(owner, attribute, value)


def _put_hooks(hooks: dict[int, object], value: Any, flags: Sequence[dict[int, bool]] = ()) -> None:
    hooks.clear()
    hooks.update((number, hook) for number, hook, _ in value)
    for index, flag in enumerate(flags):
        flag.clear()
        flag.update({number: True for number, _, how in value if how[index]})


def _put_in_tensor(owner: Tensor, attribute: str, value: Any) -> None:
    if attribute == "grad":
        owner.grad = value
    elif attribute in TENSOR_HOOKS:
        hooks = getattr(owner, attribute, None)
        if hooks is None and value:
            hooks = collections.OrderedDict()
            setattr(owner, attribute, hooks)
        if hooks is not None:
            _put_hooks(hooks, value)
    else:
        vars(owner)[attribute] = value


def _put_members(optimizer: Optimizer, members: Sequence[Any]) -> None:
    """Give an optimizer its groups; the options of those that are there come with its state."""
    groups = optimizer.param_groups
    del groups[len(members) :]
    for group, (parameters, _) in zip(groups, members, strict=False):
        if list(map(id, group["params"])) != list(map(id, parameters)):
            group["params"] = list(parameters)
    for parameters, options in members[len(groups) :]:
        optimizer.add_param_group({"params": list(parameters), **dict(options)})


def _set(owner: object, attribute: str, value: object) -> None:
    in_slot = isinstance(getattr(type(owner), attribute, None), types.MemberDescriptorType)
    if isinstance(owner, type):
        type.__setattr__(owner, attribute, value)
    elif in_slot or not hasattr(owner, "__dict__"):
        object.__setattr__(owner, attribute, value)
    else:
        vars(owner)[attribute] = value


def _delete(owner: object, attribute: str) -> None:
    place, _, name = attribute.partition(".")
    if isinstance(owner, nn.Module) and place in PARTS and name:
        vars(owner)[place].pop(name, None)
    elif isinstance(owner, Tensor) and attribute not in vars(owner):
        if attribute == "grad":
            owner.grad = None
        elif hooks := getattr(owner, attribute, None):
            hooks.clear()
    elif isinstance(owner, type):
        type.__delattr__(owner, attribute)
    elif attribute in getattr(owner, "__dict__", ()):
        del vars(owner)[attribute]
    else:
        object.__delattr__(owner, attribute)
