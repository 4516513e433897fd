"""Paired statistics against scipy and statsmodels, and what they do where a t test cannot go."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lottery.foundations.statistics.family import holm, in_order
from lottery.foundations.statistics.looks import combined, counted, share
from lottery.foundations.statistics.paired import Paired
from lottery.foundations.statistics.shares import share_interval

numbers = st.floats(-1, 1, width=32)
p_values = st.lists(st.floats(1e-12, 1), min_size=1, max_size=40)


@given(arrays(float, st.tuples(st.integers(1, 4), st.integers(2, 8)), elements=numbers), st.floats(-0.1, 0.1))
def test_p_values_and_intervals_are_those_of_scipy(differences, bound):
    differences = differences[np.ptp(differences, axis=1) > 1e-3]
    assume(len(differences))
    found = Paired(differences)
    for mine, side in ((found.p_above(bound), "greater"), (found.p_below(bound), "less")):
        its = stats.ttest_1samp(differences, bound, axis=1, alternative=side).pvalue
        few = np.full_like(its, np.nan) if differences.shape[1] < 3 else its
        np.testing.assert_allclose(mine, few, rtol=1e-6, atol=1e-12)
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
    if seeds < 3:
        assert np.isnan(found.p_above(0.0))
        return
    assert found.p_above(0.0) == 0.5**seeds
    assert found.p_below(0.0) == 1
    assert found.p_above(difference) == found.p_below(difference) == 1


def test_differences_within_rounding_are_equal():
    single = np.array([0.97, 0.86, 0.71], dtype=np.float32).astype(float)
    lower = np.array([0.93, 0.82, 0.67], dtype=np.float32).astype(float)
    assert np.ptp(single - lower) > 0
    assert Paired(single - lower, rounding=1e-6).spread == 0
    assert Paired(single - lower).spread > 0


def test_two_seeds_show_nothing():
    assert np.isnan(Paired(np.array([0.5, 0.501])).p_above(0.0))


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


@given(p_values)
def test_in_a_fixed_order_the_first_that_fails_ends_the_family(p):
    shown = in_order(p) <= 0.3
    failing = [number for number, each in enumerate(p) if each > 0.3]
    first = failing[0] if failing else len(p)
    assert shown.tolist() == [number < first for number in range(len(p))]


@given(arrays(float, (3, 4), elements=st.floats(1e-9, 1)))
def test_looks_are_joined_as_scipy_joins_p_values(p):
    known = [stats.combine_pvalues(each, "stouffer").pvalue for each in p.T]
    np.testing.assert_allclose(combined(list(p)), known, rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(combined([p[0]]), p[0])


def test_all_looks_together_spend_no_more_than_the_level():
    spent = np.cumsum([share(look) for look in range(1, 60)])
    assert (np.diff(spent) > 0).all() or spent[-1] == pytest.approx(1)
    assert spent.max() <= 1 + 1e-12
    for look in (1, 2, 3):
        assert counted(np.array([share(look) * 0.05]), look) == pytest.approx(0.05)


@given(st.integers(0, 12), st.integers(1, 12))
def test_exact_intervals_are_those_of_scipy(count, more):
    known = stats.binomtest(count, count + more).proportion_ci(0.95)
    assert share_interval(count, count + more) == pytest.approx((known.low, known.high))


@given(arrays(float, 6, elements=numbers), st.integers(0, 5))
def test_a_training_that_failed_is_worse_than_any_other(differences, place):
    """A failed first of a pair shows nothing; a failed second no more than the largest difference would."""
    assume(np.ptp(np.delete(differences, place)) > 1e-3)
    lost, won, most = differences.copy(), differences.copy(), differences.copy()
    lost[place], won[place] = -np.inf, np.inf
    most[place] = np.delete(differences, place).max()
    assert Paired(lost).p_above(-100.0) == 1
    assert Paired(won).p_above(0.0) == Paired(most).p_above(0.0)
    assert Paired(won).p_below(100.0) == 1
    assert np.isnan(Paired(lost).interval()).all() and np.isneginf(Paired(lost).mean)


def test_where_every_control_failed_there_are_signs_alone():
    assert Paired(np.full(4, np.inf)).p_above(0.0) == 1 / 16
