"""Calibration, against loops, scikit-learn and simulated truth; specialists put together."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import brier_score_loss, log_loss

from covid_utils.evaluation import calibration, intervals


def simulated(cases, classes, seed, spread=2.0):
    """Probabilities, and truths drawn from these very probabilities; with the logits."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, (cases, classes))
    cumulated = softmax(logits, axis=1).cumsum(axis=1)
    truth = (rng.random((cases, 1)) > cumulated).sum(axis=1)
    return softmax(logits, axis=1), np.minimum(truth, classes - 1), logits


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_equal_a_loop_and_other_implementations(classes):
    probabilities, truth, _ = simulated(300, classes, seed=classes)
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    table = calibration.reliability(probabilities, truth).set_index("low")
    gap = 0.0
    for at in range(10):
        inside = (sure > at / 10) & (sure <= (at + 1) / 10)
        if inside.any():
            row = table.loc[at / 10]
            limits = intervals.wilson(int(right[inside].sum()), int(inside.sum()))
            assert row["n"] == limits.n
            assert row["confidence"] == pytest.approx(sure[inside].mean())
            assert tuple(row[["accuracy", "accuracy_low", "accuracy_high"]]) == limits[:3]
            gap += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    assert table["n"].sum() == 300
    scores = calibration.scores(probabilities, truth, np.arange(300))
    assert scores["ece"].value == pytest.approx(gap)
    # Resamples are biased upwards, further than the value itself: no interval is claimed.
    assert np.isnan([scores["ece"].low, scores["ece"].high]).all()
    assert scores["nll"].value == pytest.approx(log_loss(truth, probabilities))
    shares = probabilities[:, 1] if classes == 2 else probabilities
    squares = brier_score_loss(truth, shares, scale_by_half=False)
    assert scores["brier"].value == pytest.approx(squares)
    # Six copies of each case tell nothing more.
    copies = [np.repeat(part, 6, axis=0) for part in (probabilities, truth, np.arange(300))]
    assert calibration.scores(*copies)["nll"][:3] == pytest.approx(scores["nll"][:3])


@pytest.mark.parametrize(("temperature", "classes"), [(0.4, 2), (1.0, 4), (4.0, 2)])
def test_the_temperature_that_sharpened_the_logits_is_fitted(temperature, classes):
    _, truth, logits = simulated(20_000, classes, seed=2)
    sharpened = softmax(temperature * logits, axis=1).astype(np.float32)
    fitted = calibration.fit_temperature(sharpened, truth)
    assert fitted == pytest.approx(temperature, rel=0.04)
    softened = calibration.apply_temperature(sharpened, fitted)
    # A hundred patients with 200 cases each: the bootstrap's time grows with the patients.
    assert calibration.scores(softened, truth, np.arange(20_000) % 100)["ece"].value < 0.015


def test_edges_of_bins_belong_to_them_and_certain_probabilities_have_scores():
    edges = np.arange(2, 11) / 10
    shares = np.array([[edge, *[(1 - edge) / 9] * 9] for edge in edges])
    table = calibration.reliability(shares, np.zeros(9, int))
    assert table["high"].tolist() == pytest.approx(edges.tolist())
    certain = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    right = calibration.scores(certain, np.array([0, 1]), np.arange(2))
    assert [score.value for score in right.values()] == [0, 0, 0]
    wrong = calibration.scores(certain, np.array([1, 0]), np.arange(2))
    assert [wrong["ece"].value, wrong["brier"].value] == [1, 2]
    assert np.isfinite(wrong["nll"].value)
    assert np.isfinite(calibration.apply_temperature(certain, 3.0)).all()
    assert np.isfinite(calibration.fit_temperature(certain, np.array([1, 0])))


def test_a_sigmoid_gives_back_probabilities_that_were_distorted():
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 2, 4000)
    truth = rng.random(4000) < expit(logits)
    fitted = calibration.fit_sigmoid(3 * logits + 1, truth)
    assert fitted == pytest.approx((1 / 3, -1 / 3), abs=0.05)
    for said, shown in ((-logits, truth), (logits, truth | True), (logits, truth & False)):
        assert calibration.fit_sigmoid(said, shown) is None


# Specialists


def stored(seed=0, shape=(6, 100, 100)):
    """Probabilities as a stream keeps them, all 256 steps of them."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def chance(probability, slope, offset):
    share = np.clip(probability / 255, calibration.EDGE, 1 - calibration.EDGE)
    return expit(slope * np.log(share / (1 - share)) + offset)


def drawn(probability, slope, offset):
    """A truth of which these probabilities, so calibrated, would be right."""
    likely = chance(probability, slope, offset)
    return np.random.default_rng(1).random(probability.shape) < likely


@pytest.mark.parametrize(("slope", "offset"), [(0.5, 1), (2, -1.5), (1, -4)])
def test_the_slope_and_the_offset_of_a_specialist_are_found(slope, offset):
    # Of each kind as many pixels are chosen at most: weights keep the frequency of a rare one.
    probability = stored(shape=(20, 100, 100))
    truth = drawn(probability, slope, offset)
    found = calibration.calibrate(truth, probability, seed=4)
    assert found == calibration.calibrate(truth, probability, seed=4)
    assert found == pytest.approx((slope, offset, True), abs=0.15)
    np.testing.assert_allclose(found(probability), chance(probability, slope, offset), atol=0.04)
    assert found(probability).mean() == pytest.approx(truth.mean(), rel=0.05)
    steps = found(np.arange(256, dtype=np.uint8))
    assert (np.diff(steps) >= 0).all()
    assert 0 < steps[0] < steps[-1] < 1


@pytest.mark.parametrize(
    "truth",
    [np.ones((2, 20, 20)), np.zeros((2, 20, 20)), np.zeros((0, 9, 9)), drawn(stored(4), -1, 0)],
    ids=["all", "none", "empty", "reversed"],
)
def test_without_a_kind_of_pixel_or_in_reverse_order_nothing_is_fitted(truth):
    assert calibration.calibrate(truth > 0, stored(4, truth.shape)) == (1, 0, False)


def test_the_surest_specialist_gets_the_pixel():
    rng = np.random.default_rng(6)
    maps = {label: rng.random((3, 7, 5)) for label in (2, 1, 3)}
    maps[3][0, 0, 1], maps[2][0, 0, 1], maps[1][0, 0, 1] = 0.6, 0, 0  # at the threshold
    labels = calibration.fuse(maps, 0.6)
    assert labels[0, 0, 1] == 3
    assert labels.dtype == np.uint8
    for at in np.ndindex(labels.shape):
        surest = max(maps, key=lambda label: maps[label][at])
        assert labels[at] == (surest if maps[surest][at] >= 0.6 else 0)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
