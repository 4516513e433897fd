"""Optimizers: each a function from parameters to an optimizer."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import optim

from conformance.axis import Axis

OPTIMIZERS = optimizer = Axis("optimizer")


@optimizer()
def own(parameters: Any) -> None:
    """what the module configures for itself: SGD with momentum, where nothing else is said"""


def family(
    source: str,
    name: str,
    what: str = "",
    needs: str = "",
    lacks: str = "",
    gap: tuple[str, str] | None = None,
    **arguments: Any,
) -> None:
    """Register an optimizer that takes parameters and numbers."""

    def make(parameters: Any) -> Any:
        module = __import__(source, fromlist=[name])
        return getattr(module, name)(parameters, **arguments)

    make.__doc__ = f"`{source}.{name}`, {', '.join(f'{k}={v}' for k, v in arguments.items())}"
    optimizer(
        name=f"{name} {what}".strip() + (" (pytorch_optimizer)" if source == "pytorch_optimizer" else ""),
        needs=f"optimizer {needs}",
        lacks=lacks,
        package=None if source == "torch.optim" else source,
        gap=gap,
    )(make)


family("torch.optim", "SGD", lr=0.05)
family("torch.optim", "SGD", "Nesterov", lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
family("torch.optim", "Adam", lr=1e-2)
family("torch.optim", "Adam", "fused AMSGrad", lr=1e-2, amsgrad=True, fused=True)
family("torch.optim", "AdamW", lr=1e-2, weight_decay=0.1)
family("torch.optim", "NAdam", lr=1e-2, decoupled_weight_decay=True, weight_decay=0.1)
family("torch.optim", "RAdam", lr=1e-2)
family("torch.optim", "Adamax", lr=1e-2)
family("torch.optim", "Adadelta", lr=1.0)
family("torch.optim", "Adagrad", lr=0.05, initial_accumulator_value=0.1)
family("torch.optim", "Adafactor", lr=1e-2)
family("torch.optim", "ASGD", lr=0.05, t0=2)
family("torch.optim", "RMSprop", lr=1e-2, momentum=0.9, centered=True)
family("torch.optim", "Rprop", lacks="decay", lr=1e-2)
family(
    "torch.optim",
    "LBFGS",
    needs="one-pass",
    gap=("law 2", "its history is flat, and of the dense network where a round rewinds into it"),
    lr=0.1,
    max_iter=3,
    history_size=3,
)


MUON = "torch.optim._muon"  # from 2.9 on


@optimizer(name="Muon", needs="optimizer matrices", package=MUON)
def muon(parameters: Any) -> Any:
    """`torch.optim.Muon` for the matrices; other parameters stay as they are"""
    matrices = [p for p in parameters if p.ndim == 2]
    return optim.Muon(matrices, lr=1e-2)


@optimizer(name="groups", needs="optimizer")
def groups(parameters: Any) -> Any:
    """AdamW with two groups of parameters: matrices decay, the rest doesn't"""
    parameters = list(parameters)
    decaying = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    decay = [{"params": decaying, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return optim.AdamW([group for group in decay if group["params"]], lr=1e-2)


@optimizer(name="noisy SGD", needs="optimizer")
def noisy(parameters: Any) -> Any:
    """a user's own: SGD that adds noise to weights after each step (Langevin)"""

    class Langevin(optim.SGD):
        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.add_(torch.randn_like(parameter), alpha=1e-3)
            return loss

    return Langevin(parameters, lr=0.05)


@optimizer(name="double copy", needs="optimizer")
def master_weights(parameters: Any) -> Any:
    """a user's own: updates copies of the weights in float64, and writes them back"""

    class Master(optim.SGD):
        def step(self, closure: Any = None) -> Any:
            with torch.enable_grad():
                loss = closure() if closure is not None else None
            with torch.no_grad():
                for parameter in self.param_groups[0]["params"]:
                    if parameter.grad is not None:
                        state = self.state[parameter]
                        copy = state.setdefault("master", parameter.detach().double().clone())
                        copy.sub_(parameter.grad.to_dense().double(), alpha=0.05)
                        parameter.copy_(copy)
            return loss

    return Master(parameters, lr=0.05)


for name in ("SGDScheduleFree", "AdamWScheduleFree", "RAdamScheduleFree"):
    family("schedulefree", name, lr=1e-2)


class ScheduleFreeModes(pl.Callback):
    """Tells schedule-free optimizers, as their authors ask, when the averaged weights are wanted."""

    def _set(self, mode: str, trainer: Any) -> None:
        for optimizer in trainer.optimizers:
            if callable(getattr(optimizer, mode, None)):
                getattr(optimizer, mode)()

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self._set("train", trainer)

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self._set("eval", trainer)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self._set("train", trainer)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self._set("eval", trainer)


for name, arguments in {
    "AdaBelief": {"lr": 1e-2},
    "Adan": {"lr": 1e-2},
    "AdEMAMix": {"lr": 1e-2},
    "ADOPT": {"lr": 1e-2},
    "Lamb": {"lr": 1e-2},
    "LARS": {"lr": 1e-2},
    "Lion": {"lr": 1e-3, "weight_decay": 0.1},
    "MADGRAD": {"lr": 1e-2},
    "Prodigy": {"lr": 1.0},
    "Shampoo": {"lr": 1e-2},
    "SOAP": {"lr": 1e-2},
    "Tiger": {"lr": 1e-3},
}.items():
    family("pytorch_optimizer", name, **arguments)  # type: ignore[arg-type]


@optimizer(name="Lookahead (pytorch_optimizer)", needs="optimizer", package="pytorch_optimizer")
def lookahead(parameters: Any) -> Any:
    """Lookahead around SGD: slow weights every three steps"""
    from pytorch_optimizer import Lookahead

    return Lookahead(optim.SGD(parameters, lr=0.05, momentum=0.9), k=3)


@optimizer(name="SAM (pytorch_optimizer)", needs="optimizer one-pass", package="pytorch_optimizer")
def sharpness_aware(parameters: Any) -> Any:
    """sharpness-aware SGD; both passes by Lightning's closure"""
    from pytorch_optimizer import SAM

    class TwoPasses(SAM):
        def step(self, closure: Any = None) -> Any:
            with torch.enable_grad():
                loss = closure()
            super().step(closure)
            return loss

    return TwoPasses(parameters, optim.SGD, lr=0.05, momentum=0.9)


class Around(optim.Optimizer):
    """Slow weights every three steps, around another optimizer whose state it passes on as its own."""

    def __init__(self, inner: optim.Optimizer) -> None:
        super().__init__(inner.param_groups, {})
        self.inner, self.steps = inner, 0
        self.param_groups = inner.param_groups
        self.slow = [[p.detach().clone() for p in group["params"]] for group in self.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = self.inner.step(closure)
        self.steps += 1
        if self.steps % 3 == 0:
            for group, slow in zip(self.param_groups, self.slow, strict=True):
                for parameter, other in zip(group["params"], slow, strict=True):
                    other.add_(parameter - other, alpha=0.5)
                    parameter.copy_(other)
        return loss

    def state_dict(self) -> Any:
        return self.inner.state_dict()

    def load_state_dict(self, state_dict: Any) -> None:
        self.inner.load_state_dict(state_dict)
        self.param_groups = self.inner.param_groups


@optimizer(name="around another", needs="optimizer")
def around_another(parameters: Any) -> Any:
    """slow weights, around SGD whose state it passes on as its own"""
    return Around(optim.SGD(parameters, lr=0.05, momentum=0.9))
