"""Surface distances, extent and thresholds on masks whose answers are known."""

import numpy as np
import pytest

from covid_utils.evaluation import surfaces


def square(top, left, side, shape=(40, 50)):
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.mark.parametrize("shift", [0, 1, 4, 9])
def test_a_mask_shifted_sideways_is_that_far_away(shift):
    # The two far edges of 20 pixels are `shift` away: more than 5 % of the contour.
    distance = surfaces.hausdorff95(square(8, 5, 20), square(8, 5 + shift, 20))
    assert distance == pytest.approx(shift)


def test_the_larger_direction_counts_but_not_a_lone_pixel():
    outer, inner = square(5, 5, 31), square(10, 10, 21)
    # Outward only the corners are further than the margin; the other direction has no corner.
    assert 5 <= surfaces.hausdorff95(outer, inner) <= 5 * np.sqrt(2)
    assert surfaces.hausdorff95(outer, inner) == surfaces.hausdorff95(inner, outer)
    truth = square(5, 5, 20)
    # What is far away is an eighth of the predicted contour, or a single pixel of it.
    assert surfaces.hausdorff95(truth, truth | square(30, 40, 4)) > 15
    assert surfaces.hausdorff95(truth, truth | square(39, 49, 1)) == 0


def test_the_border_of_the_image_is_contour():
    whole, inside = np.ones((30, 30), bool), square(1, 1, 28, (30, 30))
    assert surfaces.hausdorff95(whole, inside) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(("has_truth", "has_prediction"), [(0, 0), (1, 0), (0, 1)])
def test_an_empty_mask_has_no_distance(has_truth, has_prediction):
    truth, predicted = square(5, 5, 9) & bool(has_truth), square(5, 5, 9) & bool(has_prediction)
    assert np.isnan(surfaces.hausdorff95(truth, predicted))


def test_volume_error_is_signed_per_cent_of_the_lung():
    error = surfaces.volume_error([100, 50, 0, 3], [150, 0, 0, 3], [1000, 500, 800, 0])
    assert error == pytest.approx([5, -10, 0, np.nan], nan_ok=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dice_over_thresholds_equals_a_loop(dtype):
    rng = np.random.default_rng(2020)
    truth = rng.random((30, 20)) < 0.2
    probability = rng.random((30, 20)).astype(dtype)
    probability[:3] = np.array([0, 1, 0.6, 0.2], dtype)[np.arange(20) % 4]  # on thresholds
    expected = []
    for threshold in np.linspace(0, 1, 256):
        predicted = probability.astype(np.float64) >= threshold
        expected.append(2 * (truth & predicted).sum() / (truth.sum() + predicted.sum()))
    assert surfaces.dice_over_thresholds(truth, probability) == pytest.approx(expected)


def test_a_perfect_prediction_is_limited_by_the_lowest_threshold_only():
    truth = square(5, 5, 10)
    dice = surfaces.dice_over_thresholds(truth, truth.astype(float))
    assert dice[0] == pytest.approx(2 * 100 / (100 + truth.size))
    assert (dice[1:] == 1).all()
    assert np.isnan(surfaces.dice_over_thresholds(truth & False, truth.astype(float))).all()
