"""`lottery inspect`: a study, a run, the ticket of a round, or a ticket file."""

from __future__ import annotations

import argparse
from pathlib import Path

from lottery.cli import judging, listing, views
from lottery.runs.run import Run
from lottery.text import terminal
from lottery.tickets.ticket import Ticket

EPILOG = """\
A narrow terminal shows fewer controls of a study.

examples:
  lottery inspect checkpoints/digits               density and metrics of each round
  lottery inspect checkpoints/digits --round 7     the ticket of round 7, layer by layer
  lottery inspect checkpoints/digits_study         what is done of a study, and its verdict
  lottery inspect digits-r7.ticket                 a ticket file: layers, origin
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a study, a run directory or a ticket file")
    parser.add_argument("--round", type=int, help="show the ticket of this round")
    judging.add_arguments(parser)
    parser.add_argument("--now", action="store_true", help="of a study: judge the seeds that are complete, a look")


def run(known: argparse.Namespace) -> None:
    path, number = known.path, known.round
    if not listing.is_study(path):
        judging.check_unused(known)
    if path.is_file() or (path.suffix == ".ticket" and not path.exists()):
        if number is not None:
            raise ValueError(f"{path} is a ticket file, which holds one round: leave out --round {number}")
        view = views.ticket_view(Ticket.load(path))
    elif listing.is_study(path):
        from lottery.studies import Study

        if number is not None:
            raise ValueError(
                f"{path} is a study, which has a ticket of round {number} for each seed: name a run of it, as in"
                f" `lottery inspect {path / 'ticket' / 'seed-0'} --round {number}`"
            )
        view = views.study_view(Study(path), margin=known.margin, level=known.level, now=known.now)
    elif number is not None:
        view = views.ticket_view(Run(path).ticket(number))
    else:
        view = views.run_view(Run(path))
    terminal.show(view)
