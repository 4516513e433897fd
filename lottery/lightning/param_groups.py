"""What an optimizer's own `load_state_dict` does not put back: parameter groups that training has added, as callbacks do
that unfreeze layers, and the precision of its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lottery.names import parameters_of

Names = list[list[str]]  # of the parameters, by group


class ParamGroups:
    """The parameter groups of the optimizers that a fit began with, as they were then.

    Args:
        trainer: a Trainer whose optimizers are made.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._optimizers = list(trainer.optimizers)
        self._first = [_members(optimizer) for optimizer in self._optimizers]

    def changes(self) -> dict[int, Names]:
        """The names in the groups of each optimizer that differs from how it was first, by its place.

        Raises:
            ValueError: a group holds a parameter that was added and that the module does not have.
        """
        module = self._trainer.lightning_module
        names = {id(p): name for name, p in parameters_of(module).items()}
        found: dict[int, Names] = {}
        for index, optimizer in enumerate(self._optimizers):
            groups = _members(optimizer)
            if not _equal(groups, self._first[index]):
                try:
                    found[index] = [[names[id(p)] for p in group] for group in groups]
                except KeyError:
                    raise ValueError(
                        f"training added a parameter to {type(optimizer).__name__} that {type(module).__name__} does not have,"
                        " so that its state could not be put back. Register the parameter in the module."
                    ) from None
        return found

    def restore(self, changes: Mapping[int, Names]) -> None:
        """Give every optimizer the groups that it had first, and then those of `changes`; options come with its state."""
        parameters = parameters_of(self._trainer.lightning_module)
        for index, optimizer in enumerate(self._optimizers):
            wanted = self._first[index]
            if index in changes:
                wanted = [[parameters[n] for n in group] for group in changes[index]]
            if _equal(_members(optimizer), wanted):
                continue
            groups = optimizer.param_groups
            del groups[len(wanted) :]
            for group in groups:
                group["params"] = []
            while len(groups) < len(wanted):
                optimizer.add_param_group({"params": wanted[len(groups)]})
            for group, members in zip(groups, wanted, strict=True):
                group["params"] = list(members)


def restore_precision(optimizer: Any, saved: Mapping[str, Any]) -> None:
    """Put back state in the precision that it had: torch casts it to the parameters' when it loads it."""
    if "state" not in saved or "param_groups" not in saved:
        return
    for group, known in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        for parameter, index in zip(group["params"], known["params"], strict=True):
            now = optimizer.state.get(parameter, {})
            for key, value in saved["state"].get(index, {}).items():
                if isinstance(value, Tensor) and value.dtype != now[key].dtype:
                    now[key] = value.to(now[key].device)


def _members(optimizer: Any) -> list[list[Any]]:
    return [list(group["params"]) for group in optimizer.param_groups]


def _equal(a: list[list[Any]], b: list[list[Any]]) -> bool:
    return [list(map(id, group)) for group in a] == [list(map(id, g)) for g in b]
