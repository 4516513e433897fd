"""A fit that prunes once, in place of its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from lottery.foundations import streams
from lottery.foundations.names import load_weights
from lottery.masks.masks import Masks
from lottery.masks.prunable import prunable_parameters
from lottery.pruning.graph.paths import Connectivity
from lottery.pruning.maskable import check_maskable
from lottery.pruning.pruning import Pruning
from lottery.pruning.scores import name_of, resolve
from lottery.tickets.checkpoint_file import check_weights
from lottery.training.decision import connectivity, next_masks
from lottery.training.lightning import Fit
from lottery.training.untrained import InsteadOfTraining


@dataclass(frozen=True)
class Source:
    """The weights that are pruned.

    Args:
        origin: the weights in words, such as "the weights in a.ckpt".
        weights: a state dict; empty for the module's own.
        masks: what was pruned before. Parameters without a mask are whole.
        initial: a state dict from before training; default: the module's own weights.
        round: the round that these masks are of.
        seed: that of the run they are from.
        trained: whether the weights were trained.
    """

    origin: str
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    initial: Mapping[str, Tensor] | None = None
    round: int = 0
    seed: int | None = None
    trained: bool = False


class PruneOnce(InsteadOfTraining):
    """Makes one pruning decision in a `trainer.fit` that trains nothing.

    Module and data are set up as for training. With the same seed, the decision is that of a `LotteryTicket` which
    prunes these weights: the same order of the data, the same random draws.

    Args:
        pruning: what to prune.
        source: the weights to prune.
        index: which of the pruning's densities to take, from 1.
        seed: of the order in which the score sees data, and of its draws; default: derived from the random streams, as
            that of a LotteryTicket.

    Attributes:
        masks: the masks that were found, once the fit is over.
        weights: the state dict that was scored.
        connectivity: what the masks leave of the network.
        seed: the seed that was used.

    Raises:
        ValueError: (by the fit) the weights do not fit, the score cannot be had, or nothing goes or nothing is left.
    """

    masks: Masks
    weights: dict[str, Tensor]
    connectivity: Connectivity

    def __init__(self, pruning: Pruning, source: Source, *, index: int, seed: int | None = None) -> None:
        super().__init__()
        self.pruning = pruning
        self.source = source
        self.index = index
        self.seed = seed
        self._check_score()

    def instead(self, fit: Fit) -> None:
        """The decision."""
        source = self.source
        if self.seed is None:
            self.seed = streams.fingerprint(streams.capture())
        fit.states.round = fit.data.round = source.round + 1
        pruning = self.pruning
        parameters = prunable_parameters(fit.module, pruning.include, pruning.exclude)
        check_maskable(fit.module, parameters)
        masks = Masks.ones(parameters).with_masks(source.masks)
        initial = source.initial or _copied(fit.weights())
        if source.weights:
            check_weights(source.weights, fit.module, source.origin)
            load_weights(fit.module, source.weights, source.origin)
        self.weights = _copied(fit.weights())
        masks.apply(parameters)
        self.masks = next_masks(
            pruning,
            fit,
            masks,
            self.index,
            weights=fit.weights(),
            initial=initial,
            accumulated=None,
            seed=streams.derive(self.seed, "score", fit.states.round),
        )
        if self.masks == masks:
            raise ValueError(
                f"nothing goes: {source.origin} have a density of {masks.density:.4g} already. Give a lower density."
            )
        self.connectivity = connectivity(fit, self.masks, self.seed)
        if pruning.collapse == "stop":
            self.connectivity.check()

    # what can go wrong

    def _check_score(self) -> None:
        needs, name = self.pruning.needs, name_of(resolve(self.pruning.score))
        if "accumulated" in needs:
            raise ValueError(
                f"the score {name!r} is gathered while a round trains, and nothing is trained here. Use `lottery run"
                f" RECIPE --lottery.pruning.score {name}`, or another score."
            )
        if "initial" in needs and not self.source.trained:
            raise ValueError(
                f"the score {name!r} compares trained weights with those before training, and these are untrained. Give"
                " trained ones with --checkpoint FILE or --run RUN, or another score."
            )


def _copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in weights.items()}
