"""Surface distances, extent and thresholds on masks whose answers are known."""

import numpy as np
import pytest

from covid_utils.errors import DataError
from covid_utils.evaluation import surfaces


def square(top, left, side, shape=(40, 50)):
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.mark.parametrize("shift", [0, 1, 4, 9])
def test_a_mask_shifted_sideways_is_that_far_away(shift):
    # The two far edges of 20 pixels are `shift` away: more than 5 % of the surface.
    distance = surfaces.hausdorff95(square(8, 5, 20), square(8, 5 + shift, 20))
    assert distance == pytest.approx(shift)


def test_a_square_within_a_square_is_as_far_as_its_margin():
    outer, inner = square(5, 5, 31), square(10, 10, 21)
    # Outward only the corners are further than the margin; the other direction has no corner.
    assert 5 <= surfaces.hausdorff95(outer, inner) <= 5 * np.sqrt(2)
    assert surfaces.hausdorff95(outer, inner) == surfaces.hausdorff95(inner, outer)


def test_the_larger_direction_counts():
    truth = square(5, 5, 10)
    spot = square(30, 40, 3)
    # Every pixel of the truth is found; what is far away is a quarter of the predicted surface.
    assert surfaces.hausdorff95(truth, truth | spot) > 25


def test_a_lone_far_pixel_is_within_the_five_per_cent():
    truth = square(5, 5, 20)
    predicted = truth.copy()
    predicted[39, 49] = True
    assert surfaces.hausdorff95(truth, predicted) == 0


def test_the_border_of_the_image_is_surface():
    whole, inside = np.ones((30, 30), bool), square(1, 1, 28, (30, 30))
    assert surfaces.hausdorff95(whole, inside) == pytest.approx(1, abs=0.01)


def test_spacing_scales_the_distance():
    pair = square(8, 5, 20), square(8, 9, 20)
    assert surfaces.hausdorff95(*pair, spacing=0.5) == pytest.approx(2)
    assert surfaces.hausdorff95(*pair, spacing=(10, 0.7)) == pytest.approx(2.8)


@pytest.mark.parametrize(
    ("has_truth", "has_prediction", "empty"),
    [(False, False, "both"), (True, False, "predicted"), (False, True, "truth")],
)
def test_an_empty_mask_has_no_distance(has_truth, has_prediction, empty):
    truth, predicted = square(5, 5, 9) & has_truth, square(5, 5, 9) & has_prediction
    assert np.isnan(surfaces.hausdorff95(truth, predicted))
    assert surfaces.which_is_empty(truth, predicted) == empty
    assert surfaces.which_is_empty(square(0, 0, 2), square(1, 1, 2)) == ""


@pytest.mark.parametrize(
    "pair",
    [
        (np.ones((4, 4), bool), np.ones((4, 5), bool)),
        (np.ones((2, 4, 4), bool), np.ones((2, 4, 4), bool)),
        (np.ones((4, 4), np.uint8), np.ones((4, 4), bool)),
    ],
)
def test_only_boolean_masks_of_one_slice_are_taken(pair):
    with pytest.raises(DataError, match="masks"):
        surfaces.hausdorff95(*pair)


def test_volume_error_is_signed_per_cent_of_the_lung():
    error = surfaces.volume_error([100, 50, 0, 3], [150, 0, 0, 3], [1000, 500, 800, 0])
    assert error == pytest.approx([5, -10, 0, np.nan], nan_ok=True)
    assert surfaces.volume_error(10, 30, 200) == pytest.approx(10)


@pytest.mark.parametrize("counts", [([1, 2], [1], [5, 5]), ([-1], [1], [5])])
def test_volume_error_refuses_what_are_no_counts(counts):
    with pytest.raises(DataError, match="volume error"):
        surfaces.volume_error(*counts)


@pytest.mark.parametrize("number", [2, 11, 256])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dice_over_thresholds_equals_a_loop(number, dtype):
    rng = np.random.default_rng(2020)
    truth = rng.random((30, 20)) < 0.2
    probability = rng.random((30, 20)).astype(dtype)
    probability[:3] = np.array([0, 1, 0.5, 0.1], dtype)[np.arange(20) % 4]  # on thresholds
    expected = []
    for threshold in np.linspace(0, 1, number):
        predicted = probability.astype(np.float64) >= threshold
        expected.append(2 * (truth & predicted).sum() / (truth.sum() + predicted.sum()))
    found = surfaces.dice_over_thresholds(truth, probability, number)
    assert found == pytest.approx(expected)


def test_a_perfect_prediction_is_held_back_by_the_lowest_threshold_only():
    truth = square(5, 5, 10)
    found = surfaces.dice_over_thresholds(truth, truth.astype(float))
    assert found.shape == (256,)
    assert found[0] == pytest.approx(2 * 100 / (100 + truth.size))
    assert (found[1:] == 1).all()


def test_dice_over_thresholds_without_a_lesion_is_undefined():
    found = surfaces.dice_over_thresholds(np.zeros((4, 4), bool), np.full((4, 4), 0.3), 5)
    assert np.isnan(found).all()
    assert found.shape == (5,)


@pytest.mark.parametrize(
    ("truth", "probability", "thresholds"),
    [
        (np.ones((2, 2), bool), np.zeros((2, 3)), 5),
        (np.ones((2, 2)), np.zeros((2, 2)), 5),
        (np.ones((2, 2), bool), np.full((2, 2), np.nan), 5),
        (np.ones((2, 2), bool), np.full((2, 2), 1.1), 5),
        (np.ones((2, 2), bool), np.zeros((2, 2)), 1),
    ],
)
def test_dice_over_thresholds_refuses(truth, probability, thresholds):
    with pytest.raises(DataError, match="thresholds"):
        surfaces.dice_over_thresholds(truth, probability, thresholds)
