"""Paired statistics against scipy and statsmodels, and what they do where a t test cannot go."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from lottery.foundations.statistics.family import family
from lottery.foundations.statistics.paired import MOST_SEEDS, Paired, holm, power, seeds_for

numbers = st.floats(-1, 1, width=32)
p_values = st.lists(st.floats(1e-12, 1), min_size=1, max_size=40)


@given(arrays(float, st.tuples(st.integers(1, 4), st.integers(2, 8)), elements=numbers), st.floats(-0.1, 0.1))
def test_p_values_and_intervals_are_those_of_scipy(differences, bound):
    differences = differences[np.ptp(differences, axis=1) > 1e-3]
    assume(len(differences))
    found = Paired(differences)
    for mine, side in ((found.p_above(bound), "greater"), (found.p_below(bound), "less")):
        its = stats.ttest_1samp(differences, bound, axis=1, alternative=side).pvalue
        np.testing.assert_allclose(mine, its, rtol=1e-6, atol=1e-12)
    its = stats.ttest_1samp(differences, 0.0, axis=1).confidence_interval(0.95)
    for mine, end in zip(found.interval(0.05), its, strict=True):
        np.testing.assert_allclose(mine, end, atol=1e-9)


def test_a_known_case_equals_the_paired_t_test_of_scipy():
    ticket = np.array([0.971, 0.968, 0.974, 0.969, 0.975])
    control = np.array([0.957, 0.961, 0.955, 0.963, 0.958])
    known = stats.ttest_rel(ticket, control, alternative="greater")
    assert Paired(ticket - control).p_above(0.0) == pytest.approx(known.pvalue)
    assert known.pvalue == pytest.approx(0.00429, abs=1e-5)


@given(arrays(float, 6, elements=numbers), st.sets(st.integers(0, 5), max_size=4))
def test_seeds_without_a_pair_are_as_if_they_had_not_been_run(differences, absent):
    gone = sorted(absent)
    holes = differences.copy()
    holes[gone] = np.nan
    rest = np.delete(differences, gone)
    mine, its = Paired(holes, 1e-9), Paired(rest, 1e-9)
    assert mine.seeds == its.seeds == len(rest)
    for a, b in ((mine.mean, its.mean), (mine.p_above(0.1), its.p_above(0.1)), (mine.interval(), its.interval())):
        np.testing.assert_allclose(a, b, atol=1e-12)


@given(st.integers(2, 10), st.floats(1e-3, 1))
def test_equal_differences_are_judged_by_signs_alone(seeds, difference):
    found = Paired(np.full(seeds, difference), rounding=1e-9)
    assert found.spread == 0
    assert np.isnan(found.interval()).all()
    assert found.p_above(0.0) == 0.5**seeds
    assert found.p_below(0.0) == 1
    assert found.p_above(difference) == found.p_below(difference) == 1


def test_differences_within_rounding_are_equal():
    single = np.array([0.97, 0.86, 0.71], dtype=np.float32).astype(float)
    lower = np.array([0.93, 0.82, 0.67], dtype=np.float32).astype(float)
    assert np.ptp(single - lower) > 0
    assert Paired(single - lower, rounding=1e-6).spread == 0
    assert Paired(single - lower).spread > 0


def test_one_seed_or_none_is_never_significant():
    found = Paired(np.array([[0.5, np.nan], [np.nan, np.nan]]))
    assert found.seeds.tolist() == [1, 0]
    assert found.mean[0] == 0.5
    assert np.isnan(found.mean[1])
    assert np.isnan(found.p_above(0.0)).all()
    assert np.isnan(found.interval()).all()


@settings(max_examples=10, deadline=None)
@given(p_values)
def test_holm_is_that_of_statsmodels(p):
    rejected, adjusted, *_ = multipletests(p, alpha=0.05, method="holm")
    np.testing.assert_allclose(holm(p), adjusted, rtol=1e-12)
    assert np.array_equal(holm(p) <= 0.05, rejected)


@given(p_values, st.integers(1, 5))
def test_what_cannot_be_tested_counts_as_a_member_of_its_family(p, more):
    found = holm([*p, *[np.nan] * more])
    np.testing.assert_allclose(found[: len(p)], holm([*p, *[1.0] * more])[: len(p)])
    assert np.isnan(found[len(p) :]).all()


@given(arrays(float, (3, 5), elements=st.floats(0, 1)))
def test_holm_takes_each_family_of_many_alone(p):
    np.testing.assert_array_equal(holm(p), [holm(row) for row in p])


def test_what_was_never_asked_is_no_member_of_its_family():
    p = {"a": np.array([0.01, 0.02]), "b": np.array([0.03, np.nan])}
    asked = {"a": np.array([True, True]), "b": np.array([True, False])}
    found = family(p, asked, level=0.05)
    together = holm([0.01, 0.02, 0.03])
    np.testing.assert_array_equal(found["a"].adjusted, together[:2])
    assert found["b"].adjusted[0] == together[2]
    assert found["a"].size == 3
    assert not found["b"].shown[1]


def test_the_next_level_is_what_holm_would_allow_the_next_claim():
    p = {"a": np.array([0.001, 0.04, 0.04, 0.5])}
    found = family(p, {"a": np.ones(4, dtype=bool)}, level=0.05)["a"]
    assert found.shown.tolist() == [True, False, False, False]
    assert found.next_level == pytest.approx(0.05 / 3)
    p["a"][1] = found.next_level
    assert family(p, {"a": np.ones(4, dtype=bool)}, level=0.05)["a"].shown[1]


@settings(max_examples=50)
@given(st.floats(0.3, 3), st.integers(2, 40), st.sampled_from([0.05, 0.05 / 12]))
def test_power_is_that_of_statsmodels(effect, seeds, level):
    known = TTestPower().power(effect, seeds, level, alternative="larger")
    assert power(effect * 0.01, 0.01, seeds, level) == pytest.approx(known, abs=1e-6)


@settings(max_examples=50)
@given(st.floats(0.45, 5), st.sampled_from([0.05, 0.05 / 12]))
def test_as_many_seeds_are_proposed_as_reach_the_power_and_no_more(effect, level):
    found = seeds_for(effect, 1.0, level)
    if found is None:
        assert power(effect, 1.0, MOST_SEEDS, level) < 0.8
    else:
        assert power(effect, 1.0, found, level) >= 0.8
        assert found == 2 or power(effect, 1.0, found - 1, level) < 0.8


def test_no_number_of_seeds_shows_an_effect_of_the_wrong_sign_or_of_unknown_spread():
    assert seeds_for(-0.1, 0.01, 0.05) is None
    assert seeds_for(0.0, 0.01, 0.05) is None
    assert seeds_for(0.1, float("nan"), 0.05) is None


def test_equal_differences_need_the_seeds_of_the_sign_test():
    assert seeds_for(0.1, 0.0, 0.05) == 5
    assert Paired(np.full(5, 0.1)).p_above(0.0) <= 0.05
