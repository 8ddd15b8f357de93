"""Limits: against SciPy, formulas and simulation, of one training and of several."""

import warnings
from functools import partial

import numpy as np
import pytest
from scipy import stats

from covid_utils.errors import DataError
from covid_utils.evaluation import bootstrap, intervals, metrics

DICE, ACCURACY = partial(metrics.score, "dice"), partial(metrics.score, "accuracy")


@pytest.fixture
def rng():
    return np.random.default_rng(20200624)


def accuracy(correct, groups, **settings):
    """Interval of the share of right images."""
    counts = metrics.count(correct, correct | True, axis=())
    return bootstrap.score(counts[:, None], groups, ACCURACY, **settings)


def outlines(rng, slices=40, trainings=5, spread=0.3, level=0.8):
    """Outcomes in pixels (slices, trainings, 4) of lesions that all trainings find as hard."""
    size, hard = np.exp(rng.normal(6, 0.8, slices)), rng.normal(level, 0.6, slices)
    able = rng.normal(0, spread, trainings)
    found, right = (
        1 / (1 + np.exp(-hard[:, None] - able - rng.normal(0, 0.3, (slices, trainings))))
        for _ in range(2)
    )
    size = size[:, None]
    return np.stack([size * found, size * (1 - right), size * (1 - found), 0 * found], axis=-1)


def test_limits_equal_those_of_scipy_at_the_expanded_level(rng):
    groups, counts = np.arange(80) // 2, outlines(rng, 80, 1)
    sums = [np.bincount(groups, part) for part in counts[:, 0, :3].T]

    def pooled(tp, fp, fn, axis):
        tp, fp, fn = (part.sum(axis) for part in (tp, fp, fn))
        return 2 * tp / (2 * tp + fp + fn)

    level = 1 - 2 * stats.norm.cdf(-np.sqrt(40 / 39) * stats.t.ppf(0.975, 39))
    settings = {"paired": True, "confidence_level": level, "method": "percentile", "rng": rng}
    theirs = stats.bootstrap(sums, pooled, n_resamples=20_000, **settings).confidence_interval
    ours = bootstrap.score(counts, groups, DICE)
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=0.003)


@pytest.mark.parametrize("patients", [10, 60])
def test_intervals_cover_the_truth(rng, monkeypatch, patients):
    """Accuracy by patient; drawing images instead claims too much."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 1000)
    trials, by_patient, by_image = 400, 0, 0
    for _ in range(trials):
        groups = np.repeat(np.arange(patients), rng.integers(1, 6, patients))
        chance = rng.beta(2.0, 1.0, patients)  # mean 2/3
        correct = rng.random(len(groups)) < chance[groups]
        interval = accuracy(correct, groups)
        by_patient += interval.low <= 2 / 3 <= interval.high
        interval = accuracy(correct, np.arange(len(groups)))
        by_image += interval.low <= 2 / 3 <= interval.high
    assert 0.9 <= by_patient / trials <= 0.98
    assert by_image < by_patient - 0.04 * trials


@pytest.mark.parametrize("spread", [0.05, 0.4])
def test_limits_cover_the_score_of_all_slices_and_trainings(rng, monkeypatch, spread):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 400)
    many = outlines(rng, slices=4000, trainings=400, spread=spread)
    true, trials, held = DICE(many.sum(axis=0)).mean(), 120, 0
    for _ in range(trials):
        found = bootstrap.score(outlines(rng, 30, 5, spread), np.arange(30), DICE)
        held += found.low <= true <= found.high
    assert held / trials >= 0.88


def test_limits_depend_neither_on_the_order_nor_on_blocks(rng, monkeypatch):
    groups, counts = np.arange(100) // 2, outlines(rng, 100, 1)
    order = rng.permutation(100)
    first = bootstrap.score(counts, groups, DICE)
    assert bootstrap.score(counts[order], groups[order], DICE) == pytest.approx(first)
    monkeypatch.setattr(bootstrap, "BLOCK", 50 * 7)
    bootstrap._weights.cache_clear()
    assert bootstrap.score(counts, groups, DICE) == pytest.approx(first)


def test_mean_over_images_leaves_undefined_ones_out(rng):
    values = np.stack([rng.random(100), rng.random(100), np.full(100, np.nan)], axis=1)
    values[::3, 0] = np.nan
    groups = np.arange(100) // 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        means = bootstrap.means(dict(zip("abc", values.T, strict=True)), groups)
    assert means["a"].value == pytest.approx(np.nanmean(values[:, 0]))
    assert [mean.n for mean in means.values()] == [66, 100, 0]
    assert np.isnan(means["c"][:3]).all()
    assert means["a"] == pytest.approx(bootstrap.mean(values[:, 0], groups))


def test_where_nothing_can_be_resampled():
    # One positive among four: a third of the resamples has none, and no sensitivity.
    truth = np.eye(4, dtype=bool)[0]
    counts = metrics.count(truth, truth, axis=())[:, None]
    sensitivity = partial(metrics.score, "sensitivity")
    assert bootstrap.score(counts, np.arange(4), sensitivity)[:3] == (1, 1, 1)
    # A single patient has no limits.
    for strata in (None, np.zeros(5, int)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            one = accuracy(np.arange(5) != 2, np.full(5, "only"), strata=strata)
        assert one == pytest.approx((0.8, np.nan, np.nan, 5), nan_ok=True)
    with pytest.raises(DataError, match="no images"):
        accuracy(np.zeros(0, bool), np.zeros(0))


# Several trainings


def test_trainings_are_drawn_as_well_as_patients(rng):
    # Images hardly differ, trainings do: keeping these fixed would claim far too much.
    values = rng.normal(0, 0.1, (200, 5)) + np.array([-0.4, -0.1, 0.0, 0.1, 0.3])
    both = bootstrap.mean(values, np.arange(200))
    assert both.value == pytest.approx(values.mean())
    exact = stats.ttest_1samp(values.mean(axis=0), 0).confidence_interval(0.95)
    assert both.high - both.low == pytest.approx(exact.high - exact.low, rel=0.05)
    values[:100, 0], values[:50, 2] = np.nan, np.nan
    part = bootstrap.mean(values, np.arange(200))
    assert part.value == pytest.approx(np.nanmean(values, axis=0).mean())
    assert part.low < part.value < part.high


def test_a_score_of_sums_is_the_mean_of_that_of_each_training(rng):
    table = outlines(rng)
    table[:15, 0], table[10:, 4] = 0, 0
    found = bootstrap.score(table, np.arange(40), DICE)
    assert found.value == pytest.approx(DICE(table.sum(axis=0)).mean())
    assert found.low < found.value < found.high
    # A training that tests no image at all has no score, and is left out.
    for tested in (table, table[:, 1:2]):
        more = np.concatenate([tested, np.zeros((40, 1, 4))], axis=1)
        alone = bootstrap.score(tested, np.arange(40), DICE)
        assert bootstrap.score(more, np.arange(40), DICE) == pytest.approx(alone)


def test_equal_sides_do_not_differ_and_a_shift_is_found(rng):
    table, groups = outlines(rng, spread=0.05), np.arange(40)
    same = bootstrap.contrast([table, table], [1, -1], groups, DICE)
    assert same.value == pytest.approx(0, abs=1e-12)
    assert same.low < 0 < same.high
    worse = table.copy()
    worse[..., 2] += 0.5 * worse[..., 0]
    worse[..., 0] *= 0.5
    gap = bootstrap.contrast([table, worse], [1, -1], groups, DICE)
    assert gap.low > 0.1
    assert gap.value == pytest.approx((DICE(table.sum(0)) - DICE(worse.sum(0))).mean())
    # Of a mean of sides and another one.
    third = bootstrap.contrast([table, worse, table], [0.5, 0.5, -1], groups, DICE)
    assert third.value == pytest.approx(-gap.value / 2)
    assert third.low < third.value < third.high
    # Patients are drawn for both sides at once, so what they share cancels.
    apart = [bootstrap.score(side, groups, DICE) for side in (table, worse)]
    assert gap.high - gap.low < sum(side.high - side.low for side in apart)


# Formulas


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


@pytest.mark.parametrize("trainings", [1, 2])
def test_patients_whose_omission_changes_nothing_are_not_counted(trainings):
    values = np.repeat([1.0, -1.0, 0.0], [3, 3, 34])[:, None] * np.ones(trainings)
    nought, one = (bootstrap.mean(values + mean, np.arange(40)) for mean in (0, 1))
    assert (nought.low + 1, nought.high + 1) == pytest.approx((one.low, one.high))
    assert one.high - 1 > 1.1 * 2 * np.sqrt(6) / 40  # wider than for 40 patients
