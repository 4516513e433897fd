"""The moves of one training: when they come, what they see, what they did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lottery.foundations import streams
from lottery.foundations.names import parameters_of
from lottery.masks.masks import Masks
from lottery.pruning import ties
from lottery.pruning.dynamic.method import Method, MoveContext, Training
from lottery.pruning.dynamic.registry import name_of
from lottery.pruning.graph.paths import Connectivity, cut

_EQUAL = (
    "Gradients are zero where a unit is dead, or where a layer that comes after starts at zero. Move more seldom, start"
    " from other weights, or exclude the layer. This is said once."
)


def begin(method: Method, masks: Masks, seed: int, training: Training) -> Masks:
    """The masks that a training starts under; `check_begin` says whether they leave a network.

    Args:
        method: the method.
        masks: all weights, or those of a ticket.
        seed: that of the run.
        training: how long it will be.

    Raises:
        ValueError: nothing would ever move.
    """
    if not any(method.due(step, training) for step in range(training.steps)):
        raise ValueError(
            f"dynamic={method!r} never moves in a training of {training.steps} steps: train longer, or move more often"
        )
    generator = torch.Generator().manual_seed(streams.derive(seed, "move", "begin"))
    following = method.begin(masks, generator)
    masks.check_same(following)
    return following


def check_begin(method: Method, before: Masks, after: Masks, follow: Callable[[Masks], Connectivity]) -> None:
    """Make sure that the masks of `begin` leave a path.

    Args:
        method: the method.
        before: what `begin` was given.
        after: what it gave.
        follow: what masks leave of the network.

    Raises:
        ValueError: a layer is empty, and no path is known around it.
    """
    _check(cut(before, after, follow), method)


@dataclass(frozen=True)
class Move:
    """One move of the masks.

    Args:
        step: of the fit, before which it came.
        density: after it.
        dropped: weights that it took.
        grown: weights that it gave back.
    """

    step: int
    density: float
    dropped: int
    grown: int


class Mover:
    """The moves of one training. Each optimizer moves the masks of its own parameters, and counts its own steps.

    Args:
        method: the method.
        seed: that of the run.
        allow_empty: the network may be cut.
        follow: what masks leave of the network.

    Attributes:
        moves: what was done.
    """

    def __init__(
        self,
        method: Method,
        seed: int,
        allow_empty: bool = False,
        follow: Callable[[Masks], Connectivity] = Connectivity,
    ) -> None:
        self.moves: list[Move] = []
        self._method = method
        self._seed = seed
        self._allow_empty = allow_empty
        self._follow = follow
        self._steps: dict[int, int] = {}
        self._gradients: dict[str, Tensor] = {}
        self._last: tuple[int, int] | None = None
        self._told = False

    def start(self, module: nn.Module, optimizers: Iterable[Optimizer], training: Training) -> None:
        """The training begins, or goes on."""
        self._module, self._training = module, training
        names = {id(p): name for name, p in parameters_of(module).items()}
        self._names = [{names[id(p)] for g in optimizer.param_groups for p in g["params"]} for optimizer in optimizers]
        self._index = {id(optimizer): i for i, optimizer in enumerate(optimizers)}

    def keep_gradients(self, masks: Masks, position: int | None = None) -> None:
        """After a backward pass of manual optimization: keep dense gradients that a move is about to need.

        The gradients in the module are masked before the module clips them, which is before the optimizer steps.

        Args:
            masks: the masks so far.
            position: as in `step`.
        """
        if not getattr(self._method, "needs_gradients", True):
            return
        due = [names for index, names in enumerate(self._names) if self._is_due(index, position)]
        for name, gradient in self._dense(set().union(*due) & masks.keys()).items():
            # an older gradient was masked already
            if bool(gradient[~masks[name].to(gradient.device)].any()):
                self._gradients[name] = gradient.clone()

    def step(self, masks: Masks, optimizer: Optimizer, step: int, position: int | None = None) -> Masks | None:
        """Called before each step of an optimizer; the masks from then on, or None where they do not move.

        Args:
            masks: the masks so far.
            optimizer: the one that is about to step.
            step: steps of the fit, of all its optimizers. A second call with the same, as for LBFGS, moves nothing.
            position: how far the training is, in the steps that `Training` counts; default: the optimizer's own steps.
                With manual optimization an optimizer may make more or fewer. What was due in between is due now, and at
                the last step that can be expected what is due after it.

        Raises:
            ValueError: the method gave masks of other parameters, or cut the network.
        """
        index = self._index[id(optimizer)]
        if self._last == (index, step):
            return None
        self._last = index, step
        due = self._is_due(index, position)
        now = self._now(index, position)
        self._steps[index] = max(self._steps.get(index, 0), now + 1)
        names = self._names[index] & masks.keys()
        if not names or not due:
            return None
        before = Masks({name: mask for name, mask in masks.items() if name in names})
        kept = {n: self._gradients.pop(n) for n in names if n in self._gradients}
        seed = streams.derive(self._seed, "move", step)
        context = MoveContext(
            self._module,
            before,
            {**self._dense(names), **kept},
            now,
            self._training,
            torch.Generator().manual_seed(seed),
        )
        with ties.counted() as counts:
            after = self._method.move(context)
        before.check_same(after)
        following = Masks({**masks, **after})
        if not self._told:
            what = f"what dynamic={name_of(self._method)!r} goes by"
            self._told = ties.Tied.of(counts, following).say(what, f"step {step}", _EQUAL)
        if not self._allow_empty:
            _check(cut(masks, following, self._follow), self._method)
        self.moves.append(Move(step, following.density, (before - after).kept, (after - before).kept))
        return following

    def _now(self, index: int, position: int | None) -> int:
        """How far the training is; at its end where an optimizer that goes on as it did makes no further step."""
        counted = self._steps.get(index, 0)
        if position is None:
            return counted
        if not counted:
            return position
        since, last = position + 1 - counted, self._training.steps - 1
        return last if position + since > last else position

    def _is_due(self, index: int, position: int | None) -> bool:
        """Whether a move is due at any step that an optimizer has come to since it was last asked."""
        steps = range(self._steps.get(index, 0), self._now(index, position) + 1)
        return any(self._method.due(step, self._training) for step in steps)

    def state(self) -> dict[str, object]:
        """What a checkpoint holds of it: plain containers and tensors."""
        return {
            "moves": [asdict(move) for move in self.moves],
            "steps": dict(self._steps),
            "gradients": dict(self._gradients),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned."""
        self.moves = [Move(**move) for move in state["moves"]]
        self._steps = dict(state["steps"])
        self._gradients = dict(state["gradients"])

    def _dense(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The gradients in the module, of those that have one."""
        parameters = parameters_of(self._module)
        found = {name: parameters[name].grad for name in names}
        return {
            name: gradient.to_dense() if gradient.is_sparse else gradient
            for name, gradient in found.items()
            if gradient is not None
        }


def _check(empty: Sequence[str], method: Method) -> None:
    if empty:
        raise ValueError(
            f"dynamic={name_of(method)!r} would leave no weight of {', '.join(empty)}, which cuts the network there"
            " (layer collapse), or no path is known around. Use a higher density, another scope, or exclude the layer"
            " with Pruning(exclude=[...]), or set its collapse='warn'."
        )
