"""What Dice does not show: how far a contour is off, how much lesion, and at which threshold.

A measure is NaN where there is nothing to measure, never infinite and never an invented worst
value.
"""

from __future__ import annotations

import numpy as np

#: Thresholds of `dice_over_thresholds`, from 0 to 1.
THRESHOLDS = 256


def hausdorff95(truth: np.ndarray, predicted: np.ndarray) -> float:
    """95 % Hausdorff distance in pixels between the contours of two boolean masks (height, width).

    The contour is the mask minus its erosion by the four direct neighbours. From each contour pixel
    of one mask goes the Euclidean distance to the nearest contour pixel of the other. The result is
    the larger of the two directed 95th percentiles (percentiles of both directions pooled, which
    other programs report, are lower where a large mask meets a small one); NaN if a mask is empty.
    """
    from scipy.ndimage import binary_erosion, distance_transform_edt

    if not truth.any() or not predicted.any():
        return float("nan")
    first, second = (mask & ~binary_erosion(mask) for mask in (truth, predicted))
    pairs = (first, second), (second, first)
    return float(max(np.percentile(distance_transform_edt(~to)[start], 95) for start, to in pairs))


def volume_error(
    truth_pixels: np.ndarray, predicted_pixels: np.ndarray, lung_pixels: np.ndarray
) -> np.ndarray:
    """Predicted minus true lesion in per cent of the lung field: the error of a severity score.

    Numbers of pixels per slice, all of one shape; NaN without a lung field.
    """
    difference = np.subtract(predicted_pixels, truth_pixels, dtype=np.float64)
    return 100 * difference / np.where(np.greater(lung_pixels, 0), lung_pixels, np.nan)


def dice_over_thresholds(truth: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Dice at 256 thresholds from 0 to 1; its mean is how Inf-Net reports Dice (Fan et al. 2020).

    A pixel is positive where its probability (0 to 1) is at least the threshold. Threshold 0 makes
    every pixel positive, so the mean stays below 1 even for a perfect prediction, and is not to be
    compared with a Dice at one threshold. Inf-Net's own program (``main.m`` in its
    ``EvaluationTool``) first stretches the map of each slice to 0-1. NaN without a true lesion,
    where that program gives 0.
    """
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
