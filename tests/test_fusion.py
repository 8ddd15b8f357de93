"""Three specialists put together: their calibration on one scale, and who gets a pixel."""

import numpy as np
import pytest

from covid_utils.evaluation import calibration


def sigmoid(logit):
    return 1 / (1 + np.exp(-logit))


def stored(seed=0, shape=(6, 100, 100)):
    """Probabilities as a stream keeps them, all 256 steps of them."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def logit(probability):
    share = np.clip(probability / 255, calibration.EDGE, 1 - calibration.EDGE)
    return np.log(share / (1 - share))


def drawn(probability, slope, offset, seed=1):
    """A truth of which these probabilities, so calibrated, would be right."""
    chance = sigmoid(slope * logit(probability) + offset)
    return np.random.default_rng(seed).random(probability.shape) < chance


@pytest.mark.parametrize(("slope", "offset"), [(0.5, 1), (2, -1.5)])
def test_calibration_finds_the_slope_and_the_offset(slope, offset):
    probability = stored()
    truth = drawn(probability, slope, offset)
    found = calibration.calibrate(truth, probability, seed=4)
    assert found == calibration.calibrate(truth, probability, seed=4)
    assert found.is_fitted
    assert found.slope == pytest.approx(slope, abs=0.08)
    assert found.offset == pytest.approx(offset, abs=0.15)
    expected = sigmoid(slope * logit(probability) + offset)
    np.testing.assert_allclose(found(probability), expected, atol=0.04)
    steps = found(np.arange(256, dtype=np.uint8))
    assert (np.diff(steps) >= 0).all()
    assert 0 < steps[0] < steps[-1] < 1


def test_a_rare_manifestation_keeps_its_frequency():
    # Of each kind as many pixels are chosen at most: the weights put that right again.
    probability = stored(2, (20, 100, 100))
    truth = drawn(probability, 1, -4)
    assert truth.mean() < 0.1
    assert (~truth).sum() > calibration.PIXELS
    found = calibration.calibrate(truth, probability)
    assert found(probability).mean() == pytest.approx(truth.mean(), rel=0.05)


@pytest.mark.parametrize(
    "truth",
    [np.ones((2, 20, 20)), np.zeros((2, 20, 20)), np.zeros((0, 9, 9)), drawn(stored(4), -1, 0)],
    ids=["all", "none", "empty", "reversed"],
)
def test_without_a_kind_of_pixel_or_in_reverse_order_nothing_is_fitted(truth):
    fitted = calibration.calibrate(truth > 0, stored(4, truth.shape))
    assert fitted == calibration.Calibration(1, 0, is_fitted=False)


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
