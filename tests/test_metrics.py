"""Metrics against scikit-learn, and where they must be undefined."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as reference

from covid_utils.errors import DataError
from covid_utils.evaluation import metrics
from covid_utils.evaluation.metrics import Counts

REFERENCE = {
    "sensitivity": lambda t, p: reference.recall_score(t, p, zero_division=np.nan),
    "specificity": lambda t, p: reference.recall_score(t, p, pos_label=0, zero_division=np.nan),
    "accuracy": reference.accuracy_score,
    "precision": lambda t, p: reference.precision_score(t, p, zero_division=np.nan),
    "f1": lambda t, p: reference.f1_score(t, p, zero_division=np.nan),
    "dice": lambda t, p: reference.f1_score(t, p, zero_division=np.nan),
    "iou": reference.jaccard_score,
    "mcc": reference.matthews_corrcoef,
}


@pytest.fixture
def rng():
    return np.random.default_rng(20200624)


@pytest.mark.parametrize("name", list(metrics.METRICS))
@pytest.mark.parametrize("share", [0.03, 0.5, 0.9])
def test_binary_metrics_equal_scikit_learn(rng, name, share):
    truth = rng.random(500) < share
    predicted = truth ^ (rng.random(500) < 0.2)
    counts = metrics.count_binary(truth, predicted)
    assert metrics.METRICS[name](counts) == pytest.approx(REFERENCE[name](truth, predicted))


@pytest.mark.parametrize(
    ("name", "truth", "predicted", "expected"),
    [
        ("sensitivity", [0, 0], [0, 1], np.nan),
        ("specificity", [1, 1], [0, 1], np.nan),
        ("precision", [0, 1], [0, 0], np.nan),
        ("f1", [0, 1], [0, 0], 0.0),
        ("dice", [0, 0], [0, 0], np.nan),
        ("dice", [0, 0], [1, 0], 0.0),
        ("iou", [0, 0], [0, 0], np.nan),
        ("accuracy", [], [], np.nan),
        ("mcc", [1, 0], [1, 1], np.nan),
        ("mcc", [1, 1], [1, 0], np.nan),
        ("mcc", [1, 0], [0, 1], -1.0),
    ],
)
def test_edge_cases(name, truth, predicted, expected):
    counts = metrics.count_binary(np.array(truth, bool), np.array(predicted, bool))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = metrics.METRICS[name](counts)
    assert value == pytest.approx(expected, nan_ok=True)


def test_counts_keep_the_axes_not_counted_over(rng):
    truth, predicted = rng.random((2, 7, 16, 16)) < 0.3
    counts = metrics.count_binary(truth, predicted, axis=(1, 2))
    assert counts.tp.shape == (7,)
    assert counts[4].parts == metrics.count_binary(truth[4], predicted[4]).parts
    assert counts.sum(axis=0).parts == metrics.count_binary(truth, predicted).parts
    both = metrics.stack([counts, counts[::-1]])
    assert both.tp.shape == (7, 2)
    assert both[2, 1].parts == counts[4].parts


def test_mcc_survives_the_pixel_counts_of_a_whole_set():
    # 5000 slices of 512 x 512; the product of the four margins exceeds 64-bit integers.
    share = np.array([3, 1, 2, 94], dtype=np.int64)
    pixels = share * (5000 * 512 * 512 // 100)
    assert metrics.mcc(Counts(*pixels)) == pytest.approx(metrics.mcc(Counts(*share)))


def test_confusion_equals_scikit_learn(rng):
    truth, predicted = rng.integers(0, 4, (2, 300))
    matrix = metrics.confusion(truth, predicted, range(4))
    np.testing.assert_array_equal(matrix, reference.confusion_matrix(truth, predicted))
    names = np.array(["normal", "covid", "viral", "bacterial"])
    by_name = metrics.confusion(names[truth], names[predicted], list(names))
    np.testing.assert_array_equal(by_name, matrix)
    units = metrics.unit_confusion(truth, predicted, range(4))
    assert units.shape == (300, 4, 4)
    np.testing.assert_array_equal(units.sum(axis=0), matrix)
    absent = metrics.confusion(np.array([0, 0, 2]), np.array([0, 2, 2]), range(4))
    assert absent.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("classes", [2, 4])
def test_multiclass_scores_equal_scikit_learn(rng, classes):
    truth = rng.integers(0, classes, 300)
    predicted = np.where(rng.random(300) < 0.6, truth, rng.integers(0, classes, 300))
    both = np.stack([metrics.confusion(truth, p, range(classes)) for p in (predicted, truth)])
    expected = reference.matthews_corrcoef(truth, predicted)
    assert metrics.multiclass_mcc(both) == pytest.approx([expected, 1])
    assert np.isnan(metrics.multiclass_mcc([[5, 0, 0], [3, 0, 0], [2, 0, 0]]))
    counts = metrics.one_vs_rest(both)[0]
    expected = reference.multilabel_confusion_matrix(truth, predicted).reshape(classes, 4).T
    np.testing.assert_array_equal(counts.parts, expected[[3, 1, 2, 0]])
    macro = reference.f1_score(truth, predicted, average="macro")
    assert metrics.macro(metrics.f1(counts)) == pytest.approx(macro)


def test_macro_leaves_undefined_values_out():
    values = np.array([[0.2, np.nan, 0.6], [np.nan, np.nan, np.nan]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        means = metrics.macro(values)
    assert means == pytest.approx([0.4, np.nan], nan_ok=True)


@pytest.mark.parametrize(("truth", "predicted"), [([0, 255], [0, 1]), ([0, 1], [0, 255])])
def test_a_label_that_is_no_class_is_refused(truth, predicted):
    with pytest.raises(DataError, match="label '255' is not among the classes"):
        metrics.confusion(np.array(truth), np.array(predicted), range(4))
