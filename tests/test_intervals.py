"""Intervals: against SciPy, against simulation, and what they refuse."""

import inspect
import warnings

import numpy as np
import pytest
from scipy import stats
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


# --- Coverage: how many of many intervals hold what they should ----------------------------------


def shares(rng, patients):
    """Images that are right, and images, of each patient: accuracy."""
    sizes = rng.integers(1, 6, patients)
    return np.stack([rng.binomial(sizes, rng.beta(2, 1, patients)), sizes], axis=1)


def answers(rng, patients):
    """TP, FP and FN of each patient: F1."""
    sizes, ill = rng.integers(1, 6, patients), rng.random(patients) < 0.4
    chance = np.where(ill, rng.beta(4, 1, patients), rng.beta(1, 6, patients))
    called = rng.binomial(sizes, chance)
    return np.stack([called * ill, called * ~ill, (sizes - called) * ill], axis=1)


def outlines(rng, patients):
    """Patient, and TP, FP and FN in pixels, of each of one to three slices; sizes differ widely."""
    groups = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    size = np.exp(rng.normal(6, 0.8, patients)[groups] + rng.normal(0, 0.4, len(groups)))
    found = size * rng.beta(6, 2, patients)[groups]
    return groups, np.stack([found, size * rng.beta(2, 6, len(groups)), size - found], axis=1)


def pooled_dice(rng, patients):
    groups, pixels = outlines(rng, patients)
    return np.stack([np.bincount(groups, part, patients) for part in pixels.T], axis=1)


def mean_dice(rng, patients):
    groups, pixels = outlines(rng, patients)
    each = dice(pixels)
    return np.stack([np.bincount(groups, part, patients) for part in (each, each**0)], axis=1)


def gains(rng, patients):
    """Images that only the first, less those that only the second model got right; and images."""
    sizes = rng.integers(1, 6, patients)
    both = rng.binomial(sizes, 0.9 * rng.beta(2, 1, patients))
    more, fewer = rng.binomial(sizes - both, 0.3), rng.binomial(both, 0.2)
    return np.stack([more - fewer, sizes], axis=1)


def ratio(sums):
    return sums[:, 0] / sums[:, 1]


def dice(sums):
    with np.errstate(invalid="ignore"):
        return 2 * sums[:, 0] / (2 * sums[:, 0] + sums[:, 1] + sums[:, 2])


WORLDS = {
    "accuracy": (shares, ratio),
    "F1": (answers, dice),
    "mean Dice": (mean_dice, ratio),
    "pooled Dice": (pooled_dice, dice),
    "paired difference": (gains, ratio),
}


def coverage(world, patients, trials=1500, make=intervals.bootstrap):
    """Share of the intervals that hold the value of a world of 200,000 patients."""
    draw, score = WORLDS[world]
    rng = np.random.default_rng(sum(world.encode()))
    true = score(draw(rng, 200_000).sum(axis=0, keepdims=True))[0]
    who, held = np.arange(patients), 0
    for _ in range(trials):
        # The same draws in every trial: other patients are what differs.
        found = make(draw(rng, patients).astype(float), who, score, resamples=1000)
        held += found.low <= true <= found.high
    return held / trials


@pytest.mark.parametrize("patients", [60, 100])
@pytest.mark.parametrize("world", WORLDS)
def test_intervals_of_sixty_patients_and_more_cover(world, patients):
    assert 0.93 <= coverage(world, patients) <= 0.97


def percentiles(counts, groups, statistic, resamples):
    """The plain percentile bootstrap, to be compared with."""
    drawn = intervals._resample(counts, groups, None, resamples, 0).drawn
    return intervals.Interval(0, *np.quantile(statistic(drawn), [0.025, 0.975]), 0)


@pytest.mark.parametrize("world", ["accuracy", "mean Dice", "pooled Dice"])
def test_few_patients_cover_less_and_plain_percentiles_far_less(world):
    assert coverage(world, 10, trials=500) >= 0.9
    assert coverage(world, 5, trials=500) >= 0.87
    assert coverage(world, 5, trials=500, make=percentiles) <= 0.86


def test_images_taken_for_patients_claim_too_much(rng):
    held = {"by patient": 0, "by image": 0}
    for _ in range(250):
        correct, groups = cases(rng, patients=60)
        for name, who in (("by patient", groups), ("by image", np.arange(len(groups)))):
            found = intervals.bootstrap(right(correct), who, metrics.accuracy, resamples=1000)
            held[name] += found.low <= 2 / 3 <= found.high
    assert held["by image"] < held["by patient"] - 12


def test_means_over_images_with_undefined_ones_cover(rng):
    held = 0
    for _ in range(600):
        groups, pixels = outlines(rng, 80)
        values = np.where(rng.random(len(groups)) < 0.4, np.nan, pixels[:, 0] / pixels[:, 2])
        values = np.log(values)  # of two beta variables, whose mean is that of their logarithms
        found = intervals.bootstrap_mean(values, groups, resamples=1000)
        held += found.low <= digamma_difference() <= found.high
    assert 0.93 <= held / 600 <= 0.97


def digamma_difference():
    """Mean of log(p / (1 - p)) for p from a beta distribution with 6 and 2."""
    from scipy.special import digamma

    return digamma(6) - digamma(2)


@pytest.mark.parametrize("n", [100, 322, 536, 955])
def test_wilson_covers_up_to_the_ends(n):
    """Exactly, by adding up the binomial distribution; the mean over proportions from 0.9 on."""
    chances = np.linspace(0.9, 0.999, 200)
    limits = np.array([intervals.wilson(k, n)[1:3] for k in range(n + 1)])
    holds = (limits[:, 0] <= chances[:, None]) & (chances[:, None] <= limits[:, 1])
    share = (holds * stats.binom.pmf(np.arange(n + 1), n, chances[:, None])).sum(axis=1)
    assert 0.945 <= share.mean() <= 0.965
    # Near 1 it swings with the proportion, as of any interval of a count (Brown et al. 2001).
    assert share.min() > 0.85


@pytest.mark.parametrize("patients", [10, 60, 300])
@pytest.mark.parametrize(("a", "b"), [(20, 0.6), (60, 0.6), (8, 0.25)])
def test_wilson_by_patient_covers_up_to_the_ends(rng, patients, a, b):
    """Shares of 0.97 and 0.99, errors of a patient together: there the bootstrap is too sure."""
    trials, held = 800, 0
    for _ in range(trials):
        sizes = rng.integers(1, 4, patients)
        hits = rng.binomial(sizes, rng.beta(a, b, patients))
        found = intervals.wilson_by_patient(hits, sizes, np.arange(patients))
        held += found.low <= a / (a + b) <= found.high
    assert 0.93 <= held / trials <= 0.985


# --- The bootstrap against others ----------------------------------------------------------------


def test_limits_equal_those_of_scipy_at_the_expanded_level(rng):
    values = rng.gamma(2.0, size=40)
    tail = stats.norm.cdf(-np.sqrt(40 / 39) * stats.t.ppf(0.975, 39))
    settings = {"method": "percentile", "n_resamples": 40_000, "confidence_level": 1 - 2 * tail}
    expected = stats.bootstrap((values,), np.mean, rng=rng, **settings).confidence_interval
    found = intervals.bootstrap_mean(values, np.arange(40), resamples=40_000)
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.02 * width)


def test_a_mean_of_few_normal_values_gets_students_interval(rng):
    for patients in (5, 10, 30):
        ours, student = [], []
        for _ in range(150):
            values = rng.normal(size=patients)
            found = intervals.bootstrap_mean(values, np.arange(patients), resamples=2000)
            exact = stats.ttest_1samp(values, 0).confidence_interval(0.95)
            ours.append(found.high - found.low)
            student.append(exact.high - exact.low)
        # Percentiles reach no further than the values, which five of them cannot stretch.
        assert np.mean(ours) == pytest.approx(np.mean(student), rel=0.25 if patients == 5 else 0.06)


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


def test_ten_thousand_resamples_are_the_default_everywhere():
    assert intervals.RESAMPLES == 10_000
    names = ("bootstrap", "paired_bootstrap", "bootstrap_mean", "bootstrap_runs")
    for name in names:
        default = inspect.signature(getattr(intervals, name)).parameters["resamples"].default
        assert default == intervals.RESAMPLES, name


def test_only_patients_who_tell_of_a_metric_count(rng):
    """Fifty patients without the lesion leave its limits as wide as they are among the others."""
    few = rng.integers(1, 50, (6, 3)).astype(float)
    many = np.vstack([few, np.zeros((50, 3))])
    widths = []
    for counts in (few, many):
        found = intervals.bootstrap(counts, np.arange(len(counts)), dice)
        widths.append(found.high - found.low)
    assert widths[1] == pytest.approx(widths[0], rel=0.35)
    plain = percentiles(few, np.arange(6), dice, resamples=10_000)
    assert widths[1] > 1.1 * (plain.high - plain.low)


def test_classes_are_strata_where_each_has_ten_patients():
    classes = np.repeat([0, 1, 0], [12, 10, 3])
    groups = np.array([f"p{i}" for i in range(22)] + ["p12", "p13", "p0"])
    # Two patients of class 1 have an image of class 0 too: they belong to class 0.
    assert intervals.class_strata(classes, groups) is None
    more = np.append(classes, [1, 1]), np.append(groups, ["q1", "q2"])
    strata = intervals.class_strata(*more)
    assert strata[[12, 13]].tolist() == [0, 0]
    assert np.array_equal(np.delete(strata, [12, 13]), np.delete(more[0], [12, 13]))


def test_strata_cover_where_classes_were_collected_apart(rng):
    """Thirty patients of an easy class and sixty of a hard one, by design."""
    sizes, held = np.array([30, 60]), 0
    classes, groups = np.repeat([0, 1], sizes), np.arange(90)
    for _ in range(700):
        hits = rng.random(90) < np.where(classes == 0, 0.9, 0.4)
        strata = intervals.class_strata(classes, groups)
        found = intervals.bootstrap(
            right(hits), groups, metrics.accuracy, resamples=1000, strata=strata
        )
        held += found.low <= (30 * 0.9 + 60 * 0.4) / 90 <= found.high
    assert 0.93 <= held / 700 <= 0.97


def test_wilson_by_patient_at_its_edges():
    four = np.arange(4) // 2
    # Two patients, nothing wrong: two cases. One patient: one case.
    two = intervals.wilson_by_patient(np.ones(4), np.ones(4), four)
    assert two[:3] == intervals.wilson(2, 2)[:3]
    assert two.n == 4
    one = intervals.wilson_by_patient(np.zeros(4), np.ones(4), np.zeros(4))
    assert one[:3] == intervals.wilson(0, 1)[:3]
    # Half right in every patient: as many independent cases.
    same = intervals.wilson_by_patient([1, 0, 1, 0], np.ones(4), four)
    assert same[:3] == pytest.approx(intervals.wilson(2, 4)[:3])
    # One patient only, not alike; and no cases at all.
    mixed = intervals.wilson_by_patient([1, 0], np.ones(2), np.zeros(2))
    assert (mixed.value, mixed.n) == (0.5, 2)
    assert np.isnan(mixed[1:3]).all()
    none = intervals.wilson_by_patient(np.zeros(2), np.zeros(2), np.arange(2))
    assert none.n == 0
    assert np.isnan(none[:3]).all()


def test_wilson_by_patient_of_one_image_each_is_wilson_but_for_students_t():
    hits = np.arange(500) < 485
    found = intervals.wilson_by_patient(hits, np.ones(500), np.arange(500))
    assert found[:3] == pytest.approx(intervals.wilson(485, 500)[:3], abs=2e-4)
    # Every image twice tells nothing more.
    twice = intervals.wilson_by_patient(np.tile(hits, 2), np.ones(1000), np.tile(np.arange(500), 2))
    assert twice[:3] == pytest.approx(found[:3])
    assert twice.n == 1000


def test_mcnemar_equals_twice_the_smaller_tail():
    for only_a, only_b in ((3, 0), (9, 4), (12, 12), (1, 30)):
        first = np.repeat([True, False, True], [only_a, only_b, 5])
        second = np.repeat([False, True, True], [only_a, only_b, 5])
        tail = stats.binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)
        assert intervals.mcnemar(first, second).p_value == pytest.approx(min(1, 2 * tail))


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
    exact = stats.ttest_1samp(values.mean(axis=0), 0).confidence_interval(0.95)
    assert both.high - both.low == pytest.approx(exact.high - exact.low, rel=0.05)


def test_a_single_run_leaves_the_patients():
    values = np.random.default_rng(1).normal(size=(60, 1))
    patients = np.repeat(np.arange(20), 3)
    one = intervals.bootstrap_runs(values, patients)
    plain = intervals.bootstrap_mean(values[:, 0], patients)
    assert one == pytest.approx(plain)
    with pytest.raises(DataError, match="give \\(images, runs\\)"):
        intervals.bootstrap_runs(values[:, 0], patients)


@pytest.mark.parametrize(
    ("runs", "of_run", "of_patient"), [(5, 0.2, 0.05), (5, 0.1, 0.3), (8, 0.05, 1)]
)
def test_intervals_over_runs_and_patients_cover(runs, of_run, of_patient):
    """Crossed effects, of which runs make most, both as much, or patients most."""
    rng = np.random.default_rng(8)
    held = 0
    for trial in range(400):
        values = rng.normal(0, of_run, runs) + rng.normal(0, 0.5, (100, runs))
        values += rng.normal(0, of_patient, (100, 1))
        found = intervals.bootstrap_runs(values, np.arange(100), resamples=1000, seed=trial % 4)
        held += found.low <= 0 <= found.high
    assert 0.93 <= held / 400 <= 0.985
