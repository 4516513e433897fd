"""One way to spend a budget of epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """One way to spend a budget.

    Args:
        rounds: pruned rounds; dense comes before them.
        epochs: of each round.
        amount: the fraction of the surviving weights that each round prunes.
        predicted: the validation value at the target density; NaN where nothing measured tells.
        extrapolated: in what it lies beyond what was measured.
    """

    rounds: int
    epochs: int
    amount: float
    predicted: float
    extrapolated: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """All epochs, those of dense included."""
        return (self.rounds + 1) * self.epochs

    def densities(self) -> list[float]:
        """The density of each pruned round."""
        return [(1 - self.amount) ** n for n in range(1, self.rounds + 1)]

    def overrides(self, pruning: Any = 0.2) -> list[str]:
        """The settings for `lottery run` and `lottery study`.

        Args:
            pruning: the recipe's own `lottery.pruning`: a fraction, a list of densities or a mapping. Groups with
                amounts of their own keep them, so the density ends a little off.

        Example:
            >>> Candidate(2, 5, 0.5, 0.9).overrides({"scope": "layerwise"})
            ['--lottery.rounds', '2', '--lottery.pruning.amount', '0.5', '--trainer.max_epochs', '5']
        """
        key, value = "--lottery.pruning", f"{self.amount:.4g}"
        mapping = isinstance(pruning, Mapping)
        listed = pruning.get("densities") is not None if mapping else None
        if listed or (isinstance(pruning, Sequence) and not isinstance(pruning, str)):
            value = str([round(density, 5) for density in self.densities()])
        if mapping:
            key += ".densities" if listed else ".amount"
        rounds, epochs = str(self.rounds), str(self.epochs)
        return ["--lottery.rounds", rounds, key, value, "--trainer.max_epochs", epochs]
