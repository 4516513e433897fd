"""`lottery plan`: how to spend a budget of epochs, from what a study has measured."""

from __future__ import annotations

import argparse
from pathlib import Path

EPILOG = """\
A one-shot arm in the study tells what fewer rounds cost; without it the plan says
so. What is predicted is validation, by interpolation; a run tells.

examples:
  lottery plan checkpoints/digits_study --epochs 120 --density 0.1
  lottery plan checkpoints/digits_study --epochs 60 --density 0.05 --all
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lottery plan`."""
    add = parser.add_argument
    add("study", type=Path, help="a study's directory")
    add(
        "--epochs",
        type=int,
        required=True,
        metavar="N",
        help="the budget: epochs of all rounds together, dense included",
    )
    add("--density", type=float, required=True, metavar="D", help="the target, kept / prunable")
    add("--seeds", type=int, default=5, metavar="N", help="to confirm it (default: 5)")
    add("--all", action="store_true", help="list every candidate, not the ten best")


def run(known: argparse.Namespace) -> None:
    """Run `lottery plan`."""
    from lottery.studies import Study, planner
    from lottery.text import terminal
    from lottery.text.numbers import percent

    study = Study(known.study)
    tickets = study.compare().arms["ticket"]
    measured = planner.Measured.of_runs(tickets, study.runs_of("one-shot"))
    found = planner.plan(measured, known.epochs, known.density)
    names = ("rounds", "epochs", "in all", "per round", "predicted", "a guess in")
    table = terminal.light_table(names, left=0)
    shown = found.candidates if known.all else found.candidates[:10]
    for way in shown:
        table.add_row(
            str(way.rounds),
            str(way.epochs),
            str(way.total),
            percent(way.amount),
            f"{way.predicted:.4f}",
            ", ".join(way.extrapolated),
        )
    terminal.show(table)
    terminal.show("\n".join(found.sentences(known.seeds, len(study.plan.arms))))
