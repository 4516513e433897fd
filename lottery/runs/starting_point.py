"""The state that a round starts from, put together from what a run directory holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lottery.foundations.names import canonical
from lottery.foundations.steps import Step
from lottery.runs.layout import REWIND, STATE, TRAINED, round_file, run_directory
from lottery.runs.retraining import Rewind
from lottery.runs.run import Run
from lottery.runs.states import optimizers_at_end, read_state
from lottery.storage.directory import Directory, StorageError


def takes_from_the_end(rewind: Rewind) -> bool:
    """Whether a round takes anything from the optimizers at the end of the round before."""
    return rewind.optimizer == "keep" or rewind.rule == "fine-tune"


def starting_state(directory: Directory, rewind: Rewind, number: int, run: str) -> dict[str, Any]:
    """The rewind point, with what the retraining rule takes from the end of the round before.

    Args:
        directory: a run directory whose round before this one is finished.
        rewind: the run's retraining rule.
        number: 1, 2, ...
        run: the run's id.

    Returns:
        A state that `Fit.begin` takes.

    Raises:
        StorageError: it is missing or damaged; the message says why.
    """
    start = read_state(directory, REWIND, run)
    there = start["optimizer_states"]
    end = optimizers_at_end(directory, number - 1) if takes_from_the_end(rewind) else there
    if rewind.rule != "weights":
        trained = directory.read_tensors(round_file(number - 1, TRAINED))
        start = with_weights(start, trained)
    # learning rates are in the parameter groups
    groups = end if rewind.rule == "fine-tune" else there
    fresh: list[dict[str, Any]] = [{"state": {}} for _ in there]
    moments = {"rewind": there, "keep": end, "fresh": fresh}[rewind.optimizer or "rewind"]
    if moments is not groups:
        start["optimizer_states"] = [_joined(g, m) for g, m in zip(groups, moments, strict=True)]
    return start


def _joined(groups: dict[str, Any], moments: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's state with the parameter groups of one state and the moments of another."""
    if "state" not in groups or "state" not in moments:
        raise StorageError(
            f"the state of an optimizer has {sorted(groups)} in place of torch's 'state' and 'param_groups', so"
            " learning rates and moments cannot come from different places. Rewind both, with rule 'weights' and"
            " optimizer 'rewind'."
        )
    return {**groups, "state": moments["state"]}


def with_weights(state: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """A state with other weights of the module; also in Lightning's state dict, under the module's own names."""
    lightning = {n: weights.get(canonical(n), v) for n, v in state["state_dict"].items()}
    return {**state, "state_dict": lightning, STATE: {**state[STATE], "weights": dict(weights)}}


def check_reached(run: Run, step: Step) -> None:
    """Make sure that round 0, which is finished, came to the rewind point.

    Raises:
        StorageError: it ended before.
    """
    dense = run.summary(0)
    cut_off = dense.epochs <= step.epochs or dense.steps <= step.iterations
    if cut_off and not run_directory(run.path).holds(REWIND):
        raise StorageError(
            f"rewind={str(step)!r} was never reached: round 0 ended after {dense.epochs} epochs and"
            f" {dense.steps} steps. Round 0 is stored in {run.path}; give an earlier rewind point and a new dirpath."
        )
