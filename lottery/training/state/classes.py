"""Classes of live objects: which may hold state of the user's, and which a stored name may stand for.

Nothing that is looked up is called: classes are found among those that are imported already.
"""

from __future__ import annotations

import abc
import sys
import types
from collections.abc import Iterator
from typing import Any, Generic, Protocol

# objects of these packages have no attributes of the user's, but for some that are containers
_INFRASTRUCTURE = sys.stdlib_module_names | frozenset(
    [
        "torch",
        "numpy",
        "pandas",
        "pytorch_lightning",
        "lightning",
        "lightning_fabric",
        "lightning_utilities",
        "torchmetrics",
        "lottery",
        "rich",
        "tqdm",
        "tensorboard",
        "wandb",
        "mlflow",
        "PIL",
        "matplotlib",
    ]
)
_OF_CONTAINERS = ("argparse", "collections", "queue")
_MADE = (object, types.SimpleNamespace, abc.ABC, Generic, Protocol)
_MODULES = (
    *("torch.nn.", "torch.optim.", "torch.utils.data.", "torchmetrics."),
    *("pytorch_lightning.", "lightning.", "lightning_fabric.", "lightning_utilities."),
)


class Missing(LookupError):
    """What a plain form only names is not there."""


def describe(value: object) -> str:
    """The kind of a value in words."""
    if isinstance(value, types.FunctionType) and value.__name__ == "<lambda>":
        return "a lambda"
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def name_of(kind: Any) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def find(name: str) -> Any:
    """What a name stands for in a module that is imported already.

    Raises:
        Missing: nothing.
    """
    module, _, path = name.partition(":")
    found: object = sys.modules.get(module)
    for part in path.split("."):
        if not hasattr(found, part):
            raise Missing(name)
        found = getattr(found, part)
    return found


def is_of_the_user(kind: type | types.FunctionType) -> bool:
    """Whether there may be state of the user's in the attributes of a class's objects."""
    package = kind.__module__.partition(".")[0]
    return package not in _INFRASTRUCTURE or kind.__module__ in _OF_CONTAINERS


def is_harmless(kind: type) -> bool:
    """Whether a class may be looked up: one of the user's, or of modules, optimizers and data."""
    return is_of_the_user(kind) or kind.__module__.startswith(_MODULES)


def slots_of(value: object) -> Iterator[tuple[str, object]]:
    """The attributes that an object keeps in slots."""
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            private = slot.startswith("__") and not slot.endswith("__")
            name = f"_{kind.__name__.lstrip('_')}{slot}" if private else slot
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def is_known(kind: type | types.FunctionType) -> bool:
    """Whether its name leads to a class or function."""
    try:
        return find(name_of(kind)) is kind
    except Missing:
        return False


def can_be_made(kind: type) -> bool:
    """Whether objects of a class can be made without running code of its own: they are what their attributes are."""
    plain = all(base in _MADE or is_harmless(base) for base in kind.__mro__)
    return plain and not hasattr(kind, "__del__") and is_known(kind)


def make(name: str) -> object:
    """A new object of a class, without attributes.

    Raises:
        Missing: no such object can be made without running code of its class.
    """
    kind = find(name)
    if not (isinstance(kind, type) and can_be_made(kind)):
        raise Missing(f"{name} is no class of objects that only have attributes")
    base = types.SimpleNamespace if issubclass(kind, types.SimpleNamespace) else object
    return base.__new__(kind)


def keeps_its_state(value: object) -> bool:
    """Whether an object gives its state, and takes it: optimizers, schedulers, scalers; but not loaders, whose state is
    that of the epoch."""
    kind = type(value)
    given = all(callable(getattr(kind, n, None)) for n in ("state_dict", "load_state_dict"))
    return given and not hasattr(kind, "__iter__")
