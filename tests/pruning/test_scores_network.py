"""Every score on one network with all that wires layers together, against its formula on plain functions.

A dense block, a permute before a flatten, a layer that is used twice, two heads of one weight, and their concatenation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pytest
import torch
import torch.nn.functional as F
from scored import assert_close
from torch import Tensor, nn

from lottery import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.scores import Context, available, compute

Tensors = dict[str, Tensor]
BLOCK, DAMPING = 16, 1e-3


class Wired(nn.Module):
    """Of inputs (n, 2, 2, 2) and four classes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.t = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(5, 2, 1), nn.Conv2d(7, 5, 1)
        self.s = nn.Conv2d(5, 5, 1)
        self.p, self.q = nn.Linear(20, 3), nn.Linear(20, 3)
        self.c, self.d = nn.Linear(3, 2), nn.Linear(3, 2, bias=False)
        self.d.weight = self.c.weight

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, self.a(x).tanh()], 1)
        x = torch.cat([x, self.b(x).tanh()], 1)
        x = self.s(self.s(self.t(x)).tanh()).tanh()
        x = x.permute(0, 2, 3, 1).flatten(1)
        return torch.cat([self.c(self.p(x).tanh()), self.d(self.q(x).tanh())], 1)


def outputs(
    w: Tensors, x: Tensor, met: Callable[[str, Tensor], None] = lambda *_: None, linear: bool = False
) -> Tensor:
    """The same of plain functions. `met` gets the layer's name and what it multiplies, (samples, in * kernel)."""

    def conv(name: str, x: Tensor, kernel: int = 1) -> Tensor:
        columns = F.unfold(x, kernel, padding=kernel // 2)
        met(name, columns.transpose(1, 2).flatten(0, 1))
        found = w[f"{name}.weight"].flatten(1) @ columns + w[f"{name}.bias"][:, None]
        return found.reshape(len(x), -1, *x.shape[2:])

    def dense(name: str, x: Tensor, bias: Tensor | float) -> Tensor:
        met(name, x)
        return x @ w[f"{name}.weight"].T + bias

    x = torch.cat([x, torch.tanh(conv("a", x, 3))], 1)
    x = torch.cat([x, torch.tanh(conv("b", x))], 1)
    x = torch.tanh(conv("s", torch.tanh(conv("s", conv("t", x)))))
    x = x.flatten(2).transpose(1, 2).flatten(1)
    heads = dense("p", x, w["p.bias"]), dense("q", x, w["q.bias"])
    return torch.cat([dense("c", torch.tanh(heads[0]), w["c.bias"]), dense("c", torch.tanh(heads[1]), 0.0)], 1)


@dataclass
class Formulas:
    """What the papers write, each over all weights as one vector."""

    weights: Tensors
    prunable: list[str]
    x: Tensor
    y: Tensor
    initial: Tensors
    accumulated: Tensors

    def vector(self, tensors: Tensors) -> Tensor:
        return torch.cat([tensors[n].flatten() for n in self.prunable])

    def named(self, vector: Tensor) -> Tensors:
        parts = vector.split([self.weights[n].numel() for n in self.prunable])
        return {n: part.reshape(self.weights[n].shape) for n, part in zip(self.prunable, parts, strict=True)}

    def loss(self, theta: Tensor, rows: slice = slice(None), temperature: float = 1.0) -> Tensor:
        found = outputs({**self.weights, **self.named(theta)}, self.x[rows])
        return -(found / temperature).log_softmax(1)[torch.arange(len(found)), self.y[rows]].mean()

    @cached_property
    def theta(self) -> Tensor:
        return self.vector(self.weights)

    @cached_property
    def g(self) -> Tensor:
        return torch.func.grad(self.loss)(self.theta)

    @cached_property
    def samples(self) -> Tensor:
        each = [torch.func.grad(self.loss)(self.theta, slice(i, i + 1)) for i in range(len(self.x))]
        return torch.stack(each)

    @cached_property
    def hessian(self) -> Tensor:
        return torch.func.jacrev(torch.func.grad(self.loss))(self.theta)

    def by_layer(self, function: Callable[..., Tensor], *tensors: Tensors) -> Tensor:
        return self.vector({n: function(*(t[n] for t in tensors)) for n in self.prunable})

    # scores

    def magnitude(self) -> Tensor:
        return self.theta.abs()

    def small_final(self) -> Tensor:
        return -self.theta.abs()

    def large_init(self) -> Tensor:
        return self.vector(self.initial).abs()

    def small_init(self) -> Tensor:
        return -self.vector(self.initial).abs()

    def magnitude_increase(self) -> Tensor:
        return self.theta.abs() - self.vector(self.initial).abs()

    def distance(self) -> Tensor:
        return (self.theta - self.vector(self.initial)).abs()

    def large_final_same_sign(self) -> Tensor:
        return (self.theta * self.vector(self.initial).sign()).clamp(min=0)

    def large_final_diff_sign(self) -> Tensor:
        return (-self.theta * self.vector(self.initial).sign()).clamp(min=0)

    def _lower_rank(self, sign: float) -> Tensor:
        def ranks(w: Tensor) -> Tensor:
            sizes = sign * w.abs().flatten()
            return (sizes[:, None] >= sizes).double().mean(1)

        return self.by_layer(lambda w, start: torch.minimum(ranks(w), ranks(start)), self.weights, self.initial)

    def large_init_large_final(self) -> Tensor:
        return self._lower_rank(1.0)

    def small_init_small_final(self) -> Tensor:
        return self._lower_rank(-1.0)

    def movement(self) -> Tensor:
        return self.vector(self.accumulated)

    def lamp(self) -> Tensor:
        def one(w: Tensor) -> Tensor:
            squares = w.square().flatten()
            return torch.stack([s / squares[squares >= s].sum() for s in squares])

        return self.by_layer(one, self.weights)

    def snip(self) -> Tensor:
        found = (self.theta * self.g).abs()
        return found / found.sum()

    def grasp(self) -> Tensor:
        def cool(theta: Tensor) -> Tensor:
            return self.loss(theta, temperature=200.0)

        gradient = torch.func.grad(cool)
        found = self.theta * (torch.func.jacrev(gradient)(self.theta) @ gradient(self.theta))
        return found / (found.sum().abs() + 1e-10)

    def taylor(self) -> Tensor:
        return (self.theta * self.g).square()

    def taylor_channel(self) -> Tensor:
        def one(w: Tensor, g: Tensor) -> Tensor:
            channels = (w * g).flatten(1).sum(1).square()
            return channels[:, None].expand(len(w), w[0].numel()).flatten()

        return self.by_layer(one, self.weights, self.named(self.g))

    def fisher(self) -> Tensor:
        return self.theta.square() * self.samples.square().mean(0) / 2

    def obd(self) -> Tensor:
        return self.theta.square() * self.hessian.diagonal() / 2

    def obs(self) -> Tensor:
        found = torch.empty_like(self.theta)
        start = 0
        for name in self.prunable:
            for block in torch.arange(start, start := start + self.weights[name].numel()).split(BLOCK):
                rows = self.samples[:, block]
                fisher = rows.T @ rows / len(rows) + DAMPING * torch.eye(len(block)).double()
                found[block] = self.theta[block].square() / (2 * torch.linalg.inv(fisher).diagonal())
        return found

    def wanda(self) -> Tensor:
        met: dict[str, list[Tensor]] = {}
        outputs(self.weights, self.x, lambda name, columns: met.setdefault(name, []).append(columns))
        norms = {f"{name}.weight": torch.cat(inputs).norm(dim=0) for name, inputs in met.items()}
        return self.by_layer(lambda w, norm: (w.flatten(1).abs() * norm).flatten(), self.weights, norms)

    def synflow(self) -> Tensor:
        positive = {n: torch.zeros_like(w) if n.endswith("bias") else w.abs() for n, w in self.weights.items()}

        def flow(theta: Tensor) -> Tensor:
            return outputs({**positive, **self.named(theta)}, torch.ones_like(self.x[:1])).sum()

        return self.theta.abs() * torch.func.grad(flow)(self.theta.abs())

    def lookahead(self) -> Tensor:
        p, q = self.weights["p.weight"], self.weights["q.weight"]
        made = {n: self.weights[n].flatten(1).square().sum(1) for n in self.prunable}  # by unit
        taken = {n: self.weights[n].square().transpose(0, 1).flatten(1).sum(1) for n in self.prunable}
        x = torch.ones(2)
        through = (p.square().sum(0) + q.square().sum(0)).reshape(4, 5).sum(0)  # the permute puts channels last
        squares = {
            "a.weight": (x, taken["b.weight"][2:] + taken["t.weight"][2:5]),
            "b.weight": (torch.cat([x, made["a.weight"]]), taken["t.weight"][5:]),
            "t.weight": (torch.cat([x, made["a.weight"], made["b.weight"]]), taken["s.weight"]),
            "s.weight": (made["t.weight"] + made["s.weight"], taken["s.weight"] + through),
            "p.weight": (made["s.weight"].repeat(4), taken["c.weight"]),
            "q.weight": (made["s.weight"].repeat(4), taken["c.weight"]),
            "c.weight": (made["p.weight"] + made["q.weight"], torch.ones(2)),
        }

        def one(w: Tensor, neighbours: tuple[Tensor, Tensor]) -> Tensor:
            into, out_of = neighbours
            size = w.abs().reshape(len(w), w.shape[1], -1)
            return (size * into.sqrt()[:, None] * out_of.sqrt()[:, None, None]).flatten()

        return torch.cat([one(self.weights[n], squares[n]) for n in self.prunable])


@pytest.fixture(scope="module")
def formulas() -> Formulas:
    torch.manual_seed(0)
    net = Wired().double()
    weights = {n: p.detach() for n, p in net.named_parameters()}
    prunable = list(prunable_parameters(net))
    x = torch.randn(5, 2, 2, 2, dtype=torch.float64)
    initial, accumulated = ({n: torch.randn_like(weights[n]) for n in prunable} for _ in range(2))
    return Formulas(weights, prunable, x, torch.arange(5) % 4, initial, accumulated)


@pytest.mark.parametrize("name", sorted(set(available()) - {"random"}))
def test_every_score_is_its_formula_however_layers_are_wired(name: str, formulas: Formulas) -> None:
    net = Wired().double()
    net.load_state_dict({**formulas.weights, "d.weight": formulas.weights["c.weight"]})
    assert_close(outputs(formulas.weights, formulas.x), net(formulas.x).detach())
    scored = Context(
        net,
        Masks.ones(prunable_parameters(net)),
        batches=lambda: [(formulas.x, formulas.y)],
        example_input=formulas.x[:1],
        initial={**formulas.weights, **formulas.initial},
        accumulated=formulas.accumulated,
    )
    settings = {"obs": {"block": BLOCK, "damping": DAMPING}}.get(name, {})
    found = compute({"name": name, **settings}, scored)
    expected = getattr(formulas, name)()
    scale = float(expected.abs().max())
    assert_close(formulas.vector(found), expected, rtol=1e-10, atol=1e-12 * scale)
