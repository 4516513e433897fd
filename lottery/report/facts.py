"""What the runs of an arm are: settings, versions, status."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lottery.runs.differences import differences
from lottery.runs.run import Run
from lottery.text.numbers import percent

Fact = tuple[str, str]

_OF_A_SEED = {"seed", "seed_everything"}
_OF_THE_TRAINER = (
    "max_epochs",
    "max_steps",
    "precision",
    "devices",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "limit_train_batches",
)
_AFTER_PRUNING = {
    "weights": "the weights that stay are rewound and trained again",
    "learning-rate": "the weights that stay are trained again with the same learning rates",
    "fine-tune": "the weights that stay are trained on",
}


def opening(runs: Sequence[Run]) -> str:
    """What was done, in a sentence."""
    settings = runs[0].info.settings
    then = _AFTER_PRUNING.get(settings.rewind.rule, "the rest is trained again")
    last = (run.summary(run.rounds[-1]) for run in runs if run.rounds)
    done = max(last, key=lambda summary: summary.round, default=None)
    sentence = (
        f"Lottery tickets in {settings.module or 'a network'}: the network is trained, some of its weights are"
        f" pruned, {then}, round after round."
    )
    if done is None:
        return sentence
    rounds = f"{done.round + 1} round{'s' if done.round else ''} finished"
    return f"{sentence} {rounds}, {percent(done.density)} of {done.prunable:,} prunable weights left in the last."


def notes(runs: Sequence[Run]) -> list[str]:
    """What a reader must know before believing the numbers."""
    found = []
    for run in runs:
        status, number = run.status, run.in_progress
        if status == "running":
            doing = "" if number is None else f" (round {number} is in progress)"
            found.append(f"{run.path} is still being written{doing}: report again later for the rest.")
        elif status == "interrupted":
            found.append(f"{run.path} was interrupted in round {number}: run again what began it to go on.")
    seeds = [run.info.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        found.append("Some of these runs have the same seed: they are not independent, and intervals are too narrow.")
    differing = _differing([run.info.settings.stored for run in runs])
    if differing:
        found.append(f"These runs differ in more than their seeds: {', '.join(differing)}.")
    return found


def facts(runs: Sequence[Run]) -> list[Fact]:
    """Name and value of what was set and used; of several runs those of the first."""
    info = runs[0].info
    settings = info.settings
    found = [("run" if len(runs) == 1 else f"run {number}", _identity(run)) for number, run in enumerate(runs)]
    found += [
        ("module", " ".join([settings.module or "", _pairs(settings.hyperparameters)]).strip()),
        (
            "prunable",
            f"{len(settings.parameters)} parameters: "
            + ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in settings.parameters.items()),
        ),
        ("pruning", _pairs(settings.pruning)),
        ("rewind", _pairs(asdict(settings.rewind))),
        ("monitor", " ".join(map(str, settings.monitor)) if settings.monitor[0] else "none"),
        ("optimizers", "; ".join(map(_optimizer, settings.optimizers))),
        ("schedules", "; ".join(map(_named, settings.lr_schedulers))),
        ("data", _data(settings.data)),
        (
            "Trainer",
            _pairs(
                {
                    name: settings.stored.get(name)
                    for name in _OF_THE_TRAINER
                    if settings.stored.get(name) != -1  # no limit
                }
            ),
        ),
        ("versions", _pairs(info.versions)),
        ("time", _time(runs)),
    ]
    return [(name, value) for name, value in found if value]


def _identity(run: Run) -> str:
    seed = run.info.settings.seed_everything
    given = "" if seed is None else f", seed_everything {seed}"
    return f"{run.path}: {run.status}, id {run.info.id}, seed {run.info.seed}{given}"


def _time(runs: Sequence[Run]) -> str:
    seconds = sum(run.summary(number).seconds for run in runs for number in run.rounds)
    if seconds < 120:
        return f"{seconds:.0f} s of training"
    return f"{seconds / 60:.0f} min of training" if seconds < 7200 else f"{seconds / 3600:.1f} h of training"


def _named(described: object) -> str:
    """An optimizer or scheduler: its class, then its arguments; the class alone where no more was recorded."""
    if not isinstance(described, Mapping):
        return str(described)
    if "name" not in described:
        return _pairs(described)
    rest = {k: v for k, v in described.items() if k not in ("name", "module")}
    return f"{described['name']} {_pairs(rest)}".strip()


def _optimizer(described: Mapping[str, Any]) -> str:
    """An optimizer: its class and arguments; parameter groups where there are several, each with what is its own."""
    rest = dict(described)
    groups = [{k: v for k, v in group.items() if k not in rest or rest[k] != v} for group in rest.pop("groups", [])]
    if len(groups) > 1:
        counted = [{**g, "parameters": len(g["parameters"])} for g in groups]
        return _named({**rest, "groups": counted})
    own = {k: v for g in groups for k, v in g.items() if k != "parameters"}
    return _named({**rest, **own})


def _data(data: object) -> str:
    if not isinstance(data, Mapping):
        return "" if data is None else str(data)
    return f"{str(data.get('_class_path', '')).rpartition('.')[2]} {_pairs(data)}".strip()


def _pairs(values: object) -> str:
    """Names and values, without those that say nothing: None, False and what is empty."""
    if not isinstance(values, Mapping):
        return "" if values is None else str(values)
    said = {
        key: value
        for key, value in values.items()
        if not str(key).startswith("_") and value not in (None, False, "", [], {})
    }
    return ", ".join(f"{key} {_value(value)}" for key, value in said.items())


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"({_named(value)})"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _differing(settings: Sequence[Mapping[str, object]]) -> list[str]:
    """The sections of settings in which runs differ; runs of several versions are compared in what both recorded."""
    first, *rest = ({name: value for name, value in one.items() if name not in _OF_A_SEED} for one in settings)
    found: dict[str, None] = {}
    for one in rest:
        there, back = [*differences(first, one)], [*differences(one, first)]
        both = {d.name for d in there} & {d.name for d in back}
        matter = (d.name for d in (*there, *back) if d.matters and d.name in both)
        found |= dict.fromkeys(re.split(r"[.\[]", name)[0] for name in matter)
    return list(found)
