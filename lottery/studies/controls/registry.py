"""Controls by name, and what a study must know of one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, fields, is_dataclass, replace
from pathlib import PurePath
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from lottery.foundations import registry
from lottery.studies.controls.states import origin
from lottery.tickets.ticket import Ticket

Make = Callable[..., Ticket]
Start = Literal["rewind", "initial"]
RulesOut = Literal["weights", "masks"]
"""What a control that must be beaten rules out: that other weights would do as well, or other masks."""
F = TypeVar("F", bound=Callable[..., Any])

MATERIALS = {
    "fresh": "a state dict of a newly initialised module of the same architecture",
    "trained": "a state dict of trained dense weights, such as Run.weights(0)",
    "initial": "the state dict that round 0 began with: Run.weights('initial')",
    "other": "a ticket from another run or data set",
}
"""What a control may ask for beside the ticket and a seed."""


class _Training(NamedTuple):
    start: Start
    order: int
    rules_out: RulesOut | None


_controls: registry.Registry[Make] = registry.Registry(
    argument="control",
    kind="control",
    plural="controls",
    accepts=callable,
    otherwise="a registered function of a ticket and a seed",
)
_trainings: dict[str, _Training] = {}

available = _controls.available


@dataclass(frozen=True)
class Control:
    """A control, and how a ticket that it makes is to be trained.

    Args:
        name: its name.
        function: makes the ticket: a function, or a dataclass with settings.
        start: where the training of what it makes starts: "rewind", the ticket's rewind point, or "initial", the very
            beginning, for fresh weights.
        order: the data order that it is trained with; 0 is the ticket's own.
        rules_out: what beating it rules out, of a control that a winning ticket must beat; None of one that informs.
    """

    name: str
    function: Make
    start: Start
    order: int = 0
    rules_out: RulesOut | None = None

    @property
    def needs(self) -> frozenset[str]:
        """What `make` must be given, of `MATERIALS`."""
        return _needs(self.function)

    @property
    def summary(self) -> str:
        """One line about it."""
        return available()[self.name]

    @property
    def path(self) -> str | None:
        """Where the "other" ticket is to be found, of a control that needs one; see `nearest`."""
        return getattr(self.function, "path", None)

    @property
    def arm(self) -> str:
        """A name for its arm that can be a directory: its own, and the first setting where this is given.

        Example:
            >>> resolve("transfer=checkpoints/other").arm, resolve("one-shot").arm
            ('transfer-other', 'one-shot')
        """
        setting = _first_setting(self.function)
        value = setting and getattr(self.function, setting.name)
        if setting is None or value == setting.default:
            return self.name
        return f"{self.name}-{PurePath(str(value)).name}"

    def described(self) -> dict[str, object]:
        """Name and settings as plain data, which `resolve` takes."""
        return registry.described(self.name, self.function)

    def make(self, ticket: Ticket, seed: int, materials: Mapping[str, object] | None = None) -> Ticket:
        """The control of a ticket.

        Args:
            ticket: the ticket.
            seed: of what is drawn at random.
            materials: what it `needs`, by name; others are left aside.

        Raises:
            ValueError: a material is missing, or ticket and materials do not fit.
        """
        given = materials or {}
        if missing := sorted(self.needs - given.keys()):
            raise ValueError(
                f"the control {self.name!r} needs " + "; ".join(f"{name!r}, {MATERIALS[name]}" for name in missing)
            )
        made = self.function(ticket, seed, **{n: given[n] for n in self.needs})
        # a user's own function need not say where its ticket came from
        return replace(made, provenance=origin(made, self.name, seed))


def register(
    name: str, *, start: Start = "rewind", order: int = 0, rules_out: RulesOut | None = None
) -> Callable[[F], F]:
    """Decorator: give a control its name.

    It decorates a function of a ticket and a seed that returns a ticket, or a frozen dataclass with settings that can
    be called so. What it needs besides are its keyword-only arguments, named as in `MATERIALS`; one that needs an
    "other" ticket is a dataclass with a `path`.

    Args:
        name: what the command line calls it.
        start: "initial" where the ticket it makes has fresh weights, which are trained from the very beginning;
            "rewind" where they are of the rewind point.
        order: another number than 0 for another order of the data than the ticket's.
        rules_out: of one that a winning ticket must beat: "weights" where the mask is the ticket's and the weights are
            fresh, "masks" where the mask is random. A study needs one of each to call a ticket winning.

    Raises:
        ValueError: another control has the name, it needs what there is not, or there is no such start or kind.

    Example::

        @controls.register("flip")
        def flip(ticket: Ticket, seed: int = 0) -> Ticket:
            \"\"\"All signs turned: do signs matter beyond their pattern?\"\"\"
            weights = {n: -w if n in ticket.masks else w for n, w in ticket.weights.items()}
            return Ticket(ticket.masks, weights, ticket.provenance)
    """

    def decorate(function: F) -> F:
        called = function.__call__ if isinstance(function, type) else function
        if unknown := _needs(called) - MATERIALS.keys():
            raise ValueError(
                f"the control {name!r} cannot need {', '.join(sorted(unknown))}; it can need {', '.join(MATERIALS)}"
            )
        if start not in get_args(Start):
            raise ValueError(
                f"the control {name!r} has start={start!r}; choose from {', '.join(map(repr, get_args(Start)))}"
            )
        if rules_out not in (None, *get_args(RulesOut)):
            raise ValueError(
                f"the control {name!r} has rules_out={rules_out!r}; choose from"
                f" {', '.join(map(repr, get_args(RulesOut)))}, or leave it out"
            )
        _controls.register(name)(function)
        _trainings[name] = _Training(start, order, rules_out)
        return function

    return decorate


def resolve(control: str | Mapping[str, object] | Make | Control) -> Control:
    """A control from its name, from its name and settings, or as it is.

    Args:
        control: "reinit"; "one-shot=layerwise" or "transfer=checkpoints/other", with the first of its settings;
            {"name": "transfer", "path": "checkpoints/other", "weights": False}, with any; or a registered function.

    Raises:
        ValueError: an unknown name or setting, a function that is not registered, or no path to another ticket where
            one is needed.
        TypeError: it is none of these.

    Example:
        >>> resolve("reinit").needs, resolve("reinit").start
        (frozenset({'fresh'}), 'initial')
        >>> resolve("shufle")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: there is no control 'shufle'. Did you mean shuffle ...
    """
    if isinstance(control, Control):
        return control
    if isinstance(control, str) and "=" in control:
        control = _parsed(control)
    function = _controls.resolve(control)
    name = _controls.find(function)
    if name is None:
        raise ValueError(
            f"the control {function!r} has no name: decorate it with @lottery.controls.register('its name')"
        )
    found = Control(name, function, *_trainings[name])
    if "other" in found.needs and not found.path:
        raise ValueError(
            f"the control {name!r} needs a ticket from elsewhere: write {name}=PATH, of a run or a ticket file"
        )
    return found


def ruled_out_by(names: Iterable[str]) -> dict[str, RulesOut]:
    """Those of some controls that a winning ticket must beat, and what that rules out; others are left out.

    Example:
        >>> ruled_out_by(["reinit", "random", "signs", "of my own"])
        {'reinit': 'weights', 'random': 'masks'}
    """
    known = ((name, _trainings[name].rules_out) for name in names if name in _trainings)
    return {name: rules_out for name, rules_out in known if rules_out is not None}


def _parsed(text: str) -> dict[str, object]:
    name, _, value = text.partition("=")
    setting = _first_setting(_controls.resolve(name))
    if setting is None:
        raise ValueError(f"the control {name!r} has no settings: leave out {'=' + value!r}")
    return {"name": name, setting.name: value}


def _first_setting(function: Make) -> Field | None:
    """The dataclass field, or None of a plain function."""
    settings = fields(function) if is_dataclass(function) else ()
    return settings[0] if settings else None


def _needs(function: Make) -> frozenset[str]:
    parameters = inspect.signature(function).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
