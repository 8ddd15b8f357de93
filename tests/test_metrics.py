"""Metrics against scikit-learn, masks whose answers are known, and where all are undefined."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as reference

from covid_utils.errors import DataError
from covid_utils.evaluation import metrics

REFERENCE = {
    "sensitivity": reference.recall_score,
    "specificity": lambda t, p: reference.recall_score(t, p, pos_label=0),
    "accuracy": reference.accuracy_score,
    "precision": reference.precision_score,
    "f1": reference.f1_score,
    "dice": reference.f1_score,
    "iou": reference.jaccard_score,
    "mcc": reference.matthews_corrcoef,
}


@pytest.fixture
def rng():
    return np.random.default_rng(20200624)


@pytest.mark.parametrize("name", [*metrics.FRACTIONS, "mcc"])
@pytest.mark.parametrize("share", [0.03, 0.5, 0.9])
def test_binary_metrics_equal_scikit_learn(rng, name, share):
    truth = rng.random(500) < share
    predicted = truth ^ (rng.random(500) < 0.2)
    counts = metrics.count(truth, predicted)
    assert metrics.score(name, counts) == pytest.approx(REFERENCE[name](truth, predicted))


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


def test_counts_keep_the_axes_not_counted_over(rng):
    truth, predicted = rng.random((2, 7, 16, 16)) < 0.3
    counts = metrics.count(truth, predicted, axis=(1, 2))
    assert counts.shape == (7, 4)
    assert counts[4].tolist() == metrics.count(truth[4], predicted[4]).tolist()
    assert counts.sum(axis=0).tolist() == metrics.count(truth, predicted).tolist()


def test_mcc_survives_the_pixel_counts_of_a_whole_set():
    # 5000 slices of 512 x 512; the product of the four margins exceeds 64-bit integers.
    share = np.array([3, 1, 2, 94], dtype=np.int64)
    pixels = share * (5000 * 512 * 512 // 100)
    assert metrics.mcc(pixels) == pytest.approx(metrics.mcc(share))


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_of_several_classes_equal_scikit_learn(rng, classes):
    names = np.array(["normal", "covid", "viral", "bacterial"])[:classes]
    truth = names[rng.integers(0, classes, 300)]
    predicted = np.where(rng.random(300) < 0.6, truth, names[rng.integers(0, classes, 300)])
    matrix = metrics.unit_confusion(truth, predicted, names).sum(axis=0)
    expected = reference.confusion_matrix(truth, predicted, labels=names)
    np.testing.assert_array_equal(matrix, expected)
    both = np.stack([matrix, np.diag(matrix.sum(axis=1))])
    expected = reference.matthews_corrcoef(truth, predicted)
    assert metrics.multiclass_mcc(both) == pytest.approx([expected, 1])
    assert np.isnan(metrics.multiclass_mcc([[5, 0, 0], [3, 0, 0], [2, 0, 0]]))
    counts = metrics.one_vs_rest(both)[0]
    expected = reference.multilabel_confusion_matrix(truth, predicted, labels=names)
    np.testing.assert_array_equal(counts, expected.reshape(classes, 4)[:, [3, 1, 2, 0]])
    macro = reference.f1_score(truth, predicted, average="macro")
    assert metrics.macro(metrics.score("f1", counts)) == pytest.approx(macro)


@pytest.mark.parametrize("pair", [([0, 255], [0, 1]), ([0, 1], [0, 255])])
def test_a_label_that_is_no_class_is_refused(pair):
    with pytest.raises(DataError, match="label '255' is not among the classes"):
        metrics.unit_confusion(*map(np.array, pair), range(4))


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


def test_dice_over_thresholds_equals_a_loop(rng):
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
