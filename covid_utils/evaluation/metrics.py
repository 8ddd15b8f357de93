"""The paper's metrics, as plain NumPy on counts.

Counts go in, a metric comes out, and both may have any shape: one number, one a class, one an
image or one a bootstrap resample. Where a metric is 0/0 it is NaN and never 0 or 1: a slice without
lesion in which none was found has no Dice, a set without positives has no sensitivity. Such NaN are
left out of means (`macro`), and how many were left out can be told.

Counts summed over images before the metric give the pooled value, in which large lesions weigh
most; the mean of one value an image weighs every image alike. A table says which of the two it is.

All metrics lie in [0, 1] except the Matthews correlation coefficients in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from covid_utils.errors import DataError

Axis = int | tuple[int, ...] | None


@dataclass(frozen=True, eq=False)
class Counts:
    """Outcomes of a two-way decision: cases, or pixels of a mask.

    Attributes:
        tp: True positives.
        fp: False positives.
        fn: False negatives.
        tn: True negatives. All four are float64 of one shape; the shape is free. Floats, because
            the products in `mcc` exceed 64-bit integers already for the pixels of a few slices.

    Raises:
        DataError: The four shapes differ.
    """

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    def __post_init__(self) -> None:
        for name in ("tp", "fp", "fn", "tn"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        shapes = {self.tp.shape, self.fp.shape, self.fn.shape, self.tn.shape}
        if len(shapes) > 1:
            raise DataError(
                f"counts: the shapes {sorted(shapes)} differ; count all four over the same axes."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape that the four arrays share."""
        return self.tp.shape

    def sum(self, axis: Axis = None) -> Counts:
        """Pool counts over an axis, for example over images; over everything if None."""
        return Counts(*(part.sum(axis=axis) for part in (self.tp, self.fp, self.fn, self.tn)))

    def __getitem__(self, index: object) -> Counts:
        return Counts(self.tp[index], self.fp[index], self.fn[index], self.tn[index])


def count_binary(truth: np.ndarray, predicted: np.ndarray, axis: Axis = None) -> Counts:
    """Count the outcomes of a two-way decision.

    Args:
        truth: What is so: boolean, or 0 and 1; any shape.
        predicted: What was said, of the same shape.
        axis: Axes to count over; ``(1, 2)`` on masks (images, height, width) gives one count an
            image, None counts everything.

    Returns:
        Counts with the axes that were not counted over.

    Raises:
        DataError: The shapes differ, or a value is neither 0 nor 1.
    """
    truth, predicted = _boolean(truth, "truth"), _boolean(predicted, "prediction")
    _same_shape(truth, predicted)
    tp = np.count_nonzero(truth & predicted, axis=axis)
    positives = np.count_nonzero(truth, axis=axis)
    called = np.count_nonzero(predicted, axis=axis)
    tn = np.count_nonzero(~(truth | predicted), axis=axis)
    return Counts(tp, called - tp, positives - tp, tn)


def _boolean(values: np.ndarray, role: str) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype == bool:
        return values
    positive = values == 1
    # A mask of labels or of 0 and 255 would otherwise pass as one big lesion.
    if not np.all(positive | (values == 0)):
        raise DataError(f"{role}: values other than 0 and 1; compare with a label or threshold.")
    return positive


def _same_shape(truth: np.ndarray, predicted: np.ndarray) -> None:
    if truth.shape != predicted.shape:
        raise DataError(
            f"truth {truth.shape} and prediction {predicted.shape} differ in shape; "
            "give one prediction for each case, in the same order."
        )


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int | Sequence) -> np.ndarray:
    """Confusion matrix.

    Args:
        truth: True classes, any shape.
        predicted: Predicted classes, of the same shape.
        classes: The class labels in the order wanted, or a number K for the labels 0 to K-1.

    Returns:
        int64 (K, K): the row is the true class, the column the predicted one.

    Raises:
        DataError: The shapes differ, or a label is not among the classes. Pixels to be ignored
            (255) are taken out by the caller, so that none disappears unseen.
    """
    cells, number = _cells(truth, predicted, classes)
    return np.bincount(cells, minlength=number * number).reshape(number, number)


def unit_confusion(truth: np.ndarray, predicted: np.ndarray, classes: int | Sequence) -> np.ndarray:
    """One confusion matrix a case, which is what a bootstrap of a multi-class metric resamples.

    Args:
        truth: True classes (N,).
        predicted: Predicted classes (N,).
        classes: As for `confusion`.

    Returns:
        int64 (N, K, K) with a single 1 in each matrix; its sum over N is `confusion`.

    Raises:
        DataError: As for `confusion`.
    """
    cells, number = _cells(truth, predicted, classes)
    units = np.zeros((len(cells), number * number), np.int64)
    units[np.arange(len(cells)), cells] = 1
    return units.reshape(-1, number, number)


def _cells(truth: np.ndarray, predicted: np.ndarray, classes: int | Sequence) -> tuple:
    """Flat index into the confusion matrix of every case, and the number of classes."""
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    _same_shape(truth, predicted)
    labels = list(range(classes)) if isinstance(classes, int) else list(classes)
    if not labels or len(set(labels)) != len(labels):
        raise DataError(f"classes {labels}: none, or one repeats; name each class once.")
    rows, columns = (_codes(values, labels) for values in (truth, predicted))
    return rows * len(labels) + columns, len(labels)


def _codes(values: np.ndarray, labels: list) -> np.ndarray:
    values = values.ravel()
    if values.dtype == bool and not isinstance(labels[0], bool):
        values = values.astype(np.int64)  # no and yes are the classes 0 and 1
    codes = pd.Index(labels).get_indexer(pd.Index(values))
    if (codes < 0).any():
        strange = values[codes < 0][0]
        raise DataError(
            f"label '{strange}' is not among the classes {labels}; map or leave out such cases."
        )
    return codes.astype(np.int64)


def one_vs_rest(confusion: np.ndarray) -> Counts:
    """Counts of each class against all others.

    Args:
        confusion: Confusion matrices (..., K, K), rows truth.

    Returns:
        Counts of shape (..., K).
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    tp = np.diagonal(confusion, axis1=-2, axis2=-1)
    fp = confusion.sum(axis=-2) - tp
    fn = confusion.sum(axis=-1) - tp
    total = confusion.sum(axis=(-2, -1))[..., None]
    return Counts(tp, fp, fn, total - tp - fp - fn)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the denominator is 0 (the numerator then is 0 too, in every metric)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator == 0, np.nan, numerator / denominator)


def sensitivity(counts: Counts) -> np.ndarray:
    """Share of the positives that were found (recall), TP / (TP + FN); NaN without positives."""
    return _ratio(counts.tp, counts.tp + counts.fn)


def specificity(counts: Counts) -> np.ndarray:
    """Share of the negatives left alone, TN / (TN + FP); NaN without negatives."""
    return _ratio(counts.tn, counts.tn + counts.fp)


def accuracy(counts: Counts) -> np.ndarray:
    """Share of right decisions, (TP + TN) / all; NaN without cases.

    On `one_vs_rest` counts it is each class's own accuracy, which is always higher than the
    accuracy of the multi-class decision: for that, see `multiclass_accuracy`.
    """
    right = counts.tp + counts.tn
    return _ratio(right, right + counts.fp + counts.fn)


def precision(counts: Counts) -> np.ndarray:
    """Share of the calls that were right, TP / (TP + FP); NaN if nothing was called positive."""
    return _ratio(counts.tp, counts.tp + counts.fp)


def f1(counts: Counts) -> np.ndarray:
    """Harmonic mean of precision and sensitivity, 2 TP / (2 TP + FP + FN).

    NaN only if there was nothing to find and nothing was called; 0 if all was missed.
    """
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def dice(counts: Counts) -> np.ndarray:
    """Dice coefficient of two masks, 2 |A and B| / (|A| + |B|).

    It is `f1` with pixels for cases, and has its own name because segmentation papers use it; an
    empty truth with an empty prediction has none (NaN).
    """
    return f1(counts)


def iou(counts: Counts) -> np.ndarray:
    """Intersection over union (Jaccard), TP / (TP + FP + FN) = Dice / (2 - Dice); NaN as there."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn)


def mcc(counts: Counts) -> np.ndarray:
    """Matthews correlation coefficient, in [-1, 1]; 0 is what guessing reaches.

    NaN if the truth or the prediction has one class only: a constant has no correlation. (Some
    libraries write 0 there, which reads as a measured failure.)
    """
    tp, fp, fn, tn = counts.tp, counts.fp, counts.fn, counts.tn
    # Two square roots: one product of four pixel counts loses digits sooner.
    scale = np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))
    return _ratio(tp * tn - fp * fn, scale)


#: The paper's metrics of a two-way decision, in the order in which its tables list them.
METRICS: dict[str, Callable[[Counts], np.ndarray]] = {
    "sensitivity": sensitivity,
    "specificity": specificity,
    "accuracy": accuracy,
    "precision": precision,
    "f1": f1,
    "dice": dice,
    "iou": iou,
    "mcc": mcc,
}


def scores(counts: Counts) -> dict[str, np.ndarray]:
    """Every metric of `METRICS` by name, each of the counts' shape."""
    return {name: metric(counts) for name, metric in METRICS.items()}


def macro(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean over classes (or images) that leaves undefined values out; NaN if all are.

    Args:
        values: Metric values with NaN where undefined.
        axis: Axis to average over; the last by default.
    """
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis))


def multiclass_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Share of cases on the diagonal of confusion matrices (..., K, K); NaN without cases."""
    confusion = np.asarray(confusion, dtype=np.float64)
    right = np.trace(confusion, axis1=-2, axis2=-1)
    return _ratio(right, confusion.sum(axis=(-2, -1)))


def multiclass_mcc(confusion: np.ndarray) -> np.ndarray:
    """Matthews correlation coefficient for any number of classes: Gorodkin's R_K (2004).

    Args:
        confusion: Confusion matrices (..., K, K), rows truth.

    Returns:
        Array (...), at most 1; with two classes it equals `mcc`. NaN if the truth or the
        prediction has one class only.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    true, called = confusion.sum(axis=-1), confusion.sum(axis=-2)
    total = true.sum(axis=-1)
    right = np.trace(confusion, axis1=-2, axis2=-1)
    covariance = right * total - (true * called).sum(axis=-1)
    spread_called = total**2 - (called**2).sum(axis=-1)
    spread_true = total**2 - (true**2).sum(axis=-1)
    return _ratio(covariance, np.sqrt(spread_called) * np.sqrt(spread_true))


def roc_auc(truth: np.ndarray, score: np.ndarray) -> float:
    """Area under the receiver operating characteristic.

    Args:
        truth: Boolean, or 0 and 1 (N,).
        score: Higher means more likely positive (N,), for example a probability.

    Returns:
        Area in [0, 1]; NaN if only one class occurs.

    Raises:
        DataError: The shapes differ, or a score is not a number.
    """
    from sklearn.metrics import roc_auc_score

    return _ranked(truth, score, roc_auc_score)


def average_precision(truth: np.ndarray, score: np.ndarray) -> float:
    """Average precision: the area under the precision-recall steps.

    Args:
        truth: Boolean, or 0 and 1 (N,).
        score: Higher means more likely positive (N,).

    Returns:
        Value in [0, 1]; guessing reaches the share of positives. NaN if only one class occurs.

    Raises:
        DataError: The shapes differ, or a score is not a number.
    """
    from sklearn.metrics import average_precision_score

    return _ranked(truth, score, average_precision_score)


def _ranked(truth: np.ndarray, score: np.ndarray, metric: Callable) -> float:
    truth, score = _boolean(truth, "truth"), np.asarray(score, dtype=np.float64)
    _same_shape(truth, score)
    if not np.isfinite(score).all():
        raise DataError("score: a value is not a finite number; check the predictions file.")
    if truth.all() or not truth.any():
        return float("nan")
    return float(metric(truth, score))
