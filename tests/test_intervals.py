"""Intervals of formulas, strata and paired comparisons."""

import numpy as np
import pytest
from scipy import stats

from covid_utils.evaluation import intervals


def test_classes_are_strata_where_each_has_ten_patients():
    classes = np.repeat([0, 1, 0], [12, 10, 3])
    groups = np.array([f"p{i}" for i in range(22)] + ["p12", "p13", "p0"])
    # Two patients of class 1 have an image of class 0 too: they belong to class 0.
    assert intervals.class_strata(classes, groups) is None
    strata = intervals.class_strata([*classes, 1, 1], [*groups, "q1", "q2"])
    assert strata.tolist() == [0] * 14 + [1] * 8 + [0] * 3 + [1] * 2


def test_wilson_by_patient_at_its_edges():
    four = np.arange(4) // 2
    # Two patients, nothing wrong: two cases. One patient: one case.
    two = intervals.wilson_by_patient(np.ones(4), np.ones(4), four)
    assert two == (*intervals.wilson(2, 2)[:3], 4)
    one = intervals.wilson_by_patient(np.zeros(4), np.ones(4), np.zeros(4))
    assert one[:3] == intervals.wilson(0, 1)[:3]
    # Half right in every patient: as many independent cases.
    same = intervals.wilson_by_patient([1, 0, 1, 0], np.ones(4), four)
    assert same[:3] == pytest.approx(intervals.wilson(2, 4)[:3])
    # One patient only, not alike; and no cases at all.
    mixed = intervals.wilson_by_patient([1, 0], np.ones(2), np.zeros(2))
    assert mixed == pytest.approx((0.5, np.nan, np.nan, 2), nan_ok=True)
    none = intervals.wilson_by_patient(np.zeros(2), np.zeros(2), np.arange(2))
    assert none == pytest.approx((np.nan, np.nan, np.nan, 0), nan_ok=True)


@pytest.mark.parametrize(("only_a", "only_b"), [(3, 0), (6, 1), (12, 12), (0, 0)])
def test_mcnemar_equals_twice_the_smaller_tail(only_a, only_b):
    first = np.repeat([True, False, True], [only_a, only_b, 5])
    second = np.repeat([False, True, True], [only_a, only_b, 5])
    tail = stats.binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)
    expected = only_a, only_b, pytest.approx(min(1, 2 * tail))
    assert intervals.mcnemar(first, second) == expected


def test_a_difference_combines_both_limits_as_mover_does():
    # Two shares with Wilson's limits: method 10 of Newcombe (1998), his example 56/70 and 48/80.
    ours, paper = intervals.wilson(56, 70), intervals.wilson(48, 80)
    gap = intervals.difference(ours, paper)
    assert gap == pytest.approx((0.2, 0.0524, 0.3339, 70), abs=5e-5)
    exact = intervals.difference(ours, intervals.Interval(0.9, 0.9, 0.9, 0))
    assert exact == pytest.approx((-0.1, ours.low - 0.9, ours.high - 0.9, 70))
    assert np.isnan(intervals.difference(ours.without_limits(), paper)[1:3]).all()
