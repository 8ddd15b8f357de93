"""Intervals: against SciPy, against simulation, and what they refuse."""

import warnings
from functools import partial

import numpy as np
import pytest
from scipy import stats

from covid_utils.errors import DataError
from covid_utils.evaluation import intervals, metrics


@pytest.fixture
def rng():
    return np.random.default_rng(20200624)


def cases(rng, patients, most=5):
    """Images of patients whose difficulty differs: right or wrong, and the patient of each."""
    groups = np.repeat(np.arange(patients), rng.integers(1, most + 1, patients))
    chance = rng.beta(2.0, 1.0, patients)  # mean 2/3
    return rng.random(len(groups)) < chance[groups], groups


def accuracy(correct, groups, **settings):
    """Interval of the share of right images."""
    counts = metrics.count(correct, correct | True, axis=())
    return intervals.bootstrap(counts, groups, partial(metrics.score, "accuracy"), **settings)


def dice(sums):
    with np.errstate(invalid="ignore"):
        return 2 * sums[:, 0] / (2 * sums[:, 0] + sums[:, 1] + sums[:, 2])


def pixels(rng, patients):
    """Patient, and TP, FP and FN in pixels, of each of one to three slices; sizes differ widely."""
    groups = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    size = np.exp(rng.normal(6, 0.8, patients)[groups] + rng.normal(0, 0.4, len(groups)))
    hits = size * rng.beta(6, 2, patients)[groups]
    return groups, np.stack([hits, size * rng.beta(2, 6, len(groups)), size - hits], axis=1)


def test_limits_equal_those_of_scipy_at_the_expanded_level(rng):
    groups, counts = pixels(rng, 40)
    sums = [np.bincount(groups, part) for part in counts.T]

    def pooled(tp, fp, fn, axis):
        tp, fp, fn = (part.sum(axis) for part in (tp, fp, fn))
        return 2 * tp / (2 * tp + fp + fn)

    level = 1 - 2 * stats.norm.cdf(-np.sqrt(40 / 39) * stats.t.ppf(0.975, 39))
    settings = {"paired": True, "confidence_level": level, "method": "percentile", "rng": rng}
    theirs = stats.bootstrap(sums, pooled, n_resamples=20_000, **settings).confidence_interval
    ours = intervals.bootstrap(counts, groups, dice)
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=0.003)


@pytest.mark.parametrize("patients", [10, 60])
def test_intervals_cover_the_truth(rng, monkeypatch, patients):
    """Accuracy by patient; drawing images instead claims too much."""
    monkeypatch.setattr(intervals, "RESAMPLES", 1000)
    trials, by_patient, by_image = 400, 0, 0
    for _ in range(trials):
        correct, groups = cases(rng, patients)
        interval = accuracy(correct, groups)
        by_patient += interval.low <= 2 / 3 <= interval.high
        interval = accuracy(correct, np.arange(len(groups)))
        by_image += interval.low <= 2 / 3 <= interval.high
    assert 0.9 <= by_patient / trials <= 0.98
    assert by_image < by_patient - 0.04 * trials


def test_limits_depend_neither_on_the_order_nor_on_blocks(rng, monkeypatch):
    groups, counts = pixels(rng, 50)
    order = rng.permutation(len(groups))
    first = intervals.bootstrap(counts, groups, dice)
    assert intervals.bootstrap(counts[order], groups[order], dice) == pytest.approx(first)
    monkeypatch.setattr(intervals, "BLOCK", 50 * 7)
    intervals._weights.cache_clear()
    assert intervals.bootstrap(counts, groups, dice) == pytest.approx(first)


def test_strata_keep_their_sizes():
    # Without strata the share of positives varies from draw to draw; within them it cannot.
    label = np.arange(60) < 20
    free = accuracy(label, np.arange(60))
    assert free.low < 1 / 3 < free.high
    assert accuracy(label, np.arange(60), strata=label)[:3] == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_classes_are_strata_where_each_has_ten_patients():
    classes = np.repeat([0, 1, 0], [12, 10, 3])
    groups = np.array([f"p{i}" for i in range(22)] + ["p12", "p13", "p0"])
    # Two patients of class 1 have an image of class 0 too: they belong to class 0.
    assert intervals.class_strata(classes, groups) is None
    strata = intervals.class_strata([*classes, 1, 1], [*groups, "q1", "q2"])
    assert strata.tolist() == [0] * 14 + [1] * 8 + [0] * 3 + [1] * 2


def test_mean_over_images_leaves_undefined_ones_out(rng):
    values = np.stack([rng.random(100), rng.random(100), np.full(100, np.nan)], axis=1)
    values[::3, 0] = np.nan
    groups = np.arange(100) // 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        means = intervals.bootstrap_mean(dict(zip("abc", values.T, strict=True)), groups)
    assert means["a"].value == pytest.approx(np.nanmean(values[:, 0]))
    assert [mean.n for mean in means.values()] == [66, 100, 0]
    assert np.isnan(means["c"][:3]).all()
    assert means["b"][:3] == pytest.approx(intervals.bootstrap_mean(values[:, 1], groups)[:3])


def test_resamples_without_positives_are_left_out():
    # One positive among four: a third of the resamples has none, and no sensitivity.
    truth = np.eye(4, dtype=bool)[0]
    counts = metrics.count(truth, truth, axis=())
    sensitivity = partial(metrics.score, "sensitivity")
    assert intervals.bootstrap(counts, np.arange(4), sensitivity)[:3] == (1, 1, 1)


def test_only_patients_with_a_part_in_a_metric_count(rng):
    few = rng.integers(1, 50, (6, 3)).astype(float)
    alone = intervals.bootstrap(few, np.arange(6), dice)
    # With fifty patients without the lesion.
    all_56 = intervals.bootstrap(np.vstack([few, np.zeros((50, 3))]), np.arange(56), dice)
    assert all_56.high - all_56.low == pytest.approx(alone.high - alone.low, rel=0.35)


@pytest.mark.parametrize("strata", [None, np.zeros(5, int)])
def test_one_patient_has_no_limits(strata):
    correct = np.array([True, True, False, True, True])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interval = accuracy(correct, np.full(5, "only"), strata=strata)
    assert (interval.value, interval.n) == (0.8, 5)
    assert np.isnan([interval.low, interval.high]).all()


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


def test_no_images_are_refused_in_words():
    with pytest.raises(DataError, match="no images"):
        accuracy(np.zeros(0, bool), np.zeros(0))


def test_a_difference_combines_both_limits_as_mover_does():
    # Two shares with Wilson's limits: method 10 of Newcombe (1998), his example 56/70 and 48/80.
    ours, paper = intervals.wilson(56, 70), intervals.wilson(48, 80)
    gap = intervals.difference(ours, paper)
    assert gap == pytest.approx((0.2, 0.0524, 0.3339, 70), abs=5e-5)
    exact = intervals.difference(ours, intervals.Interval(0.9, 0.9, 0.9, 0))
    assert exact == pytest.approx((-0.1, ours.low - 0.9, ours.high - 0.9, 70))
    assert np.isnan(intervals.difference(ours.without_limits(), paper)[1:3]).all()
