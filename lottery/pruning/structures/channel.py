"""Whole channels, with everything that is coupled to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from lottery.foundations.undisturbed import undisturbed
from lottery.masks.masks import Masks
from lottery.pruning.graph.coupling import Coupling, couple
from lottery.pruning.structures.groups import Groups
from lottery.pruning.structures.registry import register
from lottery.pruning.structures.structure import Grouped

Norms = Literal["whole", "over survivors"]


@register("channel", "filter")
@dataclass(frozen=True)
class Channel(Grouped):
    """An output unit with everything coupled to it: its row, its columns in the layers that take it, and its partners.

    Channels that are added or multiplied together go together, as do a depthwise convolution's with those that it
    takes, and the same positions of each group of another; a flatten gives a channel many columns. A hidden unit of a
    recurrent layer has rows in all gates, and a head of attention goes whole. What it has in
    biases and normalisation layers is cut off with it, as nothing takes it any more. Whatever goes,
    `lottery.deploy.compact` can remove. So the network's inputs and outputs stay, as do the units of layers that are
    not pruned, those that go into a LayerNorm or GroupNorm, whose statistics are of all of them, or into another
    function that mixes units or is not known, and those that the code of forward counts, as `x[:, :32]` does.

    Args:
        norms: "whole": what goes into a LayerNorm, GroupNorm or RMSNorm stays; "over survivors": it may go. Its zeros
            still count in the statistics then, and `compact` keeps them: without, the norm would compute another thing.
        reduce: as of `Grouped`.

    Source: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, section 3 (filters and their feature maps;
    residual partners); Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023 (coupled groups).

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> masks = Masks.ones({n: net.get_parameter(n) for n in ("0.weight", "2.weight")})
        >>> ids = Channel().groups(masks, net, torch.zeros(1, 2)).ids
        >>> ids["0.weight"][0].tolist(), ids["2.weight"][1].tolist()
        ([[0], [1], [2]], [[0, 1, 2]])
    """

    norms: Norms = field(default="whole", kw_only=True)
    needs_example_input: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norms not in (ways := get_args(Norms)):
            raise ValueError(f"norms={self.norms!r}; the ways are {', '.join(map(repr, ways))}")

    def groups(self, masks: Masks, module: nn.Module | None = None, example_input: object = None) -> Groups:
        """A group for each channel, numbered by the first row that it has.

        Raises:
            ValueError: there is no module or example input, or the module's units cannot be followed.
        """
        return _numbered(self._coupling(masks, module, example_input).labels)

    def plan(self, masks: Masks, module: nn.Module, example_input: object) -> dict[str, str]:
        """Parameter name to how many of the units that it makes may go, and why the others stay, in words.

        Raises:
            ValueError: as `groups`.
        """
        return self._coupling(masks, module, example_input).plan()

    def _coupling(self, masks: Masks, module: nn.Module | None, example_input: object) -> Coupling:
        if module is None or example_input is None:
            raise ValueError(
                "the structure 'channel' follows a forward pass: give it the module and an example_input, for a"
                " LightningModule its example_input_array"
            )
        with undisturbed(module, masks):
            return couple(module, masks, example_input, exact=self.norms == "whole")


def _numbered(labels: Mapping[str, tuple[Tensor, ...]]) -> Groups:
    """Groups of equal labels, numbered from 0 by where each label is first: in what parameters make, then take."""
    depth = max(len(own) for own in labels.values())
    order = [own[i] for i in range(depth) for own in labels.values() if i < len(own)]
    everything = np.concatenate([t.flatten().numpy() for t in order])
    values, first = np.unique(everything[everything >= 0], return_index=True)
    number = torch.full((int(values.max()) + 2,), -1)
    number[torch.from_numpy(values[first.argsort()])] = torch.arange(len(values))
    return Groups({n: tuple(number[t] for t in own) for n, own in labels.items()})
