"""The paper's metrics (section 3.6), as plain NumPy on counts.

Counts go in, a metric comes out, and both may have any shape: one number, one per class, one per
image or one per bootstrap resample. A metric that is 0/0 is NaN, never 0 or 1: a slice without
lesion in which none was predicted has no Dice, a set without positives no sensitivity. Such values
are left out of means (`macro`).

Counts summed over images before the metric give the pooled value, in which large lesions weigh
most; the mean of one value per image weighs all images alike. Each table says which it shows.

All metrics lie in [0, 1] except the Matthews correlation coefficients in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from covid_utils.errors import DataError


@dataclass(frozen=True, eq=False)
class Counts:
    """True and false positives and negatives, of cases or of the pixels of a mask.

    All four are float64 of one shape. Floats, because the products in `mcc` exceed 64-bit integers
    for the pixels of a few slices.
    """

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    def __post_init__(self) -> None:
        for name in ("tp", "fp", "fn", "tn"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        shapes = {part.shape for part in self.parts}
        if len(shapes) > 1:
            raise DataError(f"counts: shapes {sorted(shapes)} differ; count over the same axes.")

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The four arrays in the order of the attributes."""
        return self.tp, self.fp, self.fn, self.tn

    def sum(self, axis: int | None = None) -> Counts:
        """Pool counts over an axis, such as images; over everything if None."""
        return Counts(*(part.sum(axis=axis) for part in self.parts))

    def __getitem__(self, index: object) -> Counts:
        return Counts(*(part[index] for part in self.parts))


def stack(counts: Sequence[Counts]) -> Counts:
    """Several counts of shape (...), such as one per class, as one of shape (..., number)."""
    parts = zip(*(each.parts for each in counts), strict=True)
    return Counts(*(np.stack(part, axis=-1) for part in parts))


def count_binary(
    truth: np.ndarray, predicted: np.ndarray, axis: tuple[int, ...] | None = None
) -> Counts:
    """Count the outcomes of a two-way decision, boolean or 0 and 1.

    ``axis`` are the axes to count over: ``(1, 2)`` on masks (images, height, width) gives one count
    per image.
    """
    truth, predicted = _boolean(truth, "truth"), _boolean(predicted, "prediction")
    _same_shape(truth, predicted)
    outcomes = truth & predicted, ~truth & predicted, truth & ~predicted, ~(truth | predicted)
    return Counts(*(np.count_nonzero(outcome, axis=axis) for outcome in outcomes))


def _boolean(values: np.ndarray, role: str) -> np.ndarray:
    values = np.asarray(values)
    # A mask of labels, or of 0 and 255, would otherwise pass as one big lesion.
    if values.dtype != bool and not np.isin(values, (0, 1)).all():
        raise DataError(f"{role}: values other than 0 and 1; compare with a label or threshold.")
    return values.astype(bool)


def _same_shape(truth: np.ndarray, predicted: np.ndarray) -> None:
    if truth.shape != predicted.shape:
        raise DataError(
            f"truth {truth.shape} and prediction {predicted.shape} differ in shape; "
            "give one prediction for each case, in the same order."
        )


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: Sequence) -> np.ndarray:
    """Confusion matrix, int64 (K, K): the row is the true class, the column the predicted one.

    Args:
        truth: True classes (N,).
        predicted: Predicted classes (N,).
        classes: The K class labels in order.

    Raises:
        DataError: The shapes differ, or a label is not among the classes.
    """
    return unit_confusion(truth, predicted, classes).sum(axis=0)


def unit_confusion(truth: np.ndarray, predicted: np.ndarray, classes: Sequence) -> np.ndarray:
    """One confusion matrix per case, int64 (N, K, K): what the bootstrap resamples."""
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    _same_shape(truth, predicted)
    rows, columns = (_codes(values, list(classes)) for values in (truth, predicted))
    units = np.zeros((len(truth), len(classes), len(classes)), np.int64)
    units[np.arange(len(truth)), rows, columns] = 1
    return units


def _codes(values: np.ndarray, labels: list) -> np.ndarray:
    codes = pd.Index(labels).get_indexer(pd.Index(values))
    if (codes < 0).any():
        raise DataError(
            f"label '{values[codes < 0][0]}' is not among the classes {labels}; "
            "map or leave out such cases."
        )
    return codes


def one_vs_rest(confusion: np.ndarray) -> Counts:
    """Counts (..., K) of each class against all others, from confusion matrices (..., K, K)."""
    confusion = np.asarray(confusion, dtype=np.float64)
    tp = np.diagonal(confusion, axis1=-2, axis2=-1)
    fp = confusion.sum(axis=-2) - tp
    fn = confusion.sum(axis=-1) - tp
    return Counts(tp, fp, fn, confusion.sum(axis=(-2, -1))[..., None] - tp - fp - fn)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the denominator is 0 (the numerator then is 0 too, in every metric)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator == 0, np.nan, numerator / denominator)


def sensitivity(counts: Counts) -> np.ndarray:
    """Recall, TP / (TP + FN); NaN without positives."""
    return _ratio(counts.tp, counts.tp + counts.fn)


def specificity(counts: Counts) -> np.ndarray:
    """TN / (TN + FP); NaN without negatives."""
    return _ratio(counts.tn, counts.tn + counts.fp)


def accuracy(counts: Counts) -> np.ndarray:
    """Share of right decisions, (TP + TN) / all; NaN without cases.

    On `one_vs_rest` counts it is each class's own accuracy, which is always higher than the
    accuracy of the multi-class decision.
    """
    right = counts.tp + counts.tn
    return _ratio(right, right + counts.fp + counts.fn)


def precision(counts: Counts) -> np.ndarray:
    """TP / (TP + FP); NaN if nothing was predicted positive."""
    return _ratio(counts.tp, counts.tp + counts.fp)


def f1(counts: Counts) -> np.ndarray:
    """Harmonic mean of precision and sensitivity, 2 TP / (2 TP + FP + FN).

    NaN only if there is no positive in truth or prediction; 0 if all were missed.
    """
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def dice(counts: Counts) -> np.ndarray:
    """Dice coefficient of two masks, 2 |A and B| / (|A| + |B|): `f1` with pixels for cases."""
    return f1(counts)


def iou(counts: Counts) -> np.ndarray:
    """Intersection over union (Jaccard), TP / (TP + FP + FN) = Dice / (2 - Dice); NaN as there."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn)


def mcc(counts: Counts) -> np.ndarray:
    """Matthews correlation coefficient, in [-1, 1]; 0 is what guessing reaches.

    NaN if the truth or the prediction has one class only: a constant has no correlation. (Some
    libraries write 0 there, which reads as a measured failure.)
    """
    tp, fp, fn, tn = counts.parts
    # Two square roots: one product of four pixel counts loses digits sooner.
    scale = np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))
    return _ratio(tp * tn - fp * fn, scale)


#: The paper's metrics of a two-way decision, in the order of its tables.
METRICS: dict[str, Callable[[Counts], np.ndarray]] = {
    metric.__name__: metric
    for metric in (sensitivity, specificity, accuracy, precision, f1, dice, iou, mcc)
}


def macro(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean over classes (or images) that leaves out undefined values (NaN); NaN if all are."""
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis))


def multiclass_mcc(confusion: np.ndarray) -> np.ndarray:
    """Matthews correlation coefficient for any number of classes: Gorodkin's R_K (2004).

    From confusion matrices (..., K, K) with rows of truth; at most 1, and `mcc` with two classes.
    NaN if the truth or the prediction has one class only.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    true, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    total = true.sum(axis=-1)
    right = np.trace(confusion, axis1=-2, axis2=-1)
    covariance = right * total - (true * predicted).sum(axis=-1)
    spread_true = total**2 - (true**2).sum(axis=-1)
    spread_predicted = total**2 - (predicted**2).sum(axis=-1)
    return _ratio(covariance, np.sqrt(spread_predicted) * np.sqrt(spread_true))
