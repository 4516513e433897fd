"""`lottery study`: a recipe over seeds and controls, and what that says of its tickets."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.cli import judging, recipe_arguments
from lottery.studies import controls
from lottery.text import terminal

if TYPE_CHECKING:
    from lottery.studies import Study
    from lottery.studies.engines import Engine
    from lottery.studies.plan import Plan

USAGE = "lottery study RECIPE|STUDY [OPTION ...] [--SETTING VALUE ...]"

DESCRIPTION = """\
Tells whether a recipe's tickets are winning tickets. For each seed the recipe is
run; then controls are trained in the place of its rounds, each from the same point,
on the same random draws and in the same order of the data, so that only mask or
weights differ. What is found is said in words, with its numbers.

Stop it at any time: the same command goes on. More seeds, controls or rounds are
added to a study by asking for more in the same directory. Settings such as
--trainer.max_epochs change the recipe."""

EPILOG = """\
controls:
{controls}

examples:
  lottery study recipes/digits.yaml
  lottery study recipes/digits.yaml --seeds 10 --controls reinit,random,signs,one-shot
  lottery study recipes/digits.yaml --rounds 4,8,12 --trainer.max_epochs 10 \\
      --dirpath checkpoints/short_study
  lottery study checkpoints/digits_study           go on with a study; the verdict
  lottery study recipes/digits.yaml --dry-run      what would be trained
  lottery study recipes/digits.yaml --engine ray --address auto --gpus 0.25
  lottery study recipes/digits.yaml --engine slurm --partition gpu --gpus 1
"""


def study(arguments: list[str]) -> int:
    """Run `lottery study` with its arguments; returns the exit status."""
    parser = _parser()
    if (status := recipe_arguments.help_status(parser, arguments)) is not None:
        return status
    source, *options = arguments
    known, overrides = parser.parse_known_args(options)
    from lottery.studies import Study
    from lottery.studies.driver import check_attempts, standing
    from lottery.studies.progress_table import board, table
    from lottery.training.recipes import quieten

    quieten()
    check_attempts(known.attempts)
    path, plan = _planned(source, known, overrides)
    command = f"lottery study {shlex.join(arguments)}"
    if known.dry_run:
        terminal.show(table(standing(path, plan)))
        return 0
    plan.write(path)
    found = Study(path)
    engine = _engine(known, found)
    terminal.show(f"{found.path}, on {engine.slots} at a time")
    try:
        with board() as show:
            progress = found.run(engine, attempts=known.attempts, show=show)
    except KeyboardInterrupt:
        print(f"\nstopped. The same command goes on:\n  {command}", file=sys.stderr)
        return 130
    for cell, error in progress.failed.items():
        log = found.path / f"{cell.key}.log"
        terminal.show(f"failed: {cell.key}: {error}")
        terminal.show(f"  see {log}" if log.exists() else "  it was not begun")
    if progress.failed:
        print(f"\n{len(progress.failed)} trainings failed. The same command tries them again:\n  {command}")
    if found.begun:
        _say_what_was_found(found)
    return 1 if progress.failed else 0


def _planned(source: str, known: argparse.Namespace, overrides: list[str]) -> tuple[Path, Plan]:
    """The directory of the study that is asked for, and its plan."""
    from lottery.studies import Study, planned

    if Study.is_at(source):
        given = (known.seeds, known.controls, known.rounds, known.dirpath, known.margin, known.level)
        if overrides or any(value is not None for value in given):
            raise ValueError(
                f"{source} is a study, which has its settings: leave them out to go on with it, or name the recipe and"
                f" --dirpath {source} to add to it"
            )
        return Path(source), Study(source).plan
    dirpath = known.dirpath or Path("checkpoints") / f"{Path(source).stem}_study"
    settings = ("seeds", "controls", "rounds", "margin", "level")
    chosen = {name: value for name in settings if (value := getattr(known, name)) is not None}
    return dirpath, planned(source, dirpath, overrides=overrides, **chosen)


def _engine(known: argparse.Namespace, found: Study) -> Engine:
    if known.engine == "ray":
        from lottery.studies.engines.ray import RayEngine

        return RayEngine(known.address, known.cpus, known.gpus)
    if known.engine == "slurm":
        from lottery.studies.engines.slurm import SlurmEngine

        if known.gpus != int(known.gpus) or known.cpus != int(known.cpus):
            raise ValueError(
                f"--cpus {known.cpus:g} --gpus {known.gpus:g}: SLURM gives whole ones; --engine ray shares them"
            )
        return SlurmEngine(
            found.path,
            partition=known.partition,
            time=known.time,
            cpus=int(known.cpus),
            gpus=int(known.gpus),
            slots=known.jobs or 100,
        )
    from lottery.studies.engines import LocalEngine

    return LocalEngine(known.jobs, gpus=known.gpus > 0)


def _say_what_was_found(found: Study) -> None:
    terminal.show("")
    terminal.show(str(found.evidence().verdict()))
    path = shlex.quote(str(found.path))
    lines = [f"lottery inspect {path}", f"lottery report {path}"]
    print("\nnext:", *lines, sep="\n  ")


def _parser() -> argparse.ArgumentParser:
    summaries = controls.available()
    width = max(map(len, summaries))
    listed = "\n".join(f"  {name:<{width}}  {does}" for name, does in summaries.items())
    parser = recipe_arguments.parser("study", USAGE, DESCRIPTION, EPILOG.format(controls=listed))
    add = parser.add_argument
    add("--seeds", type=_seeds, metavar="N", help="how many, or which: 0,1,7 (default: 5)")
    add("--controls", type=_names, metavar="A,B", help="the arms beside the ticket (default: reinit,random,signs)")
    add("--rounds", type=_numbers, metavar="R,R", help="the rounds that are compared (default: six, evenly spread)")
    add("--dirpath", type=Path, metavar="DIR", help="the study's directory (default: checkpoints/RECIPE_study)")
    judging.add_arguments(parser, default="the study's; of a new one 0.01 of accuracy, and 0.05")
    add("--attempts", type=int, default=3, metavar="N", help="how often a training is tried that fails (default: 3)")
    add("--dry-run", action="store_true", help="show what would be trained")
    where = parser.add_argument_group("where it is trained")
    add = where.add_argument
    add(
        "--engine",
        choices=("local", "ray", "slurm"),
        default="local",
        help="processes of this machine, a Ray cluster or SLURM jobs (default: local)",
    )
    add(
        "--jobs",
        type=int,
        metavar="N",
        help="how many trainings at once (default: one per core, or per GPU; slurm: 100 in the queue)",
    )
    add("--cpus", type=float, default=1.0, metavar="N", help="ray, slurm: cores for each training (default: 1)")
    add(
        "--gpus",
        type=float,
        default=0.0,
        metavar="N",
        help="GPUs for each training; with ray also a fraction (default: 0)",
    )
    add("--address", help="ray: the cluster, such as auto or host:6379 (default: one of this machine's own)")
    add("--partition", help="slurm: the partition")
    add("--time", default="1h", help="slurm: the longest that a training may take (default: 1h)")
    return parser


def _seeds(text: str) -> int | list[int]:
    return _numbers(text) if "," in text else int(text)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _names(text: str) -> Sequence[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
