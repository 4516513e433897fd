"""How often claims are false where there is nothing to claim, and true where there is: by simulation.

`tests/evidence_rates.py` has the simulations; run large, it writes the tables of `docs/statistics.md`.
"""

from __future__ import annotations

import evidence_rates as rates
import numpy as np
import pandas as pd
import pytest
from evidence_rates import LEVEL, MARGIN, Truth

from lottery.studies.evidence import Evidence

STUDIES = 2000


def at_most(level: float, studies: int = STUDIES) -> float:
    """What a rate of `level` stays below in 999 of 1000 simulations."""
    return level + 3.1 * np.sqrt(level * (1 - level) / studies)


@pytest.mark.parametrize("failing", [0.0, 0.1])
@pytest.mark.parametrize("looks", [1, 2])
def test_what_is_simulated_is_what_evidence_says(failing: float, looks: int) -> None:
    """Study by study, claim by claim."""
    truth = Truth(np.array([1.0, -0.5, -2.0, -3.0]), np.array([[0.0, 1.0, 2.0, 3.0]] * 2), failing=failing)
    dense, control = truth.draw(np.random.default_rng(0), 12, 8)
    groups = [range(8)] if looks == 1 else [range(5), range(5, 8)]
    found = rates.judge(dense, control, [np.array(group) for group in groups])
    for study in range(12):
        rows = [("dense", seed, 0, 0.0) for seed in range(8)]
        for place, seed in np.ndindex(4, 8):
            failed = np.isneginf(dense[study, place, seed])
            ticket = np.nan if failed else dense[study, place, seed]
            rows.append(("ticket", seed, place + 1, ticket))
            for number, name in enumerate(("reinit", "random")):
                rows.append((name, seed, place + 1, 0.0 if failed else ticket - control[number, study, place, seed]))
        points = pd.DataFrame(rows, columns=["arm", "seed", "round", "value"])
        evidence = Evidence(points.assign(density=0.8 ** points["round"]), MARGIN, LEVEL, metric="score", looks=groups)
        for name in ("winning", "matching", "better", "equalled"):
            shown = getattr(evidence, name)
            np.testing.assert_array_equal(getattr(shown, "shown", shown), getattr(found, name)[study], name)
        for name in ("below", "worse"):
            np.testing.assert_array_equal(getattr(evidence, name).shown, getattr(found, name)[study], name)
        for number, name in enumerate(("reinit", "random")):
            np.testing.assert_array_equal(evidence.wins[name].shown, found.wins[number, study])
            np.testing.assert_array_equal(evidence.close[name].shown, found.close[number, study])


@pytest.mark.parametrize("seeds", [3, 8])
@pytest.mark.parametrize("kind", list(rates.KINDS))
def test_no_kind_of_claim_is_false_more_often_than_it_says(kind: str, seeds: int) -> None:
    truth = rates.KINDS[kind](6)
    for each in (truth, *([] if truth.failing else [rates.other_way(truth)])):
        found = rates.false_claims(each, seeds, STUDIES, np.random.default_rng(seeds))
        assert max(found.values()) <= at_most(LEVEL), found


@pytest.mark.parametrize("match", [True, False])
def test_a_study_that_is_grown_until_it_shows_something_errs_no_more(match: bool) -> None:
    truth = rates.at_the_edge(6) if match else rates.halves(6)
    grown = [rates.grown(truth, 5, (3, 10), 1000, np.random.default_rng(0), once, match) for once in (False, True)]
    assert grown[0] <= at_most(LEVEL, 1000) < grown[1]


def test_a_round_with_a_failed_ticket_never_wins() -> None:
    truth = Truth(np.full(6, 4.0), np.full((2, 6), 8.0), failing=0.2)
    dense, control = truth.draw(np.random.default_rng(0), STUDIES, 5)
    found, failed = rates.judge(dense, control), np.isneginf(dense).any(-1)
    assert not (found.winning & failed).any()
    assert found.winning[~failed].mean() > 0.5


def test_steps_of_one_process_have_a_ratio_of_one() -> None:
    lines = list(rates.table_of_speed(800))
    same, slower = (line.split(" | ") for line in lines[2:4])
    assert float(same[1]) == pytest.approx(1, abs=0.02) and float(slower[1]) == pytest.approx(1.3, abs=0.05)
    assert min(map(float, same[2:6])) > 92


def test_winning_tickets_are_found_as_often_as_with_a_family_for_each_kind_of_claim() -> None:
    truth = Truth(np.zeros(6), np.full((2, 6), 1.0))
    dense, control = truth.draw(np.random.default_rng(0), STUDIES, 8)
    matching, better = rates.before(dense, control)
    found = rates.judge(dense, control)
    assert found.winning.any(1).mean() > (matching & better).any(1).mean() - 0.03
    assert found.matching.sum(1).mean() > matching.sum(1).mean() - 0.05


@pytest.mark.slow
@pytest.mark.parametrize("pilot", [3, 5, 8])
def test_what_is_called_certain_or_hopeless_mostly_is(pilot: int) -> None:
    """Between the two forecasts are too hopeful, as docs/statistics.md says."""
    said, seen, _ = rates.forecasts(pilot, 36, 30, np.random.default_rng(pilot))
    assert seen[:, :3][said[:, :3] < 0.1].mean() < 0.05
    assert seen[:, :3][said[:, :3] > 0.9].mean() > 0.7


def test_a_table_takes_the_place_that_is_marked_for_it() -> None:
    page = "a\n<!-- rates: power -->\nold\n<!-- end: power -->\nb\n"
    once = rates.written(page, "power", ["new"])
    assert once == "a\n<!-- rates: power -->\nnew\n<!-- end: power -->\nb\n" == rates.written(once, "power", ["new"])
