"""How much goes each round and from where: from scores and masks to the next masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lottery.foundations.registry import described
from lottery.masks.masks import Masks
from lottery.pruning import maskable, structures, ties
from lottery.pruning import scores as scoring
from lottery.pruning.amounts import Amounts, Scope, check_choice
from lottery.pruning.graph.paths import Connectivity, cut, followed
from lottery.pruning.scopes import within_rows

ScoreOf = Callable[[Masks], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Pruning:
    """What is pruned after each round: how much (amount or densities), by what score, in which scope and structure.

    Exactly ``round(amount * surviving)`` weights of each pool go, those of the lowest score, ties by position. What a
    pool is, the scope says. The four pieces combine freely.

    Args:
        amount: fraction of the surviving weights to remove each round, in (0, 1). Default: 0.2, where there are no
            densities.
        scope: what competes with what. Default: "rows" for the score "wanda" of single weights, else "global".

            - "global": all prunable weights with each other;
            - "layerwise": the weights of each parameter, `amount` of each;
            - "rows": the weights of each output row (the first dimension of a parameter), `amount` of each;
            - "uniform": as "layerwise", every parameter brought to the same density, that of the whole;
            - "erdos-renyi", "erk": each parameter brought to its Erdős–Rényi density, with kernel sizes or without.
        groups: glob pattern to amount, for parameters with a rate of their own. A parameter belongs to the first
            pattern that matches it; the others share `amount`. Frankle & Carbin (2019, appendix G) prune the output
            layer of LeNet at half the rate: ``Pruning(0.2, scope="layerwise", groups={"fc3.weight": 0.1})``.
        densities: instead of `amount`, the density of rounds 1, 2, ...: falling values in (0, 1). A mapping from glob
            patterns to such lists gives each parameter its own.
        score: what a weight is worth: a name of `lottery.scores.available()`, such as "magnitude", "snip" or "synflow";
            a mapping with a name and settings; or a function from `lottery.scores.Context` to a tensor per parameter.
        weights: which weights are scored: "trained", as the round before left them, or "start", those the round starts
            from: pruning before training.
        steps: the decision is made in this many steps, on an exponential schedule, each scored anew (SynFlow: 100).
        structure: what goes together: "element", "2:4" and other N:M, "block", "kernel", "channel"; see
            `lottery.structures`.
        include: glob patterns of the parameters to prune; default as in `prunable_parameters`.
        exclude: glob patterns of parameters to leave alone.
        collapse: "stop" when no path would be left from input to output, or, where paths cannot be followed, when a
            parameter would lose its last weight; "warn" to go on all the same. Structures but "element" leave a group
            in each parameter.

    Raises:
        ValueError: an amount or density is outside (0, 1), densities do not fall, arguments exclude each other, or a
            name is unknown.

    Example:
        >>> import torch
        >>> masks = Masks({"w": torch.tensor([True, True, True, True])})
        >>> Pruning(0.5).next_masks({"w": torch.tensor([4.0, 1.0, 3.0, 2.0])}, masks, number=1)["w"].tolist()
        [True, False, True, False]

    Source: iterative magnitude pruning, Frankle & Carbin, "The Lottery Ticket Hypothesis", ICLR 2019, section 2;
    Han et al., "Learning both Weights and Connections", NeurIPS 2015. Steps within a decision: Tanaka et al., "Pruning
    neural networks without any data by iteratively conserving synaptic flow", NeurIPS 2020, algorithm 1.
    """

    amount: float | None = None
    scope: Scope | None = None
    groups: Mapping[str, float] = field(default_factory=dict)
    densities: Sequence[float] | Mapping[str, Sequence[float]] | None = None
    score: Any = "magnitude"
    weights: Literal["trained", "start"] = "trained"
    steps: int = 1
    structure: str | Mapping[str, Any] | Any = "element"
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    collapse: Literal["stop", "warn"] = "stop"
    amounts: Amounts = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "groups", dict(self.groups))
        set_field(self, "include", _patterns("include", self.include))
        set_field(self, "exclude", _patterns("exclude", self.exclude))
        elements = isinstance(structures.resolve(self.structure), structures.Element)
        if self.scope == "rows" and not elements:
            raise ValueError(
                f"scope='rows' has single weights of a row compete, and structure={self.structure!r} takes them"
                " together: use another scope"
            )
        by_rows = elements and scoring.name_of(scoring.resolve(self.score)) == "wanda"
        amounts = Amounts(self.amount, self.scope or ("rows" if by_rows else "global"), self.groups, self.densities)
        set_field(self, "amounts", amounts)
        set_field(self, "densities", amounts.densities)
        check_choice("weights", self.weights, ("trained", "start"))
        check_choice("collapse", self.collapse, ("stop", "warn"))
        if type(self.steps) is not int or self.steps < 1:
            raise ValueError(f"steps={self.steps!r} must be a whole number, 1 or more")

    @classmethod
    def of(cls, value: float | Sequence[float] | Mapping[str, Any] | Pruning) -> Pruning:
        """A fraction, a list of densities or a mapping of arguments, as a `Pruning`."""
        if isinstance(value, Pruning):
            return value
        if isinstance(value, Mapping):
            return cls(**value)
        if isinstance(value, Sequence) and not isinstance(value, str):
            return cls(densities=value)
        return cls(amount=value)

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields of `lottery.scores.Context` that score and structure cannot do without."""
        structure = structures.resolve(self.structure)
        follows = getattr(structure, "needs_example_input", False)
        needs = scoring.needs_of(scoring.resolve(self.score))
        return (*needs, "example_input") if follows else needs

    def described(self) -> dict[str, object]:
        """The settings as plain data."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        score = scoring.resolve(self.score)
        structure = structures.resolve(self.structure)
        found["amount"], found["scope"] = self.amounts.amount, self.amounts.scope
        found["score"] = described(scoring.name_of(score), score)
        found["structure"] = described(structures.name_of(structure), structure)
        return found

    def check(self, masks: Masks, rounds: int, module: nn.Module, example_input: object = None) -> dict[str, str]:
        """Make sure that rounds can be pruned, as far as this is known before there are scores.

        Args:
            masks: the masks of round 0.
            rounds: how many rounds there will be after it.
            module: the module.
            example_input: an input of its `forward`, or None where it is not known yet.

        Returns:
            Parameter name to what a structure that follows the module's graph can take of it, in words; empty for other
            structures, and without an example input.

        Raises:
            ValueError: a pattern matches nothing or is missing, the structure or scope does not fit a parameter, or
                densities leave less than a weight to each.
        """
        structure = structures.resolve(self.structure)
        elements = isinstance(structure, structures.Element)
        pools = self.amounts.pools(masks, 1)
        for number in range(1, rounds + 1 if self.densities is not None else 1):
            for names, left in self.amounts.pools(masks, number):
                alive = [name for name in names if masks[name].any()]
                if elements and self.collapse == "stop" and left < len(alive):
                    total = sum(masks[name].numel() for name in names)
                    raise ValueError(
                        f"the density of round {number} would leave {left} of the {total} weights of"
                        f" {', '.join(alive)}: less than one to each parameter. Give a higher one, exclude"
                        " small parameters, or set collapse='warn'."
                    )
        if elements or (getattr(structure, "needs_example_input", False) and example_input is None):
            return {}
        if (plan := getattr(structure, "plan", None)) is not None:
            return dict(plan(masks, module, example_input))
        structure.next_masks(
            {name: mask.float() for name, mask in masks.items()},
            masks,
            [(names, 0.0) for names, _ in pools],
            allow_empty=True,
            module=module,
            example_input=example_input,
        )
        return {}

    def next_masks(
        self,
        scores: Mapping[str, Tensor] | ScoreOf,
        masks: Masks,
        number: int,
        *,
        module: nn.Module | None = None,
        example_input: object = None,
        follow: Callable[[Masks], Connectivity] | None = None,
    ) -> Masks:
        """The masks of `round`, nested in those of the round before.

        Args:
            scores: parameter name to tensor of the parameter's shape, high = keep; or, where the decision takes several
                steps, a function from the masks so far to such scores.
            masks: the masks of round - 1. What they pruned stays pruned.
            number: 1, 2, ...; it picks from `densities`.
            module: the module, for structures that follow its graph, and to follow paths around an empty layer.
            example_input: an input of its `forward`, for the same.
            follow: what masks leave of the network; default: by module and example_input, where both are given.

        Raises:
            ValueError: scores do not fit or are not finite, or the network would be cut, as `collapse` says.
        """
        structure = structures.resolve(self.structure)
        name = scoring.name_of(scoring.resolve(self.score))
        current, planned = masks, [_kept(masks, names) for names, _ in self.amounts.pools(masks, number)]
        tied = ties.Tied()
        norms = {} if module is None else maskable.norms_of(module, masks)
        for step in range(1, self.steps + 1):
            found = scores(current) if callable(scores) else scores
            found = scoring.check_scores(found, current, name)
            found = maskable.kept_norms(found, current, norms)
            pools, rows = self._left(masks, number, step / self.steps)
            before = current
            with ties.counted() as counts:
                found.update({name: within_rows(name, found[name], current[name], left) for name, left in rows.items()})
                current = structure.next_masks(
                    found,
                    current,
                    [
                        (names, 1 - left / had if had else 0.0)
                        for (names, left), had in zip(pools, planned, strict=True)
                    ],
                    allow_empty=self.collapse == "warn",
                    module=module,
                    example_input=example_input,
                )
            planned = [left for _, left in pools]
            tied = max(tied, ties.Tied.of(counts, current))
            ties.say_gone(f"the score {name!r}", found, before, current, f"round {number}")
        tied.say(f"the score {name!r}", f"round {number}")
        if follow is None:
            follow = Connectivity if module is None or example_input is None else _follow(module, example_input)
        if self.collapse == "stop" and (empty := cut(masks, current, follow)):
            raise ValueError(
                f"pruning for round {number} would remove the last weights of {', '.join(empty)}, which cuts the"
                " network there (layer collapse), or no path is known around. Keep more weights, prune in more steps,"
                " use scope='layerwise', exclude the layer, or set collapse='warn'."
            )
        return current

    def _left(self, masks: Masks, number: int, share: float) -> tuple[list[tuple[list[str], int]], dict[str, Tensor]]:
        """How many weights each pool has left after a share of the way; where rows compete, each of their rows, too."""
        if self.amounts.scope == "rows":
            rows = {
                name: _on_the_way(masks[name].flatten(1).sum(1), end, share)
                for name, end in self.amounts.rows(masks, number).items()
            }
            return [([name], int(left.sum())) for name, left in rows.items()], rows
        pools = self.amounts.pools(masks, number)
        return [
            (names, int(_on_the_way(torch.tensor(_kept(masks, names)), torch.tensor(end), share)))
            for names, end in pools
        ], {}


def _kept(masks: Masks, names: Sequence[str]) -> int:
    return sum(int(masks[name].sum()) for name in names)


def _follow(module: nn.Module, example_input: object) -> Callable[[Masks], Connectivity]:
    return lambda masks: followed(module, masks, lambda: example_input)


def _on_the_way(start: Tensor, end: Tensor, share: float) -> Tensor:
    """How many are left after a share of the way from `start` to `end` on an exponential schedule."""
    if share == 1:
        return end
    first, last = start.double(), end.double()
    return torch.where(end == 0, 0.0, first * (last / first) ** share).round().long()


def _patterns(what: str, patterns: Sequence[str] | str) -> tuple[str, ...]:
    patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern:
            raise ValueError(f"{what} has an empty pattern; write a glob such as 'fc*.weight'")
    return patterns
