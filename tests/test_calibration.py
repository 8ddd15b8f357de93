"""Calibration, against loops, scikit-learn and simulated truth."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from covid_utils.evaluation import calibration, intervals


def softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def simulated(cases, classes, seed, spread=2.0):
    """Probabilities, and truths drawn from these very probabilities; with the logits."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, (cases, classes))
    cumulated = softmax(logits).cumsum(axis=1)
    truth = (rng.random((cases, 1)) > cumulated).sum(axis=1)
    return softmax(logits), np.minimum(truth, classes - 1), logits


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


def test_a_bin_includes_its_upper_edge():
    edges = np.arange(2, 11) / 10
    shares = np.array([[edge, *[(1 - edge) / 9] * 9] for edge in edges])
    table = calibration.reliability(shares, np.zeros(9, int))
    assert table["high"].tolist() == pytest.approx(edges.tolist())


def test_whole_patients_are_drawn():
    probabilities, truth, _ = simulated(60, 2, seed=5)
    alone = calibration.scores(probabilities, truth, np.arange(60))
    # Six copies of each case tell nothing more.
    copies = [np.repeat(part, 6, axis=0) for part in (probabilities, truth, np.arange(60))]
    by_patient = calibration.scores(*copies)
    for name in ("brier", "nll"):
        assert by_patient[name][:3] == pytest.approx(alone[name][:3])


@pytest.mark.parametrize("temperature", [0.4, 1.0, 4.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_temperature_that_sharpened_the_logits_is_fitted(temperature, classes):
    _, truth, logits = simulated(20_000, classes, seed=2)
    sharpened = softmax(temperature * logits).astype(np.float32)
    fitted = calibration.fit_temperature(sharpened, truth)
    assert fitted == pytest.approx(temperature, rel=0.04)
    softened = calibration.apply_temperature(sharpened, fitted)
    # A hundred patients with 200 cases each: the bootstrap's time grows with the patients.
    assert calibration.scores(softened, truth, np.arange(20_000) % 100)["ece"].value < 0.015


def test_certain_probabilities_have_scores_and_a_temperature():
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
    truth = rng.random(4000) < 1 / (1 + np.exp(-logits))
    fitted = calibration.fit_sigmoid(3 * logits + 1, truth)
    assert fitted == pytest.approx((1 / 3, -1 / 3), abs=0.05)
    for said, shown in ((-logits, truth), (logits, truth | True), (logits, truth & False)):
        assert calibration.fit_sigmoid(said, shown) is None
