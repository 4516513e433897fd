"""How recurrent layers label what they make: a hidden unit is one feature, over all steps, gates and layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lottery.pruning.graph.calls import Call, Use
from lottery.pruning.graph.combining import meet_elements
from lottery.pruning.graph.labelling import Labelling, along
from lottery.pruning.graph.layers import ranges, unknown_ranges


@dataclass(frozen=True, eq=False)
class Weights:
    """What one direction of one layer is made of: weights for its input and its hidden state, and biases."""

    of_input: Tensor
    of_hidden: Tensor
    biases: Sequence[Tensor]


def recurrent(seen: Labelling, use: Use) -> list[Tensor] | None:
    """`nn.LSTM`, `nn.GRU` and `nn.RNN`: all layers have as many hidden units, so these go together."""
    place = max(i for i, x in enumerate(use.args) if isinstance(x, list))
    x, weights, (biased, layers) = use.args[0], use.args[place], use.args[place + 1 : place + 3]
    directions = 1 + bool(use.args[place + 5])
    found = list(_split(weights, layers * directions, biased))
    if not seen.recurrent or not found or not _can_follow(seen, found):
        return None
    hidden = [seen.labels.fresh(own.of_hidden.shape[1]) for own in found]
    states = torch.stack(hidden)
    if not _starts(seen, use.args[place - 1], states):
        return None
    seen.labels.together(states[:1], states)
    taken = seen.labels.merge(seen.swap(x), range(x.ndim - 1)).flatten()
    given = ranges(x, x.ndim - 1)
    for number in range(layers):
        mine = slice(number * directions, (number + 1) * directions)
        for own, made in zip(found[mine], hidden[mine], strict=True):
            _note(seen, own, made, taken, given)
        taken = torch.cat(hidden[mine])
        given = unknown_ranges(len(taken))
    _note_steps(seen, use, states)
    output, *last = use.outputs
    return [along(taken, -1, output.ndim), *(states.reshape(len(found), *[1] * (s.ndim - 2), -1) for s in last)]


def cell(seen: Labelling, use: Use) -> list[Tensor] | None:
    """`nn.LSTMCell`, `nn.GRUCell` and `nn.RNNCell`: one step."""
    x, state, of_input, of_hidden, *biases = use.args
    own = Weights(of_input, of_hidden, [b for b in biases if b is not None])
    if not seen.recurrent or not _can_follow(seen, [own]):
        return None
    hidden = seen.labels.fresh(of_hidden.shape[1])
    if not _starts(seen, state, hidden):
        return None
    taken = seen.labels.merge(seen.swap(x), range(x.ndim - 1)).flatten()
    _note(seen, own, hidden, taken, ranges(x, x.ndim - 1))
    _note_steps(seen, use, hidden)
    return [along(hidden, -1, output.ndim) for output in use.outputs]


def _split(weights: Sequence[Tensor], parts: int, biased: bool) -> Iterator[Weights]:
    """The weights of each direction of each layer; nothing where there are projections."""
    each = 4 if biased else 2
    if len(weights) == parts * each:
        for start in range(0, len(weights), each):
            of_input, of_hidden, *biases = weights[start : start + each]
            yield Weights(of_input, of_hidden, biases)


def _can_follow(seen: Labelling, weights: Sequence[Weights]) -> bool:
    return all(id(t) in seen.owned for own in weights for t in (own.of_input, own.of_hidden, *own.biases))


def _note(seen: Labelling, own: Weights, made: Tensor, taken: Tensor, given: tuple[Tensor, Tensor]) -> None:
    """The layers at work: both weights make the gates of each unit."""
    gates = along(made.repeat(len(own.of_hidden) // len(made)), 0, 2)
    biases: list[Any] = [seen.owned[id(bias)] for bias in own.biases] or [None, None]
    both = (own.of_input, biases[0], taken, given), (own.of_hidden, biases[1], made, unknown_ranges(len(made)))
    for weight, bias, units, (low, high) in both:
        call = Call(seen.owned[id(weight)], bias, gates, 0, along(units, 1, 2), low=low, high=high)
        seen.calls.append(call)


def _starts(seen: Labelling, state: object, hidden: Tensor) -> bool:
    """Join the units with those of the state before; whether it can shrink with them."""
    for x in state if isinstance(state, (tuple, list)) else [state]:
        if not isinstance(x, Tensor) or not (labels := seen.taken(x)).any():
            return x is None  # else it is of a fixed size
        rows = hidden if hidden.ndim == 1 else hidden.reshape(len(hidden), *[1] * (x.ndim - 2), -1)
        if x in seen.parts:
            meet_elements(seen, labels, rows.expand(x.shape))
        else:
            seen.labels.meet(labels, rows)
    return True


def _note_steps(seen: Labelling, use: Use, hidden: Tensor) -> None:
    """Without input a unit is another constant in each step."""
    if seen.exact:
        place = f"{use.name} in {seen.path[-1]}"
        seen.sized[place] = torch.cat([seen.sized.get(place, torch.zeros(0)), hidden.flatten()]).unique().long()
