"""How often claims are false where there is nothing to claim, and true where there is: by simulation."""

import numpy as np
import pandas as pd
import pytest

from lottery.foundations.statistics.paired import Paired, holm, power
from lottery.studies.evidence import Evidence

LEVEL = 0.05
ROUNDS = 12
CONTROLS = 2
TRIALS = 10_000
IMAGE = 1 / 360  # what one test image of digits is worth


def noise(generator, shape, kind):
    """Of standard deviation 1."""
    if kind == "t5":
        return generator.standard_t(5, shape) / np.sqrt(5 / 3)
    return generator.standard_normal(shape)


def at_most(level, trials):
    """What a rate of `level` stays below in 999 of 1000 simulations."""
    return level + 3.1 * np.sqrt(level * (1 - level) / trials)


def differences(seeds, kind, rng=0):
    """Ticket - dense with a true difference of nothing: trials x rounds x seeds; the dense run is shared by all rounds.

    "images": both are numbers of right test images, so that differences are often equal.
    """
    generator = np.random.default_rng(rng)
    dense = noise(generator, (TRIALS, 1, seeds), kind)
    ticket = noise(generator, (TRIALS, ROUNDS, seeds), kind)
    if kind == "images":
        return np.round(ticket) * IMAGE - np.round(dense) * IMAGE
    return 0.003 * (ticket - dense)


@pytest.mark.parametrize("kind", ["normal", "t5", "images"])
@pytest.mark.parametrize("seeds", [3, 5])
def test_a_ticket_at_the_margin_is_rarely_called_matching_or_below(seeds, kind):
    margin = 0.01
    found = Paired(differences(seeds, kind) - margin, rounding=1e-9)
    for p in (found.p_above(-margin), found.p_below(-margin)):
        assert (holm(p) <= LEVEL).any(1).mean() <= at_most(LEVEL, TRIALS)


@pytest.mark.parametrize("kind", ["normal", "t5", "images"])
@pytest.mark.parametrize("seeds", [3, 5])
def test_a_ticket_like_its_controls_rarely_wins_over_any_of_them(seeds, kind):
    generator = np.random.default_rng(1)
    ticket = noise(generator, (TRIALS, 1, ROUNDS, seeds), kind)
    control = noise(generator, (TRIALS, CONTROLS, ROUNDS, seeds), kind)
    if kind == "images":
        ticket, control = np.round(ticket), np.round(control)
    p = Paired(ticket - control).p_above(0.0).reshape(TRIALS, -1)
    assert (holm(p) <= LEVEL).any(1).mean() <= at_most(LEVEL, TRIALS)


def test_without_correction_some_round_would_often_match_falsely():
    p = Paired(differences(5, "normal")).p_above(0.0)
    assert (p <= LEVEL).any(1).mean() > 2 * LEVEL


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_real_effects_are_shown_as_often_as_the_power_analysis_says(seeds):
    generator = np.random.default_rng(2)
    effect, spread, level = 0.01, 0.006, LEVEL / 2
    found = Paired(generator.normal(effect, spread, (TRIALS, seeds)))
    said = power(effect, spread, seeds, level)
    seen = (found.p_above(0.0) <= level).mean()
    assert seen == pytest.approx(said, abs=4 * np.sqrt(0.25 / TRIALS))


def study(generator, seeds, gain_to_dense, gain_to_reinit, rounds=6, spread=0.004):
    """The points of a study, with true differences."""
    rows = []
    for seed in range(seeds):
        dense = 0.9 + generator.normal(0, spread)
        rows.append(("dense", seed, 0, 1.0, dense))
        for round in range(1, rounds + 1):
            ticket = 0.9 + gain_to_dense + generator.normal(0, spread)
            reinit = 0.9 + gain_to_dense - gain_to_reinit + generator.normal(0, spread)
            rows.append(("ticket", seed, round, 0.8**round, ticket))
            rows.append(("reinit", seed, round, 0.8**round, reinit))
    points = pd.DataFrame(rows, columns=["arm", "seed", "round", "density", "value"])
    return points.assign(step=300, reached=300, steps=340)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to_dense", "to_reinit"), [(0.0, 0.0), (-0.01, 0.05)], ids=["no better than reinit", "at the margin below dense"]
)
def test_whole_studies_rarely_find_a_false_ticket(to_dense, to_reinit):
    """That the rate of false winning tickets, from the points of studies on, stays below the level."""
    generator = np.random.default_rng(3)
    trials = 300
    false = sum(Evidence(study(generator, 5, to_dense, to_reinit)).winning.any() for _ in range(trials))
    assert false / trials <= at_most(LEVEL, trials)


@pytest.mark.slow
def test_winning_tickets_are_found_with_the_seeds_that_a_first_study_asks_for():
    """That `seeds_needed` of small studies, taken together, are about what the true effects need."""
    generator = np.random.default_rng(4)
    asked = []
    for _ in range(25):
        small = Evidence(study(generator, 4, 0.0, 0.012, rounds=2)).verdict()
        asked.append(small.seeds_needed or 50)
    enough = int(np.median(asked))
    found = [Evidence(study(generator, enough, 0.0, 0.012, rounds=2)).winning.any() for _ in range(100)]
    assert np.mean(found) >= 0.6
