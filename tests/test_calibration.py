"""Calibration, against loops, scikit-learn and simulated truth."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from covid_utils.errors import DataError
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


#: A hundred patients with 200 cases each: the bootstrap's time grows with the patients.
FEW = np.arange(20_000) % 100


def each(cases):
    """Every case is its own patient."""
    return np.arange(cases)


@pytest.mark.parametrize(("classes", "bins"), [(2, 10), (4, 10), (3, 7)])
def test_reliability_counts_like_a_loop(classes, bins):
    probabilities, truth, _ = simulated(300, classes, seed=classes)
    inside = {}
    for shares, true in zip(probabilities, truth, strict=True):
        named = max(range(classes), key=lambda k: shares[k])
        at = next(i for i in range(bins) if shares[named] <= (i + 1) / bins)
        inside.setdefault(at, []).append((shares[named], named == true))
    table = calibration.reliability(probabilities, truth, bins)
    assert len(table) == len(inside)
    assert table["n"].sum() == 300
    for line, at in zip(table.itertuples(), sorted(inside), strict=True):
        sure, right = zip(*inside[at], strict=True)
        assert (line.low, line.high) == pytest.approx((at / bins, (at + 1) / bins))
        assert line.n == len(sure)
        assert line.confidence == pytest.approx(sum(sure) / len(sure))
        assert line.accuracy == pytest.approx(sum(right) / len(right))
        assert line.low < line.confidence <= line.high
        limits = intervals.wilson(sum(right), len(right))
        assert (line.accuracy_low, line.accuracy_high) == (limits.low, limits.high)


def test_a_bin_holds_its_upper_edge():
    shares = np.array([0.5, 0.75, 1.0, 0.500001])
    table = calibration.reliability(np.stack([shares, 1 - shares], axis=1), np.zeros(4, int), 4)
    assert table["low"].tolist() == [0.25, 0.5, 0.75]
    assert table["high"].tolist() == [0.5, 0.75, 1.0]
    assert table["n"].tolist() == [1, 2, 1]


@pytest.mark.parametrize("classes", [2, 4])
def test_calibration_error_is_the_mean_gap_over_bins(classes):
    probabilities, truth, _ = simulated(500, classes, seed=9)
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    expected = 0.0
    for at in range(10):
        here = (sure > at / 10) & (sure <= (at + 1) / 10)
        if here.any():
            expected += here.mean() * abs(sure[here].mean() - right[here].mean())
    found = calibration.scores(probabilities, truth, each(500))["ece"]
    assert found.value == pytest.approx(expected)
    # Resamples lean upwards, further than the value itself does: no interval is claimed.
    assert np.isnan([found.low, found.high]).all()
    assert found.n == 500


@pytest.mark.parametrize("classes", [2, 4])
def test_brier_and_likelihood_equal_other_implementations(classes):
    probabilities, truth, _ = simulated(200, classes, seed=3)
    found = calibration.scores(probabilities, truth, each(200))
    assert found["nll"].value == pytest.approx(log_loss(truth, probabilities))
    shares = probabilities[:, 1] if classes == 2 else probabilities
    squares = brier_score_loss(truth, shares, scale_by_half=False)
    assert found["brier"].value == pytest.approx(squares)


def test_scores_of_extreme_answers():
    certain = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    right = calibration.scores(certain, np.array([0, 1]), each(2))
    assert [right[name].value for name in ("ece", "brier", "nll")] == [0, 0, 0]
    wrong = calibration.scores(certain, np.array([1, 0]), each(2))
    assert [wrong[name].value for name in ("ece", "brier")] == [1, 2]
    assert np.isfinite(wrong["nll"].value)
    even = calibration.scores(np.full((4, 4), 0.25), np.arange(4), each(4))
    assert even["ece"].value == pytest.approx(0)
    assert even["nll"].value == pytest.approx(np.log(4))


def test_whole_patients_are_drawn():
    probabilities, truth, _ = simulated(60, 2, seed=5)
    alone = calibration.scores(probabilities, truth, each(60))
    repeated = [np.repeat(part, 6, axis=0) for part in (probabilities, truth, each(60))]
    pretended = calibration.scores(*repeated[:2], each(360))
    honest = calibration.scores(*repeated)
    for name in ("ece", "brier", "nll"):
        assert honest[name].value == pytest.approx(alone[name].value)
    for name in ("brier", "nll"):
        width = honest[name].high - honest[name].low
        assert width == pytest.approx(alone[name].high - alone[name].low)
    # Six copies of each case would seem to say more.
    nll = pretended["nll"]
    assert nll.high - nll.low < 0.6 * (alone["nll"].high - alone["nll"].low)


@pytest.mark.parametrize("classes", [2, 4])
def test_calibrated_answers_have_a_small_error_and_sharpened_ones_a_large_one(classes):
    probabilities, truth, logits = simulated(20_000, classes, seed=1, spread=1.0)
    calibrated = calibration.scores(probabilities, truth, FEW)
    assert calibrated["ece"].value < 0.015
    sharpened = calibration.scores(softmax(3 * logits), truth, FEW)
    assert sharpened["ece"].value > 0.1
    table = calibration.reliability(probabilities, truth)
    hit = table["accuracy_low"].le(table["confidence"]) & table["accuracy_high"].ge(
        table["confidence"]
    )
    assert hit.mean() >= 0.75
    assert calibration.reliability(softmax(3 * logits), truth)["accuracy"].iloc[-1] < 0.95


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5, 4.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_temperature_that_sharpened_the_logits_is_found(temperature, classes):
    _, truth, logits = simulated(20_000, classes, seed=2)
    said = softmax(temperature * logits).astype(np.float32)
    found = calibration.fit_temperature(said, truth)
    assert found == pytest.approx(temperature, rel=0.04)
    before, after = (
        calibration.scores(shares, truth, FEW)
        for shares in (said, calibration.apply_temperature(said, found))
    )
    assert after["nll"].value <= before["nll"].value
    assert after["ece"].value < 0.015


def test_no_temperature_does_better():
    _, truth, logits = simulated(400, 3, seed=8)
    said = softmax(1.7 * logits)
    best = calibration.fit_temperature(said, truth)

    def loss(temperature):
        return log_loss(truth, calibration.apply_temperature(said, temperature))

    assert all(loss(best) <= loss(other) + 1e-9 for other in np.geomspace(0.1, 10, 200))


def test_a_temperature_stays_in_its_range():
    low, high = calibration.RANGE
    shares = np.array([[0.9, 0.1], [0.2, 0.8]] * 10)
    always = shares.argmax(axis=1)
    assert low <= calibration.fit_temperature(shares, always) < 1.05 * low
    assert 0.95 * high < calibration.fit_temperature(shares, 1 - always) <= high


def test_temperature_1_changes_nothing():
    probabilities, _, _ = simulated(50, 4, seed=6)
    assert np.allclose(calibration.apply_temperature(probabilities, 1.0), probabilities)


@pytest.mark.parametrize("temperature", [0.1, 0.7, 3.0, 10.0])
def test_a_temperature_divides_the_logits_and_keeps_the_answer(temperature):
    probabilities, _, logits = simulated(500, 4, seed=7, spread=3.0)
    scaled = calibration.apply_temperature(probabilities.astype(np.float32), temperature)
    assert np.allclose(scaled.sum(axis=1), 1)
    assert np.array_equal(scaled.argmax(axis=1), probabilities.argmax(axis=1))
    assert np.allclose(scaled, softmax(logits / temperature), atol=1e-4)
    sure = scaled.max(axis=1) - probabilities.max(axis=1)
    assert (sure > -1e-6).all() if temperature < 1 else (sure < 1e-6).all()


def test_a_probability_of_0_is_no_obstacle():
    certain = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    scaled = calibration.apply_temperature(certain, 10.0)
    assert np.isfinite(scaled).all()
    assert np.array_equal(scaled.argmax(axis=1), [0, 1])
    assert scaled[1, 1] == scaled[1, 2]
    assert np.isfinite(calibration.fit_temperature(certain, np.array([1, 0])))


@pytest.mark.parametrize(
    ("probabilities", "truth", "message"),
    [
        ([0.5, 0.5], [0, 1], "give one row of class probabilities for each case"),
        ([[0.5, 0.5]], [0, 1], "give one row of class probabilities for each case"),
        ([[0.5, 0.6]], [0], "do not sum to 1"),
        ([[2.0, 1.0]], [0], "do not sum to 1"),
        ([[np.nan, 1.0]], [0], "do not sum to 1"),
    ],
)
def test_what_are_no_probabilities_is_refused(probabilities, truth, message):
    given = np.array(probabilities), np.array(truth)
    with pytest.raises(DataError, match=message):
        calibration.reliability(*given)
    with pytest.raises(DataError, match=message):
        calibration.scores(*given, each(len(truth)))


def test_a_temperature_needs_cases():
    with pytest.raises(DataError, match="no validation case"):
        calibration.fit_temperature(np.empty((0, 2)), np.empty(0, int))


@pytest.mark.parametrize(
    ("shares", "truth", "message"),
    [
        ([[1.5, -0.5]], [0], "negative or do not sum to 1"),
        ([[0.5, 0.5]], [2], "none of the 2 classes"),
        ([[0.5, 0.5]], [-1], "none of the 2 classes"),
    ],
)
def test_what_is_no_probability_or_no_class_is_refused(shares, truth, message):
    with pytest.raises(DataError, match=message):
        calibration.confidence(np.array(shares), np.array(truth))


@pytest.mark.parametrize("bins", [10, 20, 100])
def test_every_edge_belongs_to_the_bin_below_it(bins):
    edges = np.arange(1, bins + 1) / bins
    assert calibration._bin(edges, bins).tolist() == list(range(bins))


def test_scores_take_lists():
    shares, truth = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [0, 1, 1]
    found = calibration.scores(shares, truth, ["a", "b", "c"])
    assert found["brier"].value == pytest.approx((0.02 + 0.08 + 0.72) / 3)
