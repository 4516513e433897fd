"""What the limits of a Trainer leave of a round: known before it is trained."""

from __future__ import annotations

import math

from lottery.foundations.steps import Step
from lottery.text import terminal
from lottery.training.lightning import Fit
from lottery.training.options import Options


def check_round(fit: Fit, options: Options, step: Step, *, new: bool) -> None:
    """Make sure that a round trains something, and comes past the rewind point.

    Args:
        fit: the fit.
        options: the callback's.
        step: of the rewind point.
        new: whether the run begins; of one that goes on, that is known.

    Raises:
        ValueError: it does not; the message says why.
    """
    if nothing := fit.trains_nothing():
        raise ValueError(
            f"Trainer({nothing}) trains nothing, so that rounds would prune a network that has learned nothing. Let a"
            " round train, or prune once without training: `lottery prune`."
        )
    if fit.never_ends():
        terminal.show(
            "warning: nothing that is known here ends a training (max_epochs=-1, no max_steps, no max_time, no"
            " EarlyStopping): round 0 goes on until something sets trainer.should_stop"
        )
    if new and step.epochs + bool(step.iterations) > fit.averages_from():
        length = fit.steps_in_an_epoch()
        if step.epochs + step.iterations / length > fit.averages_from():
            raise ValueError(
                f"rewind={str(step)!r} lies where StochasticWeightAveraging averages already (from epoch"
                f" {fit.averages_from():g} on), whose state cannot be stored. Rewind to an earlier step, or begin to"
                " average later (swa_epoch_start)."
            )
    points = [("rewind", step), *(("snapshots", s) for s in options.snapshots)]
    in_steps = [
        (name, point)
        for name, point in points
        if point.iterations or (point.epochs and fit.trainer.max_steps >= 0) or point.epochs >= fit.max_epochs >= 0
    ]
    if not new or not (in_steps or options.rewind.rule == "fine-tune"):
        return
    length = fit.steps_in_an_epoch()
    if options.rewind.rule == "fine-tune" and max(fit.final_rates(length) or [1.0]) < 1e-5:
        raise ValueError(
            "rule='fine-tune' trains on at the learning rate that a round ends with, which the schedule of this Trainer"
            " brings to 0: nothing would be learned. End the schedule higher (such as eta_min=... of a cosine), or use"
            " rule='learning-rate', which repeats the schedule."
        )
    limits = [limit for limit in (fit.max_epochs * length, fit.trainer.max_steps) if limit >= 0]
    end = min(limits, default=math.inf)
    for name, point in in_steps:
        if point.epochs * length + point.iterations >= end:
            raise ValueError(
                f"{name}={str(point)!r} is never reached: a round of this Trainer has {end:g} steps ({length:g} in an"
                " epoch). Take an earlier step."
            )
    if step.iterations % length and (loaders := fit.data.persistent()):
        raise ValueError(
            f"rewind={str(step)!r} lies inside an epoch, and {', '.join(loaders)} has persistent workers, which cannot"
            " be put back there. Rewind to whole epochs, or use persistent_workers=False."
        )
