"""What Dice does not show: how far a contour is off, how much lesion, and at which threshold.

Each function takes one slice, and is NaN where there is nothing to measure, never infinite and
never a made-up worst value.
"""

from __future__ import annotations

import numpy as np

from covid_utils.errors import DataError


def hausdorff95(
    truth: np.ndarray, predicted: np.ndarray, spacing: float | tuple[float, float] = 1.0
) -> float:
    """95 % Hausdorff distance between the contours of two masks.

    The surface of a mask is the mask minus its erosion by the four direct neighbours, with
    everything outside the image counted as outside the mask. From each surface pixel of one mask
    goes the Euclidean distance to the nearest surface pixel of the other. The result is the larger
    of the two directed 95th percentiles (linear interpolation). Percentiles of both directions
    pooled, which other programs report, are lower where a large mask meets a small one.

    Two empty masks have no distance (NaN). A mask and an empty one have none either (NaN): any
    number would be invented. Leave the NaN out of a mean, and report beside it how many pairs
    `which_is_empty` finds.

    Args:
        truth: True mask, boolean (height, width).
        predicted: Predicted mask, likewise.
        spacing: Size of a pixel, one number or (down, across), such as mm.

    Returns:
        Distance >= 0 in units of ``spacing``, so in pixels by default; NaN if a mask is empty.

    Raises:
        DataError: The masks differ in shape, are not boolean or not of two axes.
    """
    truth, predicted = _pair(truth, predicted)
    if which_is_empty(truth, predicted):
        return float("nan")
    surfaces = _surface(truth), _surface(predicted)
    directed = (_distances(*surfaces, spacing), _distances(*reversed(surfaces), spacing))
    return float(max(np.percentile(distances, 95) for distances in directed))


def which_is_empty(truth: np.ndarray, predicted: np.ndarray) -> str:
    """Why a pair of masks has no surface distance.

    Args:
        truth: True mask, boolean (height, width).
        predicted: Predicted mask, likewise.

    Returns:
        ``both``, ``truth`` (a false alarm), ``predicted`` (a miss), or '' if neither is empty.

    Raises:
        DataError: The masks differ in shape, are not boolean or not of two axes.
    """
    truth, predicted = _pair(truth, predicted)
    if truth.any():
        return "" if predicted.any() else "predicted"
    return "truth" if predicted.any() else "both"


def volume_error(
    truth_pixels: np.ndarray, predicted_pixels: np.ndarray, lung_pixels: np.ndarray
) -> np.ndarray:
    """Error of the lesion's extent as a share of the lung field, which is what a severity score is.

    Args:
        truth_pixels: Lesion pixels of the truth, of any shape, such as one number a slice.
        predicted_pixels: Lesion pixels of the prediction, of the same shape.
        lung_pixels: Pixels of the lung field (`covid_utils.data.lungs`), likewise.

    Returns:
        Predicted minus true lesion in per cent of the lung field, float64 of the same shape; NaN
        without a lung field. Errors of opposite signs cancel in a mean: show their spread as well.

    Raises:
        DataError: The shapes differ, or a number of pixels is negative.
    """
    counts = [np.asarray(c, np.float64) for c in (truth_pixels, predicted_pixels, lung_pixels)]
    if len({count.shape for count in counts}) > 1 or any((count < 0).any() for count in counts):
        raise DataError(
            "volume error: negative or unequal lists of pixels; give one for each case."
        )
    truth, predicted, lung = counts
    error = np.full(lung.shape, np.nan)
    np.divide(100 * (predicted - truth), lung, out=error, where=lung > 0)
    return error


def dice_over_thresholds(
    truth: np.ndarray, probability: np.ndarray, thresholds: int = 256
) -> np.ndarray:
    """Dice at every threshold; its mean is how Inf-Net reports Dice (Fan et al. 2020).

    A pixel is positive where its probability is at least the threshold. The lowest threshold, 0,
    makes every pixel positive, so that the mean stays below 1 even for a perfect prediction, and
    is not to be compared with a Dice at one threshold. Inf-Net's own program (``main.m`` in its
    ``EvaluationTool``) steps from 1 to 0 by 1/255, which are 256 thresholds, and first stretches
    the map of each slice to 0-1; whoever wants its figures stretches before calling this.

    Without a true lesion the whole array is NaN: Dice would be 0 at every threshold that something
    passes (Inf-Net's program gives 0), and the mean would tell nothing of how much did.

    Args:
        truth: Where the lesion is, boolean, of any shape.
        probability: Of a lesion, within 0 to 1, of the same shape.
        thresholds: Number of thresholds, evenly spaced from 0 to 1, both included.

    Returns:
        Dice within 0 to 1, float64 (thresholds,), from threshold 0 to threshold 1.

    Raises:
        DataError: The shapes differ, the truth is not boolean, a probability is not within 0 to 1,
            or there are fewer than 2 thresholds.
    """
    truth, probability = np.asarray(truth), np.asarray(probability, np.float64)
    _check_probability(truth, probability, thresholds)
    if not truth.any():
        return np.full(thresholds, np.nan)
    # Comparing with each threshold would go through the image 256 times; counting the thresholds
    # that each pixel passes goes through it once.
    passed = np.searchsorted(np.linspace(0, 1, thresholds), probability, side="right")
    lesion, background = (
        np.bincount(passed[part], minlength=thresholds + 1)[:0:-1].cumsum()[::-1]
        for part in (truth, ~truth)
    )
    return 2 * lesion / (lesion + background + np.count_nonzero(truth))


def _pair(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape or truth.ndim != 2:
        raise DataError(
            f"masks: {truth.shape} and {predicted.shape} are not one (height, width); give two "
            "masks of the same slice."
        )
    if truth.dtype != bool or predicted.dtype != bool:
        raise DataError("masks: not boolean; compare with a label or a threshold.")
    return truth, predicted


def _surface(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)  # its border_value 0 is "outside the image is outside"


def _distances(
    start: np.ndarray, goal: np.ndarray, spacing: float | tuple[float, float]
) -> np.ndarray:
    """Distance from every surface pixel of one mask to the nearest of the other: (pixels,)."""
    from scipy.ndimage import distance_transform_edt

    return distance_transform_edt(~goal, sampling=spacing)[start]


def _check_probability(truth: np.ndarray, probability: np.ndarray, thresholds: int) -> None:
    if truth.shape != probability.shape or truth.dtype != bool:
        raise DataError(
            f"thresholds: truth {truth.shape} of {truth.dtype} and probability "
            f"{probability.shape} do not fit; give a boolean truth of the same shape."
        )
    if not ((probability >= 0) & (probability <= 1)).all():
        raise DataError("thresholds: probabilities not within 0 to 1; apply the softmax first.")
    if thresholds < 2:
        raise DataError(f"thresholds: {thresholds} of them; take at least 2.")
