"""`python -m tests.faults`: inject faults by hand."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults.campaign import Outcome, campaign
from faults.layer import KINDS
from faults.runs import RUNS


def table(outcome: Outcome) -> str:
    """Faults by kind of run and of fault."""
    rows = [["", *KINDS, "all"]]
    for run in RUNS:
        counts = [outcome.injected[run, kind] for kind in KINDS]
        rows.append([run, *map(str, counts), str(sum(counts))])
    sums = [sum(outcome.injected[run, kind] for run in RUNS) for kind in KINDS]
    rows.append(["all", *map(str, sums), str(outcome.total)])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|---|{'--:|' * (len(rows[0]) - 1)}", *lines[1:]])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="how many faults (default: 200)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="of what happens when")
    parser.add_argument("--minutes", type=float, default=1e9, help="when to end in any case")
    parser.add_argument("--runs", nargs="*", default=list(RUNS), choices=list(RUNS), help="kinds of run")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS), help="kinds of fault")
    known = parser.parse_args()
    print(f"seed {known.seed}", flush=True)
    outcome, folder = Outcome(), Path(tempfile.mkdtemp(prefix="faults-"))
    for outcome in campaign(folder, known.runs, known.count, known.seed, tuple(known.kinds), known.minutes):
        print(f"\r{outcome.total} faults, {len(outcome.wrong)} wrong", end="", flush=True, file=sys.stderr)
    print(f"\n{table(outcome)}\n")
    print("\n".join(outcome.wrong) or "every run ended with the same bits; nothing was left behind")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
