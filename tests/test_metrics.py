"""Metrics whose answers are known, and where all are undefined; `test_scoring` has the rest."""

import warnings

import numpy as np
import pytest

from covid_utils.evaluation import metrics


@pytest.mark.parametrize(
    ("name", "truth", "predicted", "expected"),
    [
        ("sensitivity", [0, 0], [0, 1], np.nan),
        ("specificity", [1, 1], [0, 1], np.nan),
        ("precision", [0, 1], [0, 0], np.nan),
        ("f1", [0, 1], [0, 0], 0.0),
        ("dice", [0, 0], [0, 0], np.nan),
        ("accuracy", [], [], np.nan),
        ("mcc", [1, 0], [1, 1], np.nan),
        ("mcc", [1, 1], [1, 0], np.nan),
        ("mcc", [1, 0], [0, 1], -1.0),
    ],
)
def test_edge_cases(name, truth, predicted, expected):
    counts = metrics.count(np.array(truth, bool), np.array(predicted, bool))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = metrics.score(name, counts)
    assert value == pytest.approx(expected, nan_ok=True)


def test_mcc_survives_the_pixel_counts_of_a_whole_set():
    # 5000 slices of 512 x 512; the product of the four margins exceeds 64-bit integers.
    share = np.array([3, 1, 2, 94], dtype=np.int64)
    pixels = share * (5000 * 512 * 512 // 100)
    assert metrics.mcc(pixels) == pytest.approx(metrics.mcc(share))


def test_macro_leaves_undefined_values_out():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        means = metrics.macro(np.array([[0.2, np.nan, 0.6], [np.nan, np.nan, np.nan]]))
    assert means == pytest.approx([0.4, np.nan], nan_ok=True)


# --- Measures of masks ---------------------------------------------------------------------------


def square(top, left, side, shape=(40, 50)):
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_the_larger_direction_counts_but_not_a_lone_pixel():
    outer, inner = square(5, 5, 31), square(10, 10, 21)
    # Outward only the corners are further than the margin; the other direction has no corner.
    assert 5 <= metrics.hausdorff95(outer, inner) <= 5 * np.sqrt(2)
    assert metrics.hausdorff95(outer, inner) == metrics.hausdorff95(inner, outer)
    truth = square(5, 5, 20)
    # What is far away is an eighth of the predicted contour, or a single pixel of it.
    assert metrics.hausdorff95(truth, truth | square(30, 40, 4)) > 15
    assert metrics.hausdorff95(truth, truth | square(39, 49, 1)) == 0
    # The border of the image is contour; an empty mask has none.
    whole, inside = np.ones((30, 30), bool), square(1, 1, 28, (30, 30))
    assert metrics.hausdorff95(whole, inside) == pytest.approx(1, abs=0.01)
    for pair in (truth, truth & False), (truth & False, truth), (truth & False, truth & False):
        assert np.isnan(metrics.hausdorff95(*pair))


def test_dice_over_thresholds_equals_a_loop():
    rng = np.random.default_rng(20200624)
    truth = rng.random((30, 20)) < 0.2
    probability = rng.random((30, 20)).astype(np.float32)
    probability[:3] = np.float32([0, 1, 0.6, 0.2])[np.arange(20) % 4]  # on thresholds
    called = [probability.astype(np.float64) >= limit for limit in np.linspace(0, 1, 256)]
    expected = [metrics.score("dice", metrics.count(truth, part)).item() for part in called]
    assert metrics.dice_over_thresholds(truth, probability) == pytest.approx(expected)
    # Of a perfect prediction only the lowest threshold misses.
    dice = metrics.dice_over_thresholds(truth, truth.astype(float))
    assert dice[0] == pytest.approx(2 * truth.sum() / (truth.sum() + truth.size))
    assert (dice[1:] == 1).all()
    assert np.isnan(metrics.dice_over_thresholds(truth & False, truth.astype(float))).all()
