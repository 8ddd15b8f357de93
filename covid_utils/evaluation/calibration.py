"""Calibration of probabilities: reliability, calibration error and temperature scaling.

Of the cases that a calibrated classifier gives 0.9, nine in ten are right. Everything here works on
the probabilities of a predictions file.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from covid_utils.errors import DataError
from covid_utils.evaluation import intervals

BINS = 10
#: Smallest probability whose logarithm is taken: float32 underflows below.
LEAST = 1e-12
#: Range of the temperatures that are tried.
RANGE = (0.1, 10.0)


def confidence(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability of the most probable class (n,), and whether it is the true one.

    Args:
        probabilities: (n, classes), rows that sum to 1.
        truth: int (n,), the true class.

    Raises:
        DataError: A row is no set of probabilities, or the lengths differ.
    """
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2 or len(truth) != len(probabilities):
        raise DataError(
            f"calibration: probabilities {probabilities.shape} and {len(truth)} truths; "
            "give one row of class probabilities for each case."
        )
    if (probabilities < 0).any() or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise DataError("calibration: a case's probabilities are negative or do not sum to 1.")
    if len(truth) and not 0 <= truth.min() <= truth.max() < probabilities.shape[1]:
        raise DataError(f"calibration: a truth is none of the {probabilities.shape[1]} classes.")
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == truth


def _bin(sure: np.ndarray) -> np.ndarray:
    """Number of the bin of each confidence; a bin includes its upper edge."""
    # Rounded, because 0.07 x 100 is a little above 7.
    return np.clip(np.ceil(np.round(sure * BINS, 9)).astype(int) - 1, 0, BINS - 1)


def reliability(probabilities: np.ndarray, truth: np.ndarray) -> pd.DataFrame:
    """Reliability diagram (DeGroot and Fienberg 1983) as a table.

    Args:
        probabilities: (n, classes).
        truth: int (n,).

    Returns:
        One row per bin with a case: ``low, high`` (its edges), ``n``, ``confidence`` (mean),
        ``accuracy``, and Wilson's limits of the accuracy, ``accuracy_low`` and ``accuracy_high``.
    """
    sure, right = confidence(probabilities, truth)
    at = _bin(sure)
    rows = []
    for index in np.unique(at):
        here = at == index
        share = intervals.wilson(int(right[here].sum()), int(here.sum()))
        edges = {"low": index / BINS, "high": (index + 1) / BINS, "n": share.n}
        limits = {"accuracy_low": share.low, "accuracy_high": share.high}
        rows.append(edges | {"confidence": sure[here].mean(), "accuracy": share.value} | limits)
    return pd.DataFrame(rows)


def scores(
    probabilities: np.ndarray, truth: np.ndarray, groups: np.ndarray
) -> dict[str, intervals.Interval]:
    """Calibration of a model, with intervals from a bootstrap of whole patients within classes.

    Args:
        probabilities: (n, classes).
        truth: int (n,).
        groups: Patient of each case (n,).

    Returns:
        ``ece``: expected calibration error (Naeini et al. 2015), the mean distance between
        confidence and accuracy over bins, in [0, 1]. It is never below 0 and so biased upwards, the
        more the fewer cases there are; resamples even more, so it has no limits (NaN).
        ``brier``: squared distance to the truth, in [0, 2]. ``nll``: mean negative logarithm of the
        probability of the true class.
    """
    probabilities = np.asarray(probabilities, np.float64)
    sure, right = confidence(probabilities, truth)
    cases = np.arange(len(truth))
    # Sums over cases: in each bin the confidence minus the hits; squares; logarithms; the number.
    table = np.zeros((len(truth), BINS + 3))
    table[cases, _bin(sure)] = sure - right
    table[:, -3] = ((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(axis=1)
    table[:, -2] = -np.log(np.maximum(probabilities[cases, truth], LEAST))
    table[:, -1] = 1

    def statistic(sums: np.ndarray) -> dict[str, np.ndarray]:
        gap, total = np.abs(sums[:, :BINS]).sum(axis=1), sums[:, -1]
        return {"ece": gap / total, "brier": sums[:, -3] / total, "nll": sums[:, -2] / total}

    strata = intervals.class_strata(truth, groups)
    limited = intervals.bootstrap(table, groups, statistic, strata=strata)
    return limited | {"ece": limited["ece"]._replace(low=np.nan, high=np.nan)}


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Temperature that makes the probabilities fit best (Guo et al. 2017, section 4.2).

    Args:
        probabilities: (n, classes) of validation cases, never of the test.
        truth: int (n,).

    Returns:
        Temperature in `RANGE`: above 1 where the model is overconfident.
    """
    from scipy.optimize import minimize_scalar

    if not len(truth):
        raise DataError("temperature: no validation case to fit it on.")

    def loss(log_temperature: float) -> float:
        scaled = apply_temperature(probabilities, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(scaled[np.arange(len(truth)), truth], LEAST)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log(RANGE), method="bounded").x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (n, classes) at another temperature: above 1 softer, below 1 sharper.

    A softmax's logits are the logarithms of its output up to a constant that cancels, so no logits
    need to be kept.
    """
    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), LEAST)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
