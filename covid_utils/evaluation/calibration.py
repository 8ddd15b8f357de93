"""Calibration of probabilities: reliability, calibration error, scaling, and what needs it.

Of the cases that a calibrated classifier gives 0.9, nine in ten are right. Unless said otherwise
``probabilities`` are (n, classes) and ``truth`` the numbers of the true classes, int (n,). Three
specialists are put together into one label map on calibrated probabilities.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from covid_utils.evaluation import bootstrap, intervals

BINS = 10
#: Smallest probability whose logarithm is taken: float32 underflows below.
LEAST = 1e-12
RANGE = (0.1, 10.0)  # of the temperatures that are tried
#: Pixels of each kind, at most, that the calibration of a specialist is fitted on.
PIXELS = 20_000
#: Probabilities of pixels are stored in 256 steps; the ends are not certainty.
EDGE = 1 / 512


def _confidence(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, ...]:
    """Largest probability of each case, whether its class is true, and the number of its bin."""
    sure = probabilities.max(axis=1).astype(np.float64)
    # A bin includes its upper edge. Rounded, because 0.07 x 100 is a little above 7.
    bins = np.clip(np.ceil(np.round(sure * BINS, 9)).astype(int) - 1, 0, BINS - 1)
    return sure, probabilities.argmax(axis=1) == truth, bins


def reliability(probabilities: np.ndarray, truth: np.ndarray) -> pd.DataFrame:
    """Reliability diagram (DeGroot and Fienberg 1983): edges, mean confidence and accuracy of bins.

    Limits are Wilson's; bins without a case are left out.
    """
    sure, right, bins = _confidence(probabilities, truth)
    rows = []
    for index in np.unique(bins):
        here = bins == index
        share = intervals.wilson(int(right[here].sum()), int(here.sum()))
        edges = {"low": index / BINS, "high": (index + 1) / BINS, "n": share.n}
        limits = {"accuracy_low": share.low, "accuracy_high": share.high}
        rows.append(edges | {"confidence": sure[here].mean(), "accuracy": share.value} | limits)
    return pd.DataFrame(rows)


def scores(
    probabilities: np.ndarray, truth: np.ndarray, groups: np.ndarray
) -> dict[str, intervals.Interval]:
    """Calibration of a model, with intervals from a bootstrap of whole patients within classes.

    ``ece`` is the expected calibration error (Naeini et al. 2015), the mean distance between
    confidence and accuracy over bins, in [0, 1]; biased upwards, resamples even more, so it has no
    limits. ``brier`` is the squared distance to the truth, in [0, 2]; ``nll`` the mean negative
    logarithm of the probability of the true class.
    """
    sure, right, bins = _confidence(probabilities, truth)
    is_true = np.eye(probabilities.shape[1])[truth]
    gaps = np.eye(BINS)[bins] * (sure - right)[:, None]
    squares = ((probabilities - is_true) ** 2).sum(axis=1)
    logarithms = -np.log(np.maximum(probabilities[is_true > 0], LEAST))

    def statistic(sums: np.ndarray) -> dict[str, np.ndarray]:
        brier, nll, total = np.moveaxis(sums[..., BINS:], -1, 0)
        gap = np.abs(sums[..., :BINS]).sum(axis=-1)
        return {"ece": gap / total, "brier": brier / total, "nll": nll / total}

    table = np.column_stack([gaps, squares, logarithms, np.ones(len(truth))])
    strata = intervals.class_strata(truth, groups)
    limited = bootstrap.score(table[:, None], groups, statistic, strata)
    return limited | {"ece": limited["ece"].without_limits()}


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Temperature, in `RANGE`, that fits validation cases best (Guo et al. 2017, section 4.2)."""

    def loss(log_temperature: float) -> float:
        scaled = apply_temperature(probabilities, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(scaled[np.arange(len(truth)), truth], LEAST)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log(RANGE), method="bounded").x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities at another temperature: above 1 softer, below 1 sharper."""
    # A softmax's logits are the logarithms of its output up to a constant that cancels.
    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), LEAST))
    return softmax(logits / temperature, axis=1)


def fit_sigmoid(
    logits: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, float] | None:
    """Slope and intercept, on the scale of logits, that fit cases of one label best (Platt 1999).

    All are (n,), ``truth`` boolean. None where all cases agree, or where a higher probability does
    not go with the label.
    """
    from sklearn.linear_model import LogisticRegression

    if truth.all() or not truth.any():
        return None
    fitted = LogisticRegression(C=1e6).fit(logits[:, None], truth, weights)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return (slope, intercept) if slope > 0 else None


class Calibration(NamedTuple):
    """Platt's logistic calibration of one specialist (Platt 1999): slope x logit + offset."""

    slope: float = 1.0
    offset: float = 0.0
    is_fitted: bool = False  # else it changes nothing: validation lacked the manifestation

    def __call__(self, probability: np.ndarray) -> np.ndarray:
        """Calibrated probability in (0, 1) of a stored one, uint8."""
        return 1 / (1 + np.exp(-(self.slope * _logit(probability) + self.offset)))


def _logit(probability: np.ndarray) -> np.ndarray:
    share = np.clip(probability.astype(np.float32) / 255, EDGE, 1 - EDGE)
    return np.log(share / (1 - share))


def calibrate(truth: np.ndarray, probability: np.ndarray, seed: int = 0) -> Calibration:
    """Fit one specialist's calibration on validation slices, if it does not reverse the order.

    ``truth`` says whether a pixel shows the manifestation, bool (n, size, size); ``probability`` is
    the specialist's, uint8 of the same shape, 255 is certain.
    """
    flat, rng = truth.ravel(), np.random.default_rng(seed)
    chosen, weights = [], []
    for value in (False, True):
        there = np.flatnonzero(flat == value)
        taken = rng.choice(there, min(PIXELS, len(there)), replace=False)
        chosen.append(taken)
        weights.append(np.full(len(taken), len(there) / max(1, len(taken))))
    pixels = np.concatenate(chosen)
    logits = _logit(probability.ravel()[pixels])
    fitted = fit_sigmoid(logits, flat[pixels], np.concatenate(weights))
    return Calibration(*fitted, True) if fitted else Calibration()


def fuse(probability: dict[int, np.ndarray], threshold: float) -> np.ndarray:
    """One map of uint8 labels: in each pixel the label of the highest calibrated probability.

    A pixel whose highest probability is below the threshold is background.
    """
    labels = np.array([*probability], np.uint8)
    stacked = np.stack([*probability.values()])
    winner = np.where(stacked.max(axis=0) >= threshold, labels[stacked.argmax(axis=0)], 0)
    return winner.astype(np.uint8)
