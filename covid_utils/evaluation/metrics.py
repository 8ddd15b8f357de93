"""The paper's metrics (section 3.6), as plain NumPy on counts.

Counts may have any shape: one number, one per class, per image or per bootstrap resample. A metric
that is 0/0 is NaN, never 0 or 1: a slice without lesion in which none was predicted has no Dice.
Counts summed over images before the metric give the pooled value, in which large lesions weigh
most; the mean of one value per image weighs all images alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from covid_utils.errors import DataError


@dataclass(frozen=True, eq=False)
class Counts:
    """True and false positives and negatives, of cases or pixels: float64, all of one shape."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    def __post_init__(self) -> None:
        # Floats, because the products in `mcc` exceed 64-bit integers for a few slices' pixels.
        for name in ("tp", "fp", "fn", "tn"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))

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
    return Counts(*np.moveaxis([each.parts for each in counts], 0, -1))


def count_binary(
    truth: np.ndarray, predicted: np.ndarray, axis: tuple[int, ...] | None = None
) -> Counts:
    """Count the outcomes of boolean decisions over some axes, all if None.

    On masks (images, height, width), ``axis=(1, 2)`` gives one count per image.
    """
    outcomes = truth & predicted, ~truth & predicted, truth & ~predicted, ~(truth | predicted)
    return Counts(*(np.count_nonzero(outcome, axis=axis) for outcome in outcomes))


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: Sequence) -> np.ndarray:
    """Confusion matrix, int64 (K, K): the row is the true class, the column the predicted one."""
    return unit_confusion(truth, predicted, classes).sum(axis=0)


def unit_confusion(truth: np.ndarray, predicted: np.ndarray, classes: Sequence) -> np.ndarray:
    """One confusion matrix per case, int64 (N, K, K): what the bootstrap resamples."""
    labels = pd.Index(list(classes))
    codes = np.stack([labels.get_indexer(pd.Index(values)) for values in (truth, predicted)])
    if (codes < 0).any():
        unknown = np.stack([truth, predicted])[codes < 0][0]
        raise DataError(
            f"label '{unknown}' is not among the classes {list(classes)}; "
            "map or leave out such cases."
        )
    units = np.zeros((len(truth), len(labels), len(labels)), np.int64)
    units[np.arange(len(truth)), *codes] = 1
    return units


def one_vs_rest(confusion: np.ndarray) -> Counts:
    """Counts (..., K) of each class against all others, from confusion matrices (..., K, K)."""
    tp = np.diagonal(confusion, axis1=-2, axis2=-1)
    fp = confusion.sum(axis=-2) - tp
    fn = confusion.sum(axis=-1) - tp
    return Counts(tp, fp, fn, confusion.sum(axis=(-2, -1))[..., None] - tp - fp - fn)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the denominator is 0 (the numerator then is 0 too, in every metric)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator == 0, np.nan, numerator / denominator)


def sensitivity(counts: Counts) -> np.ndarray:
    """Recall, TP / (TP + FN)."""
    return _ratio(counts.tp, counts.tp + counts.fn)


def specificity(counts: Counts) -> np.ndarray:
    """TN / (TN + FP)."""
    return _ratio(counts.tn, counts.tn + counts.fp)


def accuracy(counts: Counts) -> np.ndarray:
    """Share of right decisions, (TP + TN) / all.

    On `one_vs_rest` counts it is each class's own accuracy, which is always higher than the
    accuracy of the multi-class decision.
    """
    right = counts.tp + counts.tn
    return _ratio(right, right + counts.fp + counts.fn)


def precision(counts: Counts) -> np.ndarray:
    """TP / (TP + FP)."""
    return _ratio(counts.tp, counts.tp + counts.fp)


def f1(counts: Counts) -> np.ndarray:
    """Harmonic mean of precision and sensitivity, 2 TP / (2 TP + FP + FN); 0 if all were missed."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


#: Dice coefficient of two masks, 2 |A and B| / (|A| + |B|): F1 with pixels for cases.
dice = f1


def iou(counts: Counts) -> np.ndarray:
    """Intersection over union (Jaccard), TP / (TP + FP + FN) = Dice / (2 - Dice)."""
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


#: The paper's metrics of a two-way decision.
METRICS: dict[str, Callable[[Counts], np.ndarray]] = {
    metric.__name__: metric
    for metric in (sensitivity, specificity, accuracy, precision, f1, iou, mcc)
} | {"dice": dice}


def macro(values: np.ndarray) -> np.ndarray:
    """Mean over classes (..., classes) that leaves out undefined values; NaN if all are."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))


def multiclass_mcc(confusion: np.ndarray) -> np.ndarray:
    """Matthews correlation coefficient for any number of classes: Gorodkin's R_K (2004).

    From confusion matrices (..., K, K) with rows of truth; at most 1, and `mcc` with two classes.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    true, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    total = true.sum(axis=-1)
    right = np.trace(confusion, axis1=-2, axis2=-1)
    covariance = right * total - (true * predicted).sum(axis=-1)
    spread_true = total**2 - (true**2).sum(axis=-1)
    spread_predicted = total**2 - (predicted**2).sum(axis=-1)
    return _ratio(covariance, np.sqrt(spread_predicted) * np.sqrt(spread_true))
