"""Ten studies whose truth is known, and what the verdict says of them: a part of `docs/statistics.md`.

cd tests && python -m ten_truths    writes it
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from made_up import points

from lottery.studies.evidence import Evidence

PAGE = Path(__file__).parents[1] / "docs" / "statistics.md"
WON = {"reinit": [0.05] * 6, "random": [0.05] * 6}
LIKE = {"reinit": [0.0] * 6, "random": [0.0] * 6}


@dataclass(frozen=True)
class Case:
    """A truth in words, and a study of it."""

    truth: str
    frame: pd.DataFrame
    options: dict[str, Any]

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.frame, **self.options)


def _case(truth: str, gains: list[float], controls: dict[str, Any], options: Any = None, **made: Any) -> Case:
    return Case(truth, points(gains, controls, **{"noise": 0.003, **made}), options or {})


def _with(case: Case, places: list[tuple[int, int]], value: float) -> Case:
    """Some trainings of the ticket, by seed and round, with another value."""
    frame = case.frame.copy()
    for seed, number in places:
        frame.loc[(frame["arm"] == "ticket") & (frame["seed"] == seed) & (frame["round"] == number), "value"] = value
    return Case(case.truth, frame, case.options)


def cases() -> Iterator[Case]:
    """Noise of 0.3 points in each training and five seeds, where nothing else is said."""
    falling = [0.0, 0.0, 0.0, 0.0, -0.02, -0.05]
    growing = {"reinit": [0.0, 0.02, 0.03, 0.04, 0.05, 0.05], "random": [0.03] * 6}
    yield _case(
        "As good as dense in rounds 1 to 4, then 2 and 5 points worse; fresh weights do as well in round 1 only.",
        falling,
        growing,
    )
    yield _case("As good as dense, and so are fresh weights and random masks: there is no ticket.", [0.0] * 6, LIKE)
    yield _case(
        "As good as dense and 5 points over reinit; masks of another rule are just as good.",
        [0.0] * 6,
        {"reinit": [0.05] * 6, "random-erk": [0.0] * 6},
    )
    yield _case("Half a point worse than dense, and 5 points over both controls.", [-0.005] * 6, WON, noise=0.001)
    yield _case("Five points worse than dense in all rounds, and 5 points over both controls.", [-0.05] * 6, WON)
    winner = _case("A winning ticket, of whose 30 trainings two ended 20 points lower.", [0.0] * 6, WON)
    yield _with(winner, [(1, 2), (3, 6)], 0.7)
    winner = _case("A winning ticket whose training diverged with seed 2 in round 3.", [0.0] * 6, WON)
    yield _with(winner, [(2, 3)], np.nan)
    noisy = {"reinit": [0.02] * 6, "random": [0.02] * 6}
    yield _case(
        "A winning ticket, 2 points over controls; three seeds with 1.5 points of noise.",
        [0.0] * 6,
        noisy,
        seeds=3,
        noise=0.015,
    )
    yield _case("A winning ticket; only fresh weights were trained beside it.", [0.0] * 6, {"reinit": [0.05] * 6})
    yield _case(
        "No ticket, as in the second; five seeds were looked at, then five more.",
        [0.0] * 6,
        LIKE,
        {"looks": [range(5), range(5, 10)]},
        seeds=10,
    )


def text() -> str:
    """Each truth, and the verdict without the sentences that all have."""
    parts = []
    for number, case in enumerate(cases(), 1):
        verdict = case.evidence.verdict()
        said = [s for s in verdict.sentences if not s.startswith(("Measured", "This is look", "Steps to"))]
        lines = "\n".join(f"> {sentence}" for sentence in [f"**{verdict.headline}**", *said])
        parts.append(f"{number}. *{case.truth}*\n\n" + lines.replace("\n>", "\n>\n>"))
    return "\n\n".join(parts)


if __name__ == "__main__":
    from evidence_rates import written

    PAGE.write_text(written(PAGE.read_text(), "ten truths", [text()]))
