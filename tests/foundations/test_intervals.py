"""Means and their intervals, against scipy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lottery.foundations.statistics.intervals import mean_interval

finite = st.floats(-1e6, 1e6)


@given(st.lists(finite, min_size=2, max_size=8), st.floats(0.5, 0.99))
def test_the_interval_of_a_mean_is_that_of_students_t(values, confidence):
    mean, low, high = mean_interval(values, confidence)
    error = stats.sem(values)
    assert mean == pytest.approx(np.mean(values), abs=1e-6)
    if error > 0:
        expected = stats.t.interval(confidence, len(values) - 1, loc=np.mean(values), scale=error)
        assert (low, high) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    else:
        assert math.isnan(low) and math.isnan(high)


@given(st.lists(finite, min_size=1, max_size=5), st.integers(0, 3))
def test_nan_are_no_part_of_a_mean(values, missing):
    np.testing.assert_array_equal(mean_interval(values + [math.nan] * missing), mean_interval(values))


def test_there_is_no_interval_without_a_spread():
    for values in ([0.25], [0.25, 0.25, 0.25]):
        np.testing.assert_array_equal(mean_interval(values), (0.25, math.nan, math.nan))
    assert all(map(math.isnan, mean_interval([])))
