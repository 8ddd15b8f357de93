"""Three specialists put together: their calibration on one scale, and who gets a pixel."""

import numpy as np
import pytest

from covid_utils.errors import DataError
from covid_utils.evaluation import fusion


def sigmoid(logit):
    return 1 / (1 + np.exp(-logit))


def stored(seed=0, shape=(6, 100, 100)):
    """Probabilities as a stream keeps them, all 256 steps of them."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def logit(probability):
    share = np.clip(probability / 255, fusion.EDGE, 1 - fusion.EDGE)
    return np.log(share / (1 - share))


def drawn(probability, slope, offset, seed=1):
    """A truth of which these probabilities, so calibrated, would be right."""
    chance = sigmoid(slope * logit(probability) + offset)
    return np.random.default_rng(seed).random(probability.shape) < chance


@pytest.mark.parametrize(("slope", "offset"), [(1, 0), (0.5, 1), (2, -1.5), (0.7, -3)])
def test_calibration_finds_the_slope_and_the_offset(slope, offset):
    probability = stored()
    found = fusion.calibrate(drawn(probability, slope, offset), probability)
    assert found.is_fitted
    assert found.slope == pytest.approx(slope, abs=0.08)
    assert found.offset == pytest.approx(offset, abs=0.15)
    expected = sigmoid(slope * logit(probability) + offset)
    np.testing.assert_allclose(found(probability), expected, atol=0.04)


def test_a_rare_manifestation_keeps_its_frequency():
    # Of each kind as many pixels are chosen at most: the weights put that right again.
    probability = stored(2, (20, 100, 100))
    truth = drawn(probability, 1, -4)
    assert truth.mean() < 0.1
    assert (~truth).sum() > fusion.PIXELS
    found = fusion.calibrate(truth, probability)
    assert found(probability).mean() == pytest.approx(truth.mean(), rel=0.05)


def test_calibration_keeps_shape_and_order_and_repeats_itself():
    probability = stored(3)
    truth = drawn(probability, 0.5, -1)
    found = fusion.calibrate(truth, probability, seed=4)
    assert found == fusion.calibrate(truth, probability, seed=4)
    assert found(probability).shape == probability.shape
    steps = found(np.arange(256, dtype=np.uint8))
    assert (np.diff(steps) >= 0).all()
    assert 0 < steps[0] < steps[-1] < 1


def is_left_alone(found):
    return found == fusion.Calibration(1, 0, is_fitted=False)


@pytest.mark.parametrize(
    "truth", [np.ones((2, 20, 20)), np.zeros((2, 20, 20)), np.zeros((0, 9, 9))]
)
def test_without_a_kind_of_pixel_there_is_nothing_to_fit(truth):
    assert is_left_alone(fusion.calibrate(truth > 0, stored(4, truth.shape)))


def test_a_specialist_that_is_wrong_is_not_turned_around():
    probability = stored(5)
    assert is_left_alone(fusion.calibrate(drawn(probability, -1, 0), probability))


def test_the_surest_specialist_gets_the_pixel():
    rng = np.random.default_rng(6)
    maps = {label: rng.random((3, 7, 5)) for label in (2, 1, 3)}
    labels = fusion.fuse(maps, 0.6)
    assert labels.dtype == np.uint8
    for at in np.ndindex(labels.shape):
        surest = max(maps, key=lambda label: maps[label][at])
        assert labels[at] == (surest if maps[surest][at] >= 0.6 else 0)
    assert set(np.unique(labels)) == {0, 1, 2, 3}


def test_a_pixel_at_the_threshold_is_a_lesion_and_one_below_is_background():
    maps = {1: np.array([[[0.5, 0.499, 0.2]]]), 3: np.array([[[0.1, 0.1, 0.7]]])}
    assert fusion.fuse(maps, 0.5).tolist() == [[[1, 0, 3]]]
    assert fusion.fuse(maps, 0.71).tolist() == [[[0, 0, 0]]]


@pytest.mark.parametrize("shapes", [[], [(2, 4, 4), (3, 4, 4)], [(2, 4, 4), (2, 4, 5)]])
def test_maps_of_other_slices_are_refused(shapes):
    with pytest.raises(DataError, match="of the same slices"):
        fusion.fuse({number: np.zeros(shape) for number, shape in enumerate(shapes)}, 0.5)
