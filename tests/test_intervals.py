"""Intervals: against SciPy, against simulation, and what they refuse."""

import time
import warnings

import numpy as np
import pytest
from scipy.stats import binomtest

from covid_utils.errors import DataError, ParameterError
from covid_utils.evaluation import intervals, metrics
from covid_utils.evaluation.metrics import Counts


@pytest.fixture
def rng():
    return np.random.default_rng(20200624)


def cases(rng, patients, most=5):
    """Images of patients whose difficulty differs: right or wrong, and the patient of each."""
    sizes = rng.integers(1, most + 1, patients)
    groups = np.repeat(np.arange(patients), sizes)
    chance = rng.beta(2.0, 1.0, patients)  # mean 2/3
    return rng.random(len(groups)) < chance[groups], groups


def right(correct):
    """Counts with one entry an image, for which `metrics.accuracy` is the share of right ones."""
    none = np.zeros(len(correct))
    return Counts(correct, ~correct, none, none)


@pytest.mark.parametrize("n", [1, 7, 536, 955])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_equals_scipy(n, level):
    for successes in {0, 1, n // 2, n - 1, n}:
        low, high = binomtest(successes, n).proportion_ci(level, method="wilson")
        interval = intervals.wilson(successes, n, level)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)
        assert interval.value == successes / n
        assert interval.n == n
        assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_wilson_of_the_papers_headline():
    interval = intervals.wilson(533, 536)
    assert round(100 * interval.value, 1) == 99.4
    assert (round(100 * interval.low, 1), round(100 * interval.high, 1)) == (98.4, 99.8)


def test_bootstrap_covers_where_ignoring_patients_does_not(rng):
    held = {"by patient": 0, "by image": 0}
    for seed in range(400):
        correct, groups = cases(rng, patients=60)
        for name, who in (("by patient", groups), ("by image", np.arange(len(groups)))):
            interval = intervals.bootstrap(
                right(correct), who, metrics.accuracy, resamples=500, seed=seed
            )
            held[name] += interval.low <= 2 / 3 <= interval.high
    assert 0.91 <= held["by patient"] / 400 <= 0.98
    assert held["by image"] < held["by patient"]


def test_bootstrap_equals_drawing_patients_one_by_one(rng):
    correct, groups = cases(rng, patients=40)
    counts = right(correct)
    means = []
    for _ in range(4000):
        drawn = rng.integers(40, size=40)
        means.append(np.concatenate([correct[groups == patient] for patient in drawn]).mean())
    interval = intervals.bootstrap(counts, groups, metrics.accuracy, resamples=20_000)
    assert interval.value == correct.mean()
    expected = np.quantile(means, [0.025, 0.975])
    assert (interval.low, interval.high) == pytest.approx(expected, abs=0.01)


def test_bootstrap_depends_on_seed_only(rng):
    correct, groups = cases(rng, patients=50)
    counts, order = right(correct), rng.permutation(len(groups))
    first = intervals.bootstrap(counts, groups, metrics.f1, seed=3)
    assert intervals.bootstrap(counts, groups, metrics.f1, seed=3) == first
    assert intervals.bootstrap(counts[order], groups[order], metrics.f1, seed=3) == first
    assert intervals.bootstrap(counts, groups, metrics.f1, seed=4) != first


def test_blocks_of_draws_do_not_change_the_result(rng, monkeypatch):
    correct, groups = cases(rng, patients=50)
    whole = intervals.bootstrap(right(correct), groups, metrics.accuracy, resamples=300)
    monkeypatch.setattr(intervals, "BLOCK", 50 * 7)
    parts = intervals.bootstrap(right(correct), groups, metrics.accuracy, resamples=300)
    assert parts == pytest.approx(whole)


def test_several_metrics_come_from_the_same_draws(rng):
    truth, predicted = rng.random((2, 80, 6)) < 0.4
    counts = metrics.count_binary(truth, predicted, axis=1)
    groups = rng.integers(0, 30, 80).astype(str)
    together = intervals.bootstrap(counts, groups, metrics.scores)
    assert list(together) == list(metrics.METRICS)
    assert together["mcc"] == intervals.bootstrap(counts, groups, metrics.mcc)
    assert together["dice"].value == metrics.dice(counts.sum())


def test_metrics_of_classes_and_of_confusion_matrices(rng):
    truth = rng.integers(0, 4, 120)
    predicted = np.where(rng.random(120) < 0.7, truth, rng.integers(0, 4, 120))
    units, matrix = metrics.unit_confusion(truth, predicted, 4), metrics.confusion
    groups = np.arange(120) // 2

    def each_f1(matrices):
        return metrics.f1(metrics.one_vs_rest(matrices))

    total = matrix(truth, predicted, 4)
    classes = intervals.bootstrap(units, groups, each_f1)
    np.testing.assert_allclose(classes.value, each_f1(total))
    assert classes.low.shape == classes.high.shape == (4,)
    assert ((classes.low < classes.value) & (classes.value < classes.high)).all()
    overall = intervals.bootstrap(units, groups, metrics.multiclass_mcc)
    assert overall.value == metrics.multiclass_mcc(total)
    assert overall.low < overall.value < overall.high


def test_strata_keep_their_sizes(rng):
    # Without strata the share of positives varies from draw to draw; within them it cannot.
    label = np.arange(60) < 20
    counts = right(label)
    free = intervals.bootstrap(counts, np.arange(60), metrics.accuracy)
    held = intervals.bootstrap(counts, np.arange(60), metrics.accuracy, strata=label)
    assert free.low < 1 / 3 < free.high
    assert held.low == held.value == held.high == pytest.approx(1 / 3)


def test_mean_over_images_leaves_undefined_ones_out(rng):
    values = rng.random((100, 2))
    values[::3, 0] = np.nan
    groups = np.arange(100) // 3
    interval = intervals.bootstrap_mean(values, groups, resamples=3000)
    np.testing.assert_allclose(interval.value, np.nanmean(values, axis=0))
    assert interval.n.tolist() == [66, 100]
    known = ~np.isnan(values[:, 0])
    alone = intervals.bootstrap_mean(values[known, 0], groups[known], resamples=3000)
    assert alone.n == 66
    assert (interval.low[0], interval.high[0]) == pytest.approx((alone.low, alone.high), abs=0.02)


def test_mean_without_any_value_is_undefined_and_silent():
    values = np.array([[np.nan, 0.5], [np.nan, 0.7], [np.nan, 0.6]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interval = intervals.bootstrap_mean(values, np.arange(3))
    assert interval.n.tolist() == [0, 3]
    assert np.isnan([interval.value[0], interval.low[0], interval.high[0]]).all()
    assert interval.low[1] < interval.value[1] < interval.high[1]


def test_resamples_without_positives_are_left_out():
    # One positive among four: a third of the resamples has none, and no sensitivity.
    counts = metrics.count_binary(np.eye(4, dtype=bool)[0], np.eye(4, dtype=bool)[0], axis=())
    interval = intervals.bootstrap(counts, np.arange(4), metrics.sensitivity)
    assert interval[:3] == (1.0, 1.0, 1.0)


def test_paired_difference_is_narrower_than_two_separate_intervals(rng):
    first, groups = cases(rng, patients=80)
    second = first & (rng.random(len(first)) < 0.95)
    a, b = right(first), right(second)
    paired = intervals.paired_bootstrap(a, b, groups, metrics.accuracy)
    assert paired.value == pytest.approx(first.mean() - second.mean())
    assert 0 < paired.low < paired.value < paired.high
    apart = [intervals.bootstrap(counts, groups, metrics.accuracy) for counts in (a, b)]
    assert paired.high - paired.low < min(each.high - each.low for each in apart)
    flipped = intervals.paired_bootstrap(b, a, groups, metrics.accuracy)
    assert (flipped.low, flipped.high) == pytest.approx((-paired.high, -paired.low))
    mean = intervals.bootstrap_mean(first * 1.0 - second * 1.0, groups)
    assert paired[:3] == pytest.approx(mean[:3])


def test_paired_bootstrap_of_a_model_with_itself_is_zero(rng):
    correct, groups = cases(rng, patients=20)
    counts = right(correct)
    assert paired(counts, counts, groups)[:3] == (0.0, 0.0, 0.0)
    positives = Counts(counts.tp, 0 * counts.tp, counts.fp, counts.tn)
    each = intervals.paired_bootstrap(positives, positives, groups, metrics.scores)
    assert each["sensitivity"][:3] == (0.0, 0.0, 0.0)
    assert np.isnan(each["specificity"][:3]).all()


def test_mcnemar_counts_and_exact_probability():
    first = np.array([1, 1, 1, 1, 1, 1, 0, 0, 1], bool)
    second = np.array([0, 0, 0, 0, 0, 0, 1, 0, 1], bool)
    result = intervals.mcnemar(first, second)
    assert result[:2] == (6, 1)
    # 2 * (C(7,0) + C(7,1)) / 2**7
    assert result.p_value == pytest.approx(2 * 8 / 128)
    assert intervals.mcnemar(first, first) == (0, 0, 1.0)


@pytest.mark.parametrize("strata", [None, np.zeros(5, int)])
def test_one_patient_has_no_limits(strata):
    counts = right(np.array([True, True, False, True, True]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interval = intervals.bootstrap(counts, np.full(5, "only"), metrics.accuracy, strata=strata)
    assert interval.value == 0.8
    assert np.isnan([interval.low, interval.high]).all()
    assert interval.n == 5


THREE = right(np.array([True, False, True]))


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (DataError, "at least one case", lambda: intervals.wilson(0, 0)),
        (DataError, "0 to n", lambda: intervals.wilson(5, 4)),
        (ParameterError, "level", lambda: intervals.wilson(1, 2, level=95)),
        (DataError, "no images", lambda: run(right(np.zeros(0, bool)), np.zeros(0))),
        (DataError, "one for each image", lambda: run(THREE, np.arange(2))),
        (DataError, "no patient", lambda: run(THREE, np.array(["a", None, "b"], object))),
        (DataError, "one an image", lambda: run(THREE.sum(), np.arange(1))),
        (DataError, "one an image", lambda: intervals.bootstrap_mean(0.5, np.arange(1))),
        (DataError, "more than one stratum", lambda: run(THREE, [1, 1, 2], strata=[0, 1, 1])),
        (ParameterError, "resamples", lambda: run(THREE, np.arange(3), resamples=0)),
        (ParameterError, "level", lambda: run(THREE, np.arange(3), level=0.0)),
        (DataError, "same images", lambda: paired(THREE, THREE[:2], np.arange(3))),
        (DataError, "same cases", lambda: intervals.mcnemar([True], [True, False])),
        (DataError, "at least one", lambda: intervals.mcnemar([], [])),
    ],
)
def test_wrong_input_is_refused_in_words(error, words, call):
    with pytest.raises(error, match=words):
        call()


def run(counts, groups, **settings):
    return intervals.bootstrap(counts, groups, metrics.accuracy, **settings)


def paired(first, second, groups):
    return intervals.paired_bootstrap(first, second, groups, metrics.accuracy)


def test_ten_thousand_resamples_of_all_metrics_are_cheap(rng):
    truth, predicted = rng.random((2, 1000, 64)) < 0.3
    counts = metrics.count_binary(truth, predicted, axis=1)
    start = time.process_time()
    intervals.bootstrap(counts, np.arange(1000), metrics.scores, resamples=10_000)
    assert time.process_time() - start < 2


def test_runs_are_drawn_as_well_as_patients():
    rng = np.random.default_rng(4)
    patients = np.arange(200)
    # Images hardly differ, runs do: keeping the runs fixed would claim far too much.
    values = rng.normal(0, 0.1, (200, 5)) + np.array([-0.4, -0.1, 0.0, 0.1, 0.3])
    both = intervals.bootstrap_runs(values, patients)
    fixed = intervals.bootstrap_mean(values.mean(axis=1), patients)
    assert both.value == pytest.approx(fixed.value) == pytest.approx(values.mean())
    assert both.n == 200
    assert both.high - both.low > 10 * (fixed.high - fixed.low)
    spread = values.mean(axis=0).std() / np.sqrt(5)
    assert both.high - both.low == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_a_single_run_leaves_the_patients():
    values = np.random.default_rng(1).normal(size=(60, 1))
    patients = np.repeat(np.arange(20), 3)
    one = intervals.bootstrap_runs(values, patients)
    plain = intervals.bootstrap_mean(values[:, 0], patients)
    assert one == pytest.approx(plain)
    with pytest.raises(DataError, match="give \\(images, runs\\)"):
        intervals.bootstrap_runs(values[:, 0], patients)


def test_intervals_over_runs_and_patients_cover():
    """Crossed effects of patients and runs: near to 95 % of the intervals hold the true mean."""
    rng = np.random.default_rng(8)
    hits = 0
    for trial in range(200):
        runs = rng.normal(0, 0.05, 8)
        values = rng.normal(0, 1, (80, 1)) + runs + rng.normal(0, 0.5, (80, 8))
        found = intervals.bootstrap_runs(values, np.arange(80), resamples=400, seed=trial)
        hits += found.low <= 0 <= found.high
    assert 0.89 <= hits / 200 <= 0.99
