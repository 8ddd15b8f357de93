"""The paper's metrics (section 3.6), as plain NumPy on counts, and two that need whole masks.

The last axis of counts has the four `OUTCOMES`; before it there may be classes, images or bootstrap
resamples. A metric that is 0/0 is NaN, never 0 or 1. Counts summed over images before the metric
give the pooled value, in which large lesions weigh most; the mean of one value per image weighs all
images alike.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt

#: True and false positives and negatives.
OUTCOMES = ("tp", "fp", "fn", "tn")
#: Metric -> how often its numerator and its denominator count each of `OUTCOMES`. Dice is F1 with
#: pixels for cases: 2 TP / (2 TP + FP + FN).
FRACTIONS = {
    "sensitivity": ([1, 0, 0, 0], [1, 0, 1, 0]),
    "specificity": ([0, 0, 0, 1], [0, 1, 0, 1]),
    "accuracy": ([1, 0, 0, 1], [1, 1, 1, 1]),
    "precision": ([1, 0, 0, 0], [1, 1, 0, 0]),
    "f1": ([2, 0, 0, 0], [2, 1, 1, 0]),
    "dice": ([2, 0, 0, 0], [2, 1, 1, 0]),
    "iou": ([1, 0, 0, 0], [1, 1, 1, 0]),
}


def count(
    truth: np.ndarray, predicted: np.ndarray, axis: tuple[int, ...] | None = None
) -> np.ndarray:
    """Count the `OUTCOMES` of boolean decisions over some axes, None for all: int64 (..., 4)."""
    outcomes = truth & predicted, ~truth & predicted, truth & ~predicted, ~(truth | predicted)
    return np.stack([np.count_nonzero(outcome, axis=axis) for outcome in outcomes], axis=-1)


def fraction(metric: str, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numerator and denominator of a metric of `FRACTIONS`."""
    above, below = (counts @ np.array(weights, np.float64) for weights in FRACTIONS[metric])
    return above, below


def score(metric: str, counts: np.ndarray) -> np.ndarray:
    """A metric of `FRACTIONS`, or ``mcc``, in the shape of the counts without their last axis."""
    return mcc(counts) if metric == "mcc" else ratio(*fraction(metric, counts))


def mcc(counts: np.ndarray) -> np.ndarray:
    """Matthews correlation coefficient, in [-1, 1]; a constant has none (NaN)."""
    # Floats, and two square roots: the product of four pixel counts exceeds 64-bit integers.
    tp, fp, fn, tn = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    scale = np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))
    return ratio(tp * tn - fp * fn, scale)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the denominator is 0 (the numerator then is 0 too, in every metric)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator == 0, np.nan, numerator / denominator)


def macro(values: np.ndarray, defined: np.ndarray | None = None) -> np.ndarray:
    """Mean over classes (..., classes) that leaves out undefined values; NaN if all are.

    If it is known which classes are ``defined`` on all images, the mean is over these, and NaN for
    a resample that lacks one of them: over the others it would be another score.
    """
    values = values if defined is None else values[..., defined]
    known = ~np.isnan(values)
    mean = ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))
    return mean if defined is None else np.where(known.all(axis=-1), mean, np.nan)


def multiclass_mcc(counts: np.ndarray) -> np.ndarray:
    """Gorodkin's R_K (2004), `mcc` of all classes together, from one-vs-rest counts (..., K, 4)."""
    tp, fp, fn, _ = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    true, predicted, total = tp + fn, tp + fp, counts[..., 0, :].sum(axis=-1)
    covariance = tp.sum(axis=-1) * total - (true * predicted).sum(axis=-1)
    spreads = [total**2 - (margin**2).sum(axis=-1) for margin in (predicted, true)]
    return ratio(covariance, np.sqrt(spreads[0]) * np.sqrt(spreads[1]))


def hausdorff95(truth: np.ndarray, predicted: np.ndarray) -> float:
    """95 % Hausdorff distance in pixels between the contours of two boolean masks (height, width).

    The contour is the mask minus its erosion by the four direct neighbours. The result is the
    larger of the two directed 95th percentiles (those of both directions pooled, which other
    programs report, are lower where a large mask meets a small one); NaN if a mask is empty.
    """
    if not truth.any() or not predicted.any():
        return float("nan")
    first, second = (mask & ~binary_erosion(mask) for mask in (truth, predicted))
    pairs = (first, second), (second, first)
    return float(max(np.percentile(distance_transform_edt(~to)[start], 95) for start, to in pairs))


def dice_over_thresholds(truth: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Dice at 256 thresholds from 0 to 1; its mean is how Inf-Net reports Dice (Fan et al. 2020).

    A pixel is positive where its probability (0 to 1) is at least the threshold. Threshold 0 makes
    every pixel positive, so the mean stays below 1 even for a perfect prediction. NaN without a
    true lesion, where Inf-Net's program (``main.m`` in its ``EvaluationTool``) gives 0.
    """
    thresholds = np.linspace(0, 1, 256)
    if not truth.any():
        return np.full(len(thresholds), np.nan)

    def reaching(values: np.ndarray) -> np.ndarray:
        # In sorted values one search per threshold is enough.
        return values.size - np.searchsorted(np.sort(values, axis=None), thresholds)

    probability = probability.astype(np.float64)
    hits, called = reaching(probability[truth]), reaching(probability)
    return 2 * hits / (called + np.count_nonzero(truth))
