"""What Dice does not show: how far a contour is off, how much lesion, and at which threshold.

A measure is NaN where there is nothing to measure, never infinite and never an invented worst
value.
"""

from __future__ import annotations

import numpy as np

from covid_utils.errors import DataError

#: Thresholds of `dice_over_thresholds`, from 0 to 1.
THRESHOLDS = 256


def hausdorff95(truth: np.ndarray, predicted: np.ndarray) -> float:
    """95 % Hausdorff distance between the contours of two masks.

    The contour of a mask is the mask minus its erosion by the four direct neighbours, with
    everything outside the image outside the mask. From each contour pixel of one mask goes the
    Euclidean distance to the nearest contour pixel of the other. The result is the larger of the
    two directed 95th percentiles (linear interpolation). Percentiles of both directions pooled,
    which other programs report, are lower where a large mask meets a small one.

    Args:
        truth: True mask, boolean (height, width).
        predicted: Predicted mask, likewise.

    Returns:
        Distance >= 0 in pixels; NaN if a mask is empty.

    Raises:
        DataError: The masks differ in shape, are not boolean or not of two axes.
    """
    from scipy.ndimage import binary_erosion, distance_transform_edt

    is_boolean = truth.dtype == predicted.dtype == bool
    if truth.shape != predicted.shape or truth.ndim != 2 or not is_boolean:
        raise DataError("masks: give two boolean masks (height, width) of the same slice.")
    if not truth.any() or not predicted.any():
        return float("nan")
    contours = [mask & ~binary_erosion(mask) for mask in (truth, predicted)]
    directed = (
        distance_transform_edt(~goal)[start] for start, goal in (contours, reversed(contours))
    )
    return float(max(np.percentile(distances, 95) for distances in directed))


def volume_error(
    truth_pixels: np.ndarray, predicted_pixels: np.ndarray, lung_pixels: np.ndarray
) -> np.ndarray:
    """Predicted minus true lesion in per cent of the lung field: the error of a severity score.

    Args:
        truth_pixels: Lesion pixels of the truth, of any shape, such as one number per slice.
        predicted_pixels: Lesion pixels of the prediction, of the same shape.
        lung_pixels: Pixels of the lung field, likewise.

    Returns:
        float64 of the same shape; NaN without a lung field. Errors of opposite signs cancel in a
        mean: show their spread as well.
    """
    lung = np.asarray(lung_pixels, np.float64)
    difference = np.subtract(predicted_pixels, truth_pixels, dtype=np.float64)
    return 100 * difference / np.where(lung > 0, lung, np.nan)


def dice_over_thresholds(truth: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Dice at every threshold; its mean is how Inf-Net reports Dice (Fan et al. 2020).

    A pixel is positive where its probability is at least the threshold. The lowest threshold, 0,
    makes every pixel positive, so that the mean stays below 1 even for a perfect prediction, and
    is not to be compared with a Dice at one threshold. Inf-Net's own program (``main.m`` in its
    ``EvaluationTool``) steps from 1 to 0 by 1/255 and first stretches the map of each slice to
    0-1; to reproduce its figures, stretch before calling this.

    Args:
        truth: Where the lesion is, boolean, of any shape.
        probability: Of a lesion, within 0 to 1, of the same shape.

    Returns:
        Dice, float64 (256,), from threshold 0 to threshold 1; NaN without a true lesion, where Dice
        would be 0 at every threshold that a pixel passes (Inf-Net's program gives 0).

    Raises:
        DataError: A probability is not within 0 to 1.
    """
    if not ((probability >= 0) & (probability <= 1)).all():
        raise DataError("thresholds: probabilities not within 0 to 1; apply the softmax first.")
    if not truth.any():
        return np.full(THRESHOLDS, np.nan)
    # Comparing with each threshold would go through the image 256 times; counting the thresholds
    # that each pixel passes goes through it once.
    thresholds = np.linspace(0, 1, THRESHOLDS)
    passed = np.searchsorted(thresholds, probability.astype(np.float64), side="right")
    lesion, background = (
        np.bincount(passed[part], minlength=THRESHOLDS + 1)[:0:-1].cumsum()[::-1]
        for part in (truth, ~truth)
    )
    return 2 * lesion / (lesion + background + np.count_nonzero(truth))
