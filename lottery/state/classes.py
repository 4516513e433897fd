"""Classes of live objects: which may hold state of the user's, and which a stored name may stand for.

Nothing that is looked up is called: classes are found among those that are imported already.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

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


class Missing(LookupError):
    """What a plain form only names is not there."""


def describe(value: Any) -> str:
    """The kind of a value in words."""
    if isinstance(value, types.FunctionType) and value.__name__ == "<lambda>":
        return "a lambda"
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def name_of(kind: Any) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def find(name: str) -> Any:
    """What a name stands for in a module that is imported already."""
    module, _, path = name.partition(":")
    found: Any = sys.modules[module]
    for part in path.split("."):
        found = getattr(found, part)
    return found


def is_of_the_user(kind: Any) -> bool:
    """Whether there may be state of the user's in the attributes of a class's objects."""
    package = kind.__module__.partition(".")[0]
    return package not in _INFRASTRUCTURE or kind.__module__ in _OF_CONTAINERS


def slots_of(value: Any) -> Iterator[tuple[str, Any]]:
    """The attributes that an object keeps in slots."""
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def can_be_made(kind: Any) -> bool:
    try:
        found = find(name_of(kind))
    except (AttributeError, KeyError):
        return False
    plain = all(
        b is object or is_of_the_user(b) or b.__module__ == "typing"
        for b in kind.__mro__
    )
    return found is kind and plain and not hasattr(kind, "__del__")


def keeps_its_state(value: Any) -> bool:
    """Whether an object gives its state, and takes it: optimizers, schedulers, scalers; but not loaders, whose state is
    that of the epoch."""
    kind = type(value)
    given = all(
        callable(getattr(kind, n, None)) for n in ("state_dict", "load_state_dict")
    )
    return given and not hasattr(kind, "__iter__")
