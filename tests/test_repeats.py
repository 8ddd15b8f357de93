"""Intervals over patients and trainings: against formulas, simulation and single trainings."""

from functools import partial

import numpy as np
import pytest
from scipy import stats

from covid_utils.evaluation import intervals, metrics, repeats

DICE = partial(metrics.score, "dice")


@pytest.fixture
def rng():
    return np.random.default_rng(20200624)


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


def test_a_run_is_scored_on_the_images_that_it_has(rng):
    values = rng.random((300, 3))
    whole = repeats.bootstrap_runs(values, np.arange(300))
    values[:100, 0], values[:50, 2] = np.nan, np.nan
    part = repeats.bootstrap_runs(values, np.arange(300))
    assert part.value == pytest.approx(np.nanmean(values, axis=0).mean())
    assert part.low < part.value < part.high
    assert part.high - part.low > whole.high - whole.low


def test_runs_are_drawn_as_well_as_patients(rng):
    # Images hardly differ, runs do: keeping the runs fixed would claim far too much.
    values = rng.normal(0, 0.1, (200, 5)) + np.array([-0.4, -0.1, 0.0, 0.1, 0.3])
    both = repeats.bootstrap_runs(values, np.arange(200))
    assert both.value == pytest.approx(values.mean())
    exact = stats.ttest_1samp(values.mean(axis=0), 0).confidence_interval(0.95)
    assert both.high - both.low == pytest.approx(exact.high - exact.low, rel=0.05)
    one = repeats.bootstrap_runs(values[:, :1], np.arange(200))
    assert one == pytest.approx(intervals.bootstrap_mean(values[:, 0], np.arange(200)))


def test_a_score_of_sums_is_the_mean_of_that_of_each_training(rng):
    table = outlines(rng)
    table[:15, 0], table[10:, 4] = 0, 0
    found = repeats.bootstrap(table, np.arange(40), DICE)
    assert found.value == pytest.approx(DICE(table.sum(axis=0)).mean())
    assert found.low < found.value < found.high
    alone = repeats.bootstrap(table[:, 1:2], np.arange(40), DICE)
    single = intervals.bootstrap(table[:, 1], np.arange(40), DICE)
    assert alone == pytest.approx(single)
    # A training that tests no image at all has no score, and is left out.
    more = np.concatenate([table, np.zeros((40, 1, 4))], axis=1)
    assert repeats.bootstrap(more, np.arange(40), DICE) == pytest.approx(found)


def test_equal_sides_do_not_differ_and_a_shift_is_found(rng):
    table, groups = outlines(rng, spread=0.05), np.arange(40)
    same = repeats.contrast([table, table], [1, -1], groups, DICE)
    assert same.value == pytest.approx(0, abs=1e-12)
    assert same.low < 0 < same.high
    worse = table.copy()
    worse[..., 2] += 0.5 * worse[..., 0]
    worse[..., 0] *= 0.5
    gap = repeats.contrast([table, worse], [1, -1], groups, DICE)
    assert gap.low > 0.1
    assert gap.value == pytest.approx((DICE(table.sum(0)) - DICE(worse.sum(0))).mean())
    # Patients are drawn for both sides at once, so what they share cancels.
    apart = [repeats.bootstrap(side, groups, DICE) for side in (table, worse)]
    assert gap.high - gap.low < sum(side.high - side.low for side in apart)


def test_a_mean_of_sides_against_one(rng):
    sides = [outlines(rng, trainings=count) for count in (3, 2, 5)]
    weights = [0.5, 0.5, -1]
    found = repeats.contrast(sides, weights, np.arange(40), DICE)
    each = [DICE(side.sum(axis=0)).mean() for side in sides]
    assert found.value == pytest.approx(np.dot(weights, each))
    assert found.low < found.value < found.high


@pytest.mark.parametrize("spread", [0.05, 0.4])
def test_limits_cover_the_score_of_all_slices_and_trainings(rng, monkeypatch, spread):
    monkeypatch.setattr(intervals, "RESAMPLES", 400)
    many = outlines(rng, slices=4000, trainings=400, spread=spread)
    true, trials, held = DICE(many.sum(axis=0)).mean(), 120, 0
    for _ in range(trials):
        found = repeats.bootstrap(outlines(rng, 30, 5, spread), np.arange(30), DICE)
        held += found.low <= true <= found.high
    assert held / trials >= 0.88


def test_few_errors_are_not_called_certain():
    cases = np.ones((60, 3))
    found = repeats.share(cases, cases, np.arange(60))
    assert found[:3] == pytest.approx((1, intervals.wilson(60, 60).low, 1))
    hits = cases.copy()
    hits[:2] = 0
    found, wilson = repeats.share(hits, cases, np.arange(60)), intervals.wilson(58, 60)
    assert found.value == pytest.approx(58 / 60)
    assert found.low <= wilson.low + 0.005
    assert wilson.high - 0.005 <= found.high <= 1
